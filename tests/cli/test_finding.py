"""`resolve`, `ls`, `explain` and `watch`: what they print, and how they end."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from discovery.local.server import LocalECS
from tests.cli.programs import PROGRAM, background, environment, run, said_in_one_sentence


def source(static: Path) -> dict[str, str]:
    """An environment in which commands read the static file."""
    return {"ECS_DISCOVERY_SOURCE": f"file:{static}"}


def aws(ecs: LocalECS, **more: str) -> dict[str, str]:
    """An environment in which commands read the local ECS."""
    return {**ecs.environment(), "ECS_DISCOVERY_CLUSTER": "prod", **more}


def test_resolve_prints_a_table(static: Path) -> None:
    """One line for each endpoint under a head, without colours or frames in a pipe."""
    done = run("resolve", "web", env=source(static))
    lines = [line.split() for line in done.out.splitlines()]
    assert done.code == 0
    assert lines[0][:2] == ["HOST", "PORT"]
    assert [line[:2] for line in lines[1:]] == [["127.0.0.2", "49153"], ["127.0.0.3", "49154"]]
    assert "\x1b" not in done.out
    assert done.err == ""


def test_resolve_prints_json(static: Path) -> None:
    """The document of `/v1/endpoints`."""
    document = run("resolve", "_admin._tcp.two", "--json", env=source(static)).document
    assert document["name"] == "_admin._tcp.two"
    assert [(e["host"], e["port"]) for e in document["endpoints"]] == [("127.0.0.2", 49_156)]


def test_resolve_reads_ecs(ecs: LocalECS) -> None:
    """The endpoints are what the tasks' network bindings say."""
    document = run("resolve", "web", "--json", env=aws(ecs)).document
    assert len(document["endpoints"]) == 2
    assert {e["port_name"] for e in document["endpoints"]} == {"http"}
    assert {e["container_port"] for e in document["endpoints"]} == {80}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("resolve", "web"), 0),
        (("resolve", "idle"), 1),
        (("resolve", "wbe"), 2),
        (("explain", "web"), 0),
        (("explain", "idle"), 1),
        (("explain", "wbe"), 2),
        (("watch", "wbe"), 2),
        (("ls",), 0),
    ],
)
def test_exit_codes_tell_found_empty_and_unknown(
    ecs: LocalECS, words: tuple[str, ...], code: int
) -> None:
    """0 found, 1 known but no endpoint, 2 unknown name."""
    assert run(*words, env=aws(ecs)).code == code


@pytest.mark.parametrize("command", ["resolve", "explain", "watch"])
def test_an_unknown_port_is_unknown_everywhere(static: Path, command: str) -> None:
    """One sentence names the ports that there are."""
    done = run(command, "_nope._tcp.two", env=source(static))
    assert done.code == 2
    assert "; its ports: http._tcp, admin._tcp" in said_in_one_sentence(done)


def test_explain_takes_any_known_port_and_none(static: Path) -> None:
    """Every task is explained, so that several ports are no reason to ask for one."""
    for name in ("two", "_admin._tcp.two", "_80._tcp.two"):
        assert run("explain", name, env=source(static)).code == 0


def test_an_unknown_name_comes_with_close_matches(ecs: LocalECS) -> None:
    """One sentence names what may have been meant."""
    done = run("resolve", "wbe", env=aws(ecs))
    assert "close matches: web.prod" in said_in_one_sentence(done)
    assert done.out == ""


def test_errors_are_documents_with_json(ecs: LocalECS) -> None:
    """A machine reads the error from standard output, a person from standard error."""
    done = run("resolve", "wbe", "--json", env=aws(ecs))
    assert done.document["error"]["code"] == "unknown_service"
    assert done.document["error"]["message"] == said_in_one_sentence(done)


def test_an_empty_service_is_a_document_with_json(ecs: LocalECS) -> None:
    """Known and empty is no error document."""
    done = run("resolve", "idle", "--json", env=aws(ecs))
    assert (done.code, done.document["endpoints"]) == (1, [])


def test_ls_lists_every_service(ecs: LocalECS) -> None:
    """Services without a task are there, too."""
    table = [line.split() for line in run("ls", env=aws(ecs)).out.splitlines()]
    assert [row[:4] for row in table[1:]] == [
        ["idle", "prod", "service", "0"],
        ["web", "prod", "service", "2"],
    ]
    listed = run("ls", "--json", env=aws(ecs)).document["services"]
    assert [(s["name"], s["endpoints"]) for s in listed] == [("idle", 0), ("web", 2)]


def test_explain_says_why(ecs: LocalECS) -> None:
    """Each task has its verdict and reason, in the table and as JSON."""
    tasks = run("explain", "web", "--json", env=aws(ecs)).document["tasks"]
    assert [t["verdict"] for t in tasks] == ["kept", "kept"]
    table = run("explain", "web", env=aws(ecs)).out
    assert all(t["task_arn"].rpartition("/")[2] in table for t in tasks)
    assert "exists and has no task" in run("explain", "idle", env=aws(ecs)).err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_watch_prints_changes_until_it_is_interrupted(static: Path, number: int) -> None:
    """What goes and comes is a line each; an interrupt is its proper end."""
    with background("watch", "web", env=source(static)) as watching:
        watching.until("127.0.0.2:49153", "127.0.0.3:49154")
        static.write_text(static.read_text().replace("49154", "49999"))
        watching.until("-", "127.0.0.3:49999")
        done = watching.end(number)
    lines = [line.split()[1:4] for line in done.out.splitlines()]
    assert lines[2:] == [["-", "web", "127.0.0.3:49154"], ["+", "web", "127.0.0.3:49999"]]
    assert (done.code, done.err) == (0, "")


def test_watch_prints_a_document_a_line(static: Path) -> None:
    """With --json each change is one line with all endpoints."""
    with background("watch", "web", "--json", env=source(static)) as watching:
        watching.until("49154")
        static.write_text(static.read_text().replace("49154", "49999"))
        watching.until("49999")
        done = watching.end()
    documents = [json.loads(line) for line in done.out.splitlines()]
    assert [[e["port"] for e in d["endpoints"]] for d in documents] == [
        [49_153, 49_154],
        [49_153, 49_999],
    ]


def test_watch_says_what_fails_and_goes_on(static: Path) -> None:
    """A file that is broken meanwhile is said with its line, and what follows is seen."""
    with background("watch", "web", env=source(static)) as watching:
        watching.until("49154")
        static.write_text("[services.web\n")
        watching.until("line 1")
        static.write_text('[services.web]\nendpoints = [{host = "127.0.0.9", port = 9}]\n')
        watching.until("+ web", "127.0.0.9:9")
        assert watching.end().code == 0


def test_a_reader_that_goes_away_is_no_error(static: Path) -> None:
    """As `head` does."""
    command = [*PROGRAM, "ls"]
    with subprocess.Popen(
        command, env=environment(source(static)), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(30) == 0


def test_explain_says_what_dns_cannot_carry(static: Path) -> None:
    """A name with a dot, or too long for a label, is found here and not in DNS."""
    static.write_text('[services."a.b"]\nendpoints = [{host = "127.0.0.9", port = 9}]\n')
    done = run("explain", "a.b", env=source(static))
    assert done.code == 0
    assert "HTTP and Python only" in said_in_one_sentence(done)

"""Bad input and failure: one clear sentence each, the right exit code, never a traceback."""

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from discovery.local.server import LocalECS
from tests.cli.programs import PROGRAM, Done, environment, run, said_in_one_sentence

Environment = dict[str, str]
FREE = ("--dns", "127.0.0.1:0", "--http", "127.0.0.1:0")


def aws(ecs: LocalECS, without: tuple[str, ...] = (), **more: str) -> Environment:
    """An environment in which commands read the local ECS, but for some variables."""
    given = {**ecs.environment(), "ECS_DISCOVERY_CLUSTER": "prod", **more}
    return {name: value for name, value in given.items() if name not in without}


def denied(ecs: LocalECS) -> Environment:
    """No permission for one action."""
    ecs.faults.deny("ecs:ListTasks")
    return aws(ecs)


def expired(ecs: LocalECS) -> Environment:
    """Expired credentials."""
    ecs.faults.expire()
    return aws(ecs)


def throttled(ecs: LocalECS) -> Environment:
    """Every call is throttled."""
    ecs.faults.throttle()
    return aws(ecs)


def broken(ecs: LocalECS) -> Environment:
    """Every call fails."""
    ecs.faults.error(500)
    return aws(ecs)


FAILING: dict[str, tuple[Callable[[LocalECS], Environment], tuple[str, ...]]] = {
    "no credentials": (
        lambda ecs: aws(ecs, without=("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")),
        ("credentials",),
    ),
    "no region": (lambda ecs: aws(ecs, without=("AWS_REGION", "AWS_DEFAULT_REGION")), ("region",)),
    "no permission": (denied, ("ecs:ListTasks", "missing")),
    "expired": (expired, ("expired",)),
    "unknown cluster": (lambda ecs: aws(ecs, ECS_DISCOVERY_CLUSTER="prdo"), ("prdo", "us-east-1")),
    "unreachable": (
        lambda ecs: aws(ecs, AWS_ENDPOINT_URL="http://127.0.0.1:1"),
        ("http://127.0.0.1:1",),
    ),
    "throttled": (throttled, ("thrott",)),
    "server error": (broken, ("failed", "AWS")),
}


@pytest.mark.parametrize("case", FAILING)
@pytest.mark.parametrize("words", [("resolve", "web"), ("ls",)])
def test_a_failing_source_is_one_sentence(ecs: LocalECS, case: str, words: tuple[str, ...]) -> None:
    """Exit code 3, and the sentence names what is wrong."""
    make, texts = FAILING[case]
    done = run(*words, env=make(ecs))
    sentence = said_in_one_sentence(done)
    assert done.code == 3
    assert [text for text in texts if text.lower() not in sentence.lower()] == []


@pytest.mark.parametrize(
    ("words", "environment", "texts"),
    [
        (("resolve",), {}, ("argument 'NAME'", "resolve --help")),
        (("resolve", "a", "b"), {}, ("resolve --help",)),
        (("resolv", "web"), {}, ("no such command 'resolv'", "--help")),
        (("resolve", "--no-such"), {}, ("--no-such",)),
        (("ls",), {}, ("no cluster is named", "--cluster", "ECS_DISCOVERY_CLUSTER")),
        (("serve",), {}, ("no cluster is named",)),
        (("ls", "--cluster", "a b"), {}, ("clusters (flag)", "'a b'", "REGION/NAME")),
        (("ls", "--cluster", "a", "--cluster", "a"), {}, ("alias",)),
        (("ls", "--source", "ftp://x"), {}, ("ftp://x", "file:PATH")),
        (("resolve", "a b", "--cluster", "prod"), {}, ("'a b'",)),
        (("config", "--dns", "here:53"), {}, ("dns (flag)", "here:53", "ADDR:PORT")),
        (("config",), {"ECS_DISCOVERY_TTL": "soon"}, ("ttl (environment)", "'soon'")),
        (("config", "--config", "/nowhere.toml"), {}, ("/nowhere.toml", "No such file")),
        (("config",), {"ECS_DISCOVERY_CONFIG": "/nowhere.toml"}, ("ECS_DISCOVERY_CONFIG",)),
        (("local", "--listen", "10.0.0.1:80"), {}, ("--listen", "10.0.0.1", "127.0.0.0/8")),
        (("local", "--listen", "nonsense"), {}, ("--listen", "nonsense")),
        (("local", "--listen", "[::1]:80"), {}, ("'[::1]:80'", "want an address of 127.0.0.0/8")),
        (("local", "--listen", "127.0.0.1:0", "--cluster", "a!b"), {}, ("--cluster", "'a!b'")),
        (("demo", *FREE, "--listen", "nonsense"), {}, ("--listen", "nonsense")),
    ],
)
def test_wrong_usage_is_one_sentence(
    words: tuple[str, ...], environment: Environment, texts: tuple[str, ...]
) -> None:
    """Exit code 2, and the sentence names the mistake and the fix."""
    done = run(*words, env=environment)
    sentence = said_in_one_sentence(done)
    assert done.code == 2
    assert [text for text in texts if text not in sentence] == []


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("[services.web\n", ("line 1",)),
        ("[services.web]\nendpoints = 3\n", ("services.web.endpoints",)),
        (
            '[services.web]\nendpoints = [{host = "127.0.0.1", port = "x"}]\n',
            ("services.web.endpoints[0].port",),
        ),
        (
            '[services.web]\nendpoints = [{host = "example.org", port = 80}]\n',
            ("example.org", "IP address"),
        ),
    ],
)
def test_a_malformed_file_is_named_with_place_and_reason(
    tmp_path: Path, text: str, texts: tuple[str, ...]
) -> None:
    """Exit code 3; the sentence says which file, where in it, and what is wrong."""
    path = tmp_path / "services.toml"
    path.write_text(text)
    done = run("resolve", "web", "--source", f"file:{path}")
    sentence = said_in_one_sentence(done)
    assert done.code == 3
    assert [t for t in (str(path), *texts) if t not in sentence] == []


def test_an_unknown_setting_in_a_file_is_named(tmp_path: Path) -> None:
    """A typing mistake in the file is not passed over."""
    path = tmp_path / "discovery.toml"
    path.write_text('intervall = "5s"\n')
    done = run("config", "--config", str(path))
    assert done.code == 2
    assert f"file {path}: 'intervall'" in said_in_one_sentence(done)


def test_a_malformed_settings_file_is_named_with_its_line(tmp_path: Path) -> None:
    """The parser's place and reason are passed on."""
    path = tmp_path / "discovery.toml"
    path.write_text("[[clusters]\n")
    done = run("config", "--config", str(path))
    assert done.code == 2
    assert "line 1" in said_in_one_sentence(done)


def test_one_failing_cluster_does_not_hide_the_other(ecs: LocalECS) -> None:
    """The list has what could be read, and says what could not; the exit code tells."""
    done = run("ls", "--cluster", "prod", "--cluster", "nope", env=aws(ecs))
    assert done.code == 3
    assert "web" in done.out
    assert "nope" in said_in_one_sentence(done)


def test_a_mistake_of_ours_is_a_sentence_too() -> None:
    """Nobody is met with a traceback, but may ask for one."""
    program = (
        "import sys; from discovery import documents; documents.settings = None;"
        "from discovery.cli.main import main; sys.exit(main(['config', '--json']))"
    )
    command = [sys.executable, "-c", program]
    plain = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    done = Done(plain.returncode, plain.stdout, plain.stderr)
    assert done.code == 3
    assert "TypeError" in said_in_one_sentence(done)
    asked = environment({"ECS_DISCOVERY_DEBUG": "1"})
    traced = subprocess.run(command, env=asked, capture_output=True, text=True, check=False)
    assert "Traceback" in traced.stderr


@pytest.mark.parametrize("words", [("config",), ("config", "--json"), ("--help",)])
def test_a_full_disk_is_one_sentence(words: tuple[str, ...]) -> None:
    """Output that cannot be written is no mistake of ours, and no success."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*PROGRAM, *words],
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 3
    sentence = said_in_one_sentence(Done(done.returncode, "", done.stderr))
    assert sentence == "the output cannot be written: No space left on device"


def test_closed_output_is_no_error() -> None:
    """Who closes standard output wants none."""
    command = f"exec {shlex.join(PROGRAM)} config >&-"
    done = subprocess.run(
        ["sh", "-c", command], env=environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")

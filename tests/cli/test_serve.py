"""`serve`, `health` and `local` as processes: readiness, signals, failures while they run."""

import json
import shlex
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from discovery.cli.procfs import listening
from discovery.local.server import LocalECS
from tests.cli.conftest import client_of
from tests.cli.programs import (
    PROGRAM,
    Running,
    background,
    environment,
    run,
    said_in_one_sentence,
    wait_until_gone,
)

TIMEOUT_S = 30.0


class Served:
    """Where a sidecar listens, as its log says."""

    def __init__(self, running: Running) -> None:
        said = running.until("HTTP on http://", "is read")
        line = next(line for line in said.splitlines() if "HTTP on" in line)
        self.http = line.rpartition("http://")[2].strip()
        self.dns = line.partition("DNS on ")[2].partition(" ")[0]

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        """Status and body."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://{self.http}{path}", timeout=TIMEOUT_S) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def wait_until(self, path: str, text: str) -> dict[str, Any]:
        """The first body with that text, followed by blocking queries on the snapshot."""
        for _ in range(60):
            _, body = self.get(path)
            if text in json.dumps(body):
                return body
            self.get(f"/v1/snapshot?index={body.get('index', 0)}&wait=500ms")
        raise AssertionError(f"{text} never in {body}")


FLAGS = ("--dns", "127.0.0.1:0", "--http", "127.0.0.1:0", "--interval", "1s")


def serve(static: Path, *words: str) -> tuple[str, ...]:
    """The words of a sidecar that reads the static file."""
    return ("serve", *FLAGS, "--source", f"file:{static}", *words)


def test_health_asks_the_sidecar(static: Path) -> None:
    """0 while it is alive, 1 when nobody answers; with --ready also while it is not ready."""
    with background(*serve(static)) as running:
        served = Served(running)
        for written in (served.http, f"http://{served.http}"):
            assert run("health", "--http", written).code == 0
        assert run("health", "--ready", env={"ECS_DISCOVERY_HTTP": served.http}).code == 0
        assert running.end(signal.SIGINT).code == 0
    done = run("health", "--http", served.http)
    assert done.code == 1
    assert said_in_one_sentence(done).startswith(f"no sidecar answers at {served.http}")


@pytest.mark.parametrize(
    "address",
    ["a..b:80", "a b:80", f"{'a' * 70}.example:80", "127.0.0.1:0", "127.0.0.1:99999", ":80", "x"],
)
def test_health_takes_only_addresses(address: str) -> None:
    """What none can be is said in one sentence, and is not healthy."""
    done = run("health", "--http", address)
    assert done.code == 1
    assert "is no ADDR:PORT" in said_in_one_sentence(done)


@pytest.mark.parametrize("timeout", ["-1", "0", "nan", "inf", "1e9", "soon"])
def test_health_takes_only_times(timeout: str) -> None:
    """Usage, and no traceback."""
    done = run("health", "--timeout", timeout)
    assert done.code == 2
    assert f"'{timeout}' cannot be used, want a number of seconds" in done.err


def test_health_says_what_is_not_ready(tmp_path: Path) -> None:
    """The reason comes from the sidecar."""
    missing = tmp_path / "missing.toml"
    with background("serve", *FLAGS, "--source", f"file:{missing}") as running:
        said = running.until("HTTP on http://", "cannot be read")
        line = next(line for line in said.splitlines() if "HTTP on" in line)
        address = line.rpartition("http://")[2].strip()
        assert run("health", "--http", address).code == 0
        done = run("health", "--ready", "--http", address)
        assert done.code == 1
        assert "missing.toml" in said_in_one_sentence(done)
        assert running.end(signal.SIGINT).code == 0


def test_sigterm_is_not_ready_at_once_and_answers_on(static: Path) -> None:
    """Answers go on for the lame-duck time; then it ends with 0."""
    with background(*serve(static, "--lame-duck", "3s")) as running:
        served = Served(running)
        assert served.get("/ready")[0] == 200
        running.process.send_signal(signal.SIGTERM)
        running.until("stopping; answers go on for 3 s")
        assert served.get("/ready")[0] == 503
        assert served.get("/v1/endpoints/web")[0] == 200
        done = running.ended()
    assert done.code == 0
    assert "Traceback" not in done.err


def test_a_second_signal_ends_the_waiting(static: Path) -> None:
    """Whoever is in a hurry need not wait for the lame-duck time."""
    with background(*serve(static, "--lame-duck", "1h")) as running:
        Served(running)
        running.process.send_signal(signal.SIGTERM)
        running.until("stopping")
        assert running.end(signal.SIGTERM).code == 0


@pytest.mark.parametrize("flag", ["--dns", "--http"])
def test_a_taken_port_is_said(static: Path, flag: str) -> None:
    """One sentence with the address and the flag; exit code 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run(*serve(static, flag, address))
    assert done.code == 2
    sentence = said_in_one_sentence(done)
    assert address in sentence
    assert "in use" in sentence
    assert flag in sentence


def test_a_second_sidecar_does_not_steal_queries(static: Path) -> None:
    """Two on one address is an error of the second, over UDP alone as well."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        done = run(*serve(static, "--dns", f"127.0.0.1:{taken.getsockname()[1]}"))
    assert done.code == 2
    assert "in use" in said_in_one_sentence(done)


def test_a_malformed_file_keeps_the_last_good_one(static: Path) -> None:
    """Answers go on, the log has line and reason, and the repaired file is read."""
    with background(*serve(static)) as running:
        served = Served(running)
        good = static.read_text()
        static.write_text("[services.web\n")
        running.until("cannot be read", "line 1")
        assert served.get("/v1/endpoints/web")[0] == 200
        static.write_text(good.replace("49154", "49999"))
        served.wait_until("/v1/endpoints/web", "49999")
        assert running.end(signal.SIGINT).code == 0


def test_a_restart_answers_from_disk_while_ecs_is_silent(ecs: LocalECS, tmp_path: Path) -> None:
    """At once, also by names that only definitions give; nothing in the log is an accident."""
    words = ("serve", *FLAGS, "--cluster", "prod", "--cache", str(tmp_path / "cache"))
    with background(*words, env=ecs.environment()) as running:
        served = Served(running)
        served.wait_until("/v1/services", '"name": "http"')
        _, before = served.get("/v1/endpoints/_http._tcp.web")
        assert running.end(signal.SIGINT).code == 0
    ecs.faults.latency(3_600.0)
    with background(*words, env=ecs.environment()) as running:
        status, body = Served(running).get("/v1/endpoints/_http._tcp.web")
        done = running.end(signal.SIGINT)
    assert (status, body["endpoints"]) == (200, before["endpoints"])
    assert len(before["endpoints"]) == 2
    assert done.code == 0
    assert "not used" not in done.err


def test_a_source_that_fails_at_the_start_is_tried_again(tmp_path: Path, static: Path) -> None:
    """It serves as soon as there is something to serve."""
    late = tmp_path / "late.toml"
    with background("serve", *FLAGS, "--source", f"file:{late}") as running:
        running.until("cannot be read")
        late.write_text(static.read_text())
        served = Served(running)
        served.wait_until("/ready", '"ready": true')
        assert running.end(signal.SIGINT).code == 0


def test_what_is_known_is_served_while_ecs_fails(ecs: LocalECS) -> None:
    """Permissions that are taken away are said, and nothing known is lost."""
    with background("serve", *FLAGS, "--cluster", "prod", env=ecs.environment()) as running:
        served = Served(running)
        before = served.get("/v1/endpoints/web")[1]["endpoints"]
        ecs.faults.deny("ecs:*")
        running.until("cannot be read", "ecs:")
        status, body = served.get("/v1/endpoints/web")
        assert running.end(signal.SIGINT).code == 0
    assert (status, [e["port"] for e in body["endpoints"]]) == (200, [e["port"] for e in before])
    assert len(before) == 2


def test_local_prints_what_to_export() -> None:
    """The lines make the AWS SDK and our commands talk to it; it ends with 0."""
    with background("local", "--listen", "127.0.0.1:0", "--cluster", "a", "--instances", "1") as it:
        out = it.until("export ECS_DISCOVERY_CLUSTER=a")
        lines = [line.removeprefix("export ") for line in out.splitlines() if "export " in line]
        variables = dict(line.split("=", 1) for line in lines)
        assert run("ls", "--json", env=variables).document["services"] == []
        assert it.end().code == 0


def test_the_printed_lines_win_over_profiles_and_proxies() -> None:
    """In a shell that is set up for something else they lead to the local ECS all the same."""
    env = {
        "AWS_PROFILE": "nobody",
        "AWS_ENDPOINT_URL_ECS": "http://127.0.0.1:1",
        "http_proxy": "http://127.0.0.1:1",
        "no_proxy": "intranet.example",
        "NO_PROXY": "intranet.example",
    }
    with background("local", "--listen", "127.0.0.1:0", "--cluster", "a", env=env) as it:
        lines = it.until("export ECS_DISCOVERY_CLUSTER=a", "export no_proxy=").splitlines()
        shell = [
            *(ln for ln in lines if not ln.startswith("#")),
            f"{shlex.join(PROGRAM)} ls --json",
        ]
        done = subprocess.run(
            ["sh", "-ec", "\n".join(shell)],
            env=environment(env),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["services"] == []
    assert "export no_proxy=intranet.example,127.0.0.1" in lines


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_local_leaves_no_process_behind(number: int) -> None:
    """Whatever ends it ends its tasks."""
    words = ("--listen", "127.0.0.1:0", "--cluster", "a", "--instances", "1")
    with background("local", *words) as running:
        line = next(ln for ln in running.until("AWS_REGION").splitlines() if "URL=" in ln)
        client = client_of(line.rpartition("=")[2])
        client.register_task_definition(
            family="web",
            containerDefinitions=[
                {
                    "name": "web",
                    "image": "web",
                    "memory": 16,
                    "portMappings": [{"containerPort": 80}],
                }
            ],
        )
        arn = client.run_task(cluster="a", taskDefinition="web")["tasks"][0]["taskArn"]
        client.get_waiter("tasks_running").wait(cluster="a", tasks=[arn], WaiterConfig={"Delay": 1})
        task = client.describe_tasks(cluster="a", tasks=[arn])["tasks"][0]
        port = task["containers"][0]["networkBindings"][0]["hostPort"]
        pid = listening()["127.0.0.2", port]
        running.end(number)
    wait_until_gone(pid)


def test_a_task_serves_without_a_setting(ecs: LocalECS) -> None:
    """Run as a task, it finds cluster and region in the metadata and reads its own cluster."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        http = f"127.0.0.1:{free.getsockname()[1]}"
    ecs.add_cluster("own")
    ecs.add_instances("own", 1)
    client = client_of(ecs.url)
    client.register_task_definition(
        family="sidecar",
        networkMode="host",
        containerDefinitions=[
            {
                "name": "discovery",
                "image": "discovery",
                "memory": 128,
                "command": [*PROGRAM, "serve", *FLAGS, "--http", http, "--lame-duck", "0"],
            }
        ],
    )
    arn = client.run_task(cluster="own", taskDefinition="sidecar")["tasks"][0]["taskArn"]
    try:
        until = time.monotonic() + TIMEOUT_S
        while (last := run("health", "--ready", "--http", http)).code != 0:
            assert time.monotonic() < until, last.err
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{http}/v1/services", timeout=TIMEOUT_S) as answer:
            listed = json.load(answer)["services"]
        assert [(s["name"], s["cluster"], s["kind"]) for s in listed] == [
            ("sidecar", "own", "family")
        ]
    finally:
        client.stop_task(cluster="own", task=arn)
        client.get_waiter("tasks_stopped").wait(
            cluster="own", tasks=[arn], WaiterConfig={"Delay": 1}
        )

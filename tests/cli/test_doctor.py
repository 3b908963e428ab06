"""`doctor`: each red line is a real fault, and has its fix."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from discovery.cli.permissions import PERMISSIONS, Reading
from discovery.ecs.checkup import actions
from discovery.local.server import LocalECS
from discovery.settings import Settings
from tests.cli.conftest import client_of
from tests.cli.programs import Done, background, run
from tests.cli.test_serve import Served, serve


def examined(ecs: LocalECS, *words: str, **more: str) -> Done:
    """The report on cluster prod of the local ECS, for addresses that are free."""
    flags = ("--cluster", "prod", "--dns", "127.0.0.1:0", "--http", free_address())
    return run("doctor", *flags, "--json", *words, env=dict(ecs.environment()) | more)


def free_address() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as it:
        return f"127.0.0.1:{it.getsockname()[1]}"


def by_state(done: Done, *states: str) -> dict[str, Any]:
    """The findings in these states, by what was checked."""
    return {f["check"]: f for f in done.document["findings"] if f["state"] in states}


def test_all_is_well_on_a_cluster_that_may_be_read(ecs: LocalECS) -> None:
    """Every action that is needed was tried and is allowed."""
    done = examined(ecs)
    assert by_state(done, "failed", "warning") == {}
    assert done.code == 0
    allowed = {check.partition(": ")[2] for check in by_state(done, "ok") if ": ecs:" in check}
    assert "ecs:DescribeServiceRevisions" in allowed
    assert "cluster prod: credentials" in by_state(done, "ok")


def test_every_permission_can_be_tried() -> None:
    """A new one must come with its trial."""
    assert actions() == {permission.action for permission in PERMISSIONS}


UNASKED = {p.action for p in PERMISSIONS if not p.is_needed(Reading(Settings()))}


@pytest.mark.parametrize("action", sorted(actions() - UNASKED))
def test_a_denied_action_is_named_with_its_price_and_its_fix(ecs: LocalECS, action: str) -> None:
    """One at a time, and no other is blamed."""
    ecs.faults.deny(action)
    done = examined(ecs)
    red = by_state(done, "failed")
    assert done.code == 1
    assert f"cluster prod: {action}" in red
    assert set(red) <= {f"cluster prod: {action}", "cluster prod"}
    assert "without it" in red[f"cluster prod: {action}"]["detail"]
    assert "taskdef policy" in red[f"cluster prod: {action}"]["fix"]


@pytest.fixture
def queue(ecs: LocalECS) -> str:
    """The name of a queue that hears events."""
    session = boto3.session.Session("local", "local", region_name="us-east-1")
    client = session.client("sqs", endpoint_url=ecs.url)
    client.create_queue(QueueName="events")
    client.close()
    return "events"


def test_the_queue_of_events_is_tried(ecs: LocalECS, queue: str) -> None:
    """Finding it, receiving and deleting."""
    done = examined(ecs, "--events", queue)
    assert by_state(done, "failed", "warning") == {}
    tried = [check for check in by_state(done, "ok") if check.startswith("queue events: ")]
    assert len(tried) == 3


@pytest.mark.parametrize("action", ["sqs:GetQueueUrl", "sqs:ReceiveMessage", "sqs:DeleteMessage"])
def test_what_a_queue_does_not_allow_is_named(ecs: LocalECS, queue: str, action: str) -> None:
    """With its price and its fix."""
    ecs.faults.deny(action)
    (red,) = by_state(examined(ecs, "--events", queue), "failed").values()
    assert red["check"] == f"queue events: {action}"
    assert "without it" in red["detail"]
    assert "taskdef policy" in red["fix"]


def test_a_queue_that_is_not_there_is_said(ecs: LocalECS) -> None:
    """Nobody else is blamed, and nothing more is tried on it."""
    done = examined(ecs, "--events", "nowhere")
    (red,) = by_state(done, "failed").values()
    assert "does not exist" in red["detail"]
    assert "its name" in red["fix"]


def test_systems_manager_is_tried_where_tasks_run_outside_of_aws(ecs: LocalECS) -> None:
    """Others need no permission there."""
    action = "cluster edge: ssm:DescribeInstanceInformation"
    ecs.add_cluster("edge")
    ecs.add_instances("edge", 1, external=True, simulated=True)
    client = client_of(ecs.url)
    words = ("--cluster", "edge", "--dns", "127.0.0.1:0", "--http", free_address(), "--json")
    env = dict(ecs.environment())
    assert action not in by_state(run("doctor", *words, env=env), "ok")
    client.run_task(cluster="edge", taskDefinition="web", launchType="EXTERNAL")
    assert action in by_state(run("doctor", *words, env=env), "ok")
    ecs.faults.deny("ssm:DescribeInstanceInformation")
    red = by_state(run("doctor", *words, env=env), "failed")[action]
    assert "ECS Anywhere" in red["detail"]


def test_a_cluster_that_is_not_there_is_said(ecs: LocalECS) -> None:
    """And nothing more is tried on it."""
    flags = ("--dns", "127.0.0.1:0", "--http", free_address())
    env = dict(ecs.environment())
    done = run("doctor", "--cluster", "nope", *flags, "--json", env=env)
    assert done.code == 1
    assert set(by_state(done, "failed")) == {"cluster nope"}
    assert "'nope'" in by_state(done, "failed")["cluster nope"]["detail"]


def test_nobody_at_the_endpoint_is_said(ecs: LocalECS) -> None:
    """With where it was looked for."""
    done = examined(ecs, AWS_ENDPOINT_URL="http://127.0.0.1:1")
    (finding,) = by_state(done, "failed").values()
    assert "127.0.0.1:1" in finding["detail"]
    assert finding["fix"]


def test_without_a_cluster_there_is_nothing_to_look_at() -> None:
    """It says what to name."""
    done = run("doctor", "--json")
    assert done.code == 1
    assert "--cluster" in by_state(done, "failed")["settings"]["detail"]


def test_an_address_in_use_is_said(static: Path) -> None:
    """By whom is for another tool, which is named."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        flags = ("--dns", address, "--http", free_address())
        done = run("doctor", "--source", f"file:{static}", *flags, "--json")
    assert done.code == 1
    assert address in by_state(done, "failed")["DNS address"]["detail"]


def test_a_sidecar_that_runs_is_asked(static: Path) -> None:
    """Its addresses are in use, and that is well."""
    with background(*serve(static)) as running:
        http = Served(running).http
        done = run("doctor", "--source", f"file:{static}", "--http", http, "--json")
    assert done.code == 0
    assert by_state(done, "ok")["sidecar"]["detail"] == f"ready at {http}"


def test_what_a_running_sidecar_knows_is_asked(ecs: LocalECS) -> None:
    """How old it is, and what is left of its budget."""
    env = dict(ecs.environment())
    flags = ("--cluster", "prod", "--dns", "127.0.0.1:0", "--http", "127.0.0.1:0")
    with background("serve", *flags, env=env) as running:
        found = by_state(examined(ecs, "--http", Served(running).http), "ok")
    assert "2 services, 2 endpoints, read " in found["sidecar: cluster prod"]["detail"]
    assert "left" in found[f"sidecar: calls to {ecs.url}"]["detail"]


def test_a_sidecar_that_cannot_read_is_asked_why(static: Path) -> None:
    """What it knew goes on being served, which is a warning and no failure."""
    with background(*serve(static)) as running:
        served = Served(running)
        static.write_text("[services")
        served.wait_until("/v1/status", "line 1")
        done = run("doctor", "--source", f"file:{static}", "--http", served.http, "--json")
    warned = by_state(done, "warning")["sidecar: cluster default"]
    assert "line 1" in warned["detail"]
    assert warned["fix"]


@pytest.mark.parametrize(("token", "state"), [("right", "ok"), ("wrong", "failed")])
def test_a_token_is_sent_to_who_wants_one(static: Path, token: str, state: str) -> None:
    """And where it is another one, that is said."""
    with background(*serve(static), env={"ECS_DISCOVERY_HTTP_TOKEN": "right"}) as running:
        words = ("--source", f"file:{static}", "--http", Served(running).http, "--json")
        done = run("doctor", *words, "--http-token", token)
    check = "sidecar: cluster default" if token == "right" else "sidecar: status"
    assert by_state(done, state).keys() >= {check}
    assert token == "right" or "--http-token" in by_state(done, state)[check]["fix"]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Something that accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as it:
        yield it


def test_connecting_tells_refused_from_accepted(tmp_path: Path, listener: socket.socket) -> None:
    """Each endpoint by itself."""
    port = listener.getsockname()[1]
    file = tmp_path / "services.toml"
    file.write_text(
        "[services.web]\nendpoints = [\n"
        f'  {{host = "127.0.0.1", port = {port}}},\n  {{host = "127.0.0.1", port = 1}},\n]\n'
    )
    flags = ("--dns", "127.0.0.1:0", "--http", free_address(), "--connect", "web")
    done = run("doctor", "--source", f"file:{file}", *flags, "--json")
    assert done.code == 1
    assert f"connect web 127.0.0.1:{port}" in by_state(done, "ok")
    assert by_state(done, "failed")["connect web 127.0.0.1:1"]["detail"] == "refused"


def test_a_port_that_is_named_is_the_one_that_is_connected_to(static: Path) -> None:
    """Without one it is all of them."""
    flags = ("--dns", "127.0.0.1:0", "--http", free_address(), "--json")
    for name, count in (("two", 2), ("_admin._tcp.two", 1)):
        done = run("doctor", "--source", f"file:{static}", *flags, "--connect", name)
        tried = [f for f in done.document["findings"] if f["check"].startswith("connect ")]
        assert len(tried) == count


def test_another_source_is_read(static: Path) -> None:
    """AWS is not asked, but what is asked in its place."""
    flags = ("--dns", "127.0.0.1:0", "--http", free_address(), "--json")
    done = run("doctor", "--source", f"file:{static}", *flags)
    assert " services, read 0 s ago" in by_state(done, "ok")[f"source file:{static}"]["detail"]


def test_a_hub_that_wants_another_token_is_red(static: Path, ecs: LocalECS) -> None:
    """Also where a fallback would hide it."""
    with background(*serve(static, "--http-token", "right")) as running:
        hub = f"http://{Served(running).http}"
        done = examined(ecs, "--source", hub, "--hub-token", "wrong", "--fallback", "ecs")
    (red,) = by_state(done, "failed").values()
    assert red["check"] == f"source {hub}"
    assert "set hub_token to its http_token" in red["detail"]
    assert "--source" in red["fix"]


def test_connecting_tells_silence_and_says_where_to_look(tmp_path: Path) -> None:
    """A full backlog answers as little as a security group."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        file = tmp_path / "services.toml"
        file.write_text(
            f'[services.web]\nendpoints = [{{host = "{address[0]}", port = {address[1]}}}]\n'
        )
        held = [socket.create_connection(address)]
        try:
            flags = ("--dns", "127.0.0.1:0", "--http", free_address(), "--connect", "web")
            done = run("doctor", "--source", f"file:{file}", *flags, "--json")
        finally:
            for it in held:
                it.close()
    finding = by_state(done, "failed")[f"connect web 127.0.0.1:{address[1]}"]
    assert "timed out" in finding["detail"]
    assert "security group" in finding["fix"]


def test_times_that_ecs_does_not_wait_for_are_a_warning(static: Path) -> None:
    """Interval, TTL and the callers' own caches, against stopTimeout."""
    flags = ("--dns", "127.0.0.1:0", "--http", free_address(), "--client-cache", "30s")
    done = run("doctor", "--source", f"file:{static}", *flags, "--json")
    finding = by_state(done, "warning")["caches of callers"]
    assert "45 s" in finding["detail"]
    assert "stopTimeout" in finding["fix"]
    assert done.code == 0


def test_people_get_a_table_and_the_fixes(ecs: LocalECS) -> None:
    """Below it, one a line."""
    ecs.faults.deny("ecs:ListServices")
    flags = ("--cluster", "prod", "--dns", "127.0.0.1:0", "--http", free_address())
    done = run("doctor", *flags, env=dict(ecs.environment()))
    assert done.out.splitlines()[0].split() == ["CHECK", "STATE", "WHAT"]
    assert "failed: cluster prod: ecs:ListServices: add it to the task role" in done.out

"""Hosts and zones that vanish, agents that lose their connection, Spot interruptions."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from discovery.local.server import LocalECS
from tests.local.sandbox import Sandbox
from tests.local.strict import Api
from tests.local.waiting import define, described, run, settled, until


def where(api: Api, task: Any) -> tuple[str, int]:
    """Host and port of a bridge task."""
    arn = task["containerInstanceArn"]
    hosts = api.ecs("DescribeContainerInstances", cluster="demo", containerInstances=[arn])
    name = hosts["containerInstances"][0]["ec2InstanceId"]
    found = api.ec2("DescribeInstances", InstanceIds=[name])["Reservations"][0]["Instances"][0]
    port = task["containers"][0]["networkBindings"][0]["hostPort"]
    return found["PrivateIpAddress"], port


def silent(at: tuple[str, int]) -> bool:
    """Whether a connection attempt gets no answer at all."""
    try:
        socket.create_connection(at, 0.5).close()
    except TimeoutError:
        return True
    return False


def test_lost_zone_is_a_black_hole(ecs: LocalECS, api: Api) -> None:
    """Connecting times out, an open connection never answers, the API still says RUNNING."""
    define(api)
    task = settled(api, run(api))
    at = where(api, task)
    with socket.create_connection(at, 5) as open_before:
        ecs.lose_zone(task["availabilityZone"])
        assert silent(at)
        open_before.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        open_before.settimeout(0.5)
        with pytest.raises(TimeoutError):
            open_before.recv(1)
    assert described(api, task["taskArn"])["lastStatus"] == "RUNNING"


def test_program_of_one_s_own_is_silenced_too(ecs: LocalECS, api: Api) -> None:
    """Whatever its queue holds."""
    program = "import socketserver as s, os; S = s.ThreadingTCPServer; S.request_queue_size = 300;"
    program += " S.allow_reuse_address = True; at = os.environ['HOST'], int(os.environ['PORT']);"
    program += " S(at, s.BaseRequestHandler).serve_forever()"
    define(api, container={"command": ["python3", "-c", program]})
    task = settled(api, run(api))
    at = where(api, task)
    until(lambda: _accepts(at), 30)
    ecs.lose_host(task["containerInstanceArn"], silent=True)
    assert silent(at)


def _accepts(at: tuple[str, int]) -> bool:
    try:
        socket.create_connection(at, 5).close()
    except OSError:
        return False
    return True


def test_hook_cuts_off_instead() -> None:
    """It gets the addresses, and nothing is frozen."""
    cut: list[str] = []
    with LocalECS("127.0.0.1:0", throttle=False, silence=cut.extend) as ecs:
        ecs.add_cluster("demo")
        ecs.add_instances("demo", 1)
        api = Api(ecs)
        define(api)
        task = settled(api, run(api))
        at = where(api, task)
        ecs.lose_zone(task["availabilityZone"])
        assert cut == [at[0]]
        assert _accepts(at)


def test_zone_without_anything_is_an_error(ecs: LocalECS) -> None:
    """A typing error is said."""
    with pytest.raises(KeyError, match="nothing runs in the zone us-east-1x"):
        ecs.lose_zone("us-east-1x")


def test_lost_zone_is_given_up_and_replaced(sandbox: Sandbox) -> None:
    """After a while its tasks are STOPPED, and all run in the other zones."""
    sandbox.define()
    sandbox.service(desiredCount=6)
    sandbox.advance(10)
    sandbox.control().lose_zone("us-east-1a")
    sandbox.advance(20)
    assert len(sandbox.running()) == 6
    sandbox.advance(20)
    zones = {task["availabilityZone"] for task in sandbox.running()}
    assert (len(sandbox.running()), zones) == (6, {"us-east-1b", "us-east-1c"})


def test_disconnected_agent_leaves_tasks_running(sandbox: Sandbox) -> None:
    """And its host gets no more until it is connected again."""
    sandbox.define()
    sandbox.service(desiredCount=3)
    sandbox.advance()
    arn = sandbox.api("ListContainerInstances", cluster="demo")["containerInstanceArns"][0]
    sandbox.control().connect_agent(arn, False)
    sandbox.api("UpdateService", cluster="demo", service="web", desiredCount=9)
    sandbox.advance(100)
    assert len(sandbox.running(containerInstance=arn)) == 1
    assert len(sandbox.running()) == 9
    sandbox.control().connect_agent(arn, True)
    sandbox.api("UpdateService", cluster="demo", service="web", desiredCount=12)
    sandbox.advance()
    assert len(sandbox.running(containerInstance=arn)) == 4


def test_spot_instance_drains_and_is_gone(sandbox: Sandbox) -> None:
    """Services move away within the notice; what is left ends with the host."""
    sandbox.define()
    sandbox.service(desiredCount=3)
    alone = sandbox.run()
    sandbox.advance()
    arn = sandbox.task(alone)["containerInstanceArn"]
    sandbox.control().interrupt_spot(arn)
    sandbox.advance(2)
    draining = sandbox.api("ListContainerInstances", cluster="demo", status="DRAINING")
    assert draining["containerInstanceArns"] == [arn]
    assert [t["taskArn"] for t in sandbox.running(containerInstance=arn)] == [alone]
    sandbox.advance(11)
    assert arn not in str(sandbox.api("ListContainerInstances", cluster="demo"))
    assert sandbox.task(alone)["stopCode"] == "TerminationNotice"
    assert len(sandbox.running(serviceName="web")) == 3


def test_fargate_spot_task_is_stopped(sandbox: Sandbox) -> None:
    """`desiredStatus` at once, with the reason."""
    sandbox.define()
    arn = sandbox.run()
    sandbox.advance()
    sandbox.control().interrupt_spot(arn)
    task = sandbox.task(arn)
    assert (task["desiredStatus"], task["stopCode"]) == ("STOPPED", "SpotInterruption")
    assert task["stoppedReason"] == "Your Spot Task was interrupted."


def test_draining_hosts_are_emptied_within_the_minimum(sandbox: Sandbox) -> None:
    """With 100 % every replacement runs before a task goes."""
    sandbox.define()
    sandbox.service(desiredCount=6)
    sandbox.advance(10)
    arn = sandbox.api("ListContainerInstances", cluster="demo")["containerInstanceArns"][0]
    sandbox.api(
        "UpdateContainerInstancesState",
        cluster="demo",
        containerInstances=[arn],
        status="DRAINING",
    )
    least = 6
    for _ in range(200):
        sandbox.advance(0.01)
        least = min(least, len([t for t in sandbox.running() if t["desiredStatus"] == "RUNNING"]))
    assert least == 6
    assert sandbox.running(containerInstance=arn) == []

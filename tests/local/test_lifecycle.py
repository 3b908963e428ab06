"""The life of a task, step by step, on a fake clock."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from discovery.local.errors import ApiError
from discovery.local.state import Task
from tests.local.sandbox import Sandbox

VPC = {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}


def steps(sandbox: Sandbox) -> list[tuple[str, str]]:
    """From now on, every (lastStatus, desiredStatus) that a task is seen in."""
    seen: list[tuple[str, str]] = []
    world = sandbox.regions.at().world
    before = world.on_task

    def see(task: Task) -> None:
        before(task)
        if not seen or seen[-1] != (task.status, task.desired):
            seen.append((task.status, task.desired))

    world.on_task = see
    return seen


def test_bridge_task_goes_from_pending_to_running(sandbox: Sandbox) -> None:
    """A task without an interface starts PENDING."""
    sandbox.define()
    seen = steps(sandbox)
    sandbox.run()
    sandbox.advance()
    assert seen == [("PENDING", "RUNNING"), ("RUNNING", "RUNNING")]


def test_awsvpc_task_is_provisioned_and_deprovisioned(sandbox: Sandbox) -> None:
    """An interface is attached before and given back after."""
    sandbox.define(networkMode="awsvpc")
    seen = steps(sandbox)
    arn = sandbox.run(networkConfiguration=VPC)
    sandbox.advance()
    sandbox.api("StopTask", cluster="demo", task=arn)
    sandbox.advance()
    assert [status for status, _ in seen] == [
        "PROVISIONING",
        "PENDING",
        "RUNNING",
        "RUNNING",
        "STOPPING",
        "DEPROVISIONING",
        "STOPPED",
    ]


def test_registered_service_task_is_activated_and_deactivated(sandbox: Sandbox) -> None:
    """A service with a load balancer registers its tasks before they run."""
    sandbox.define()
    seen = steps(sandbox)
    balancer = {"targetGroupArn": "arn:tg", "containerName": "app", "containerPort": 80}
    sandbox.service(desiredCount=1, loadBalancers=[balancer])
    sandbox.advance()
    sandbox.api("UpdateService", cluster="demo", service="web", desiredCount=0)
    sandbox.advance()
    statuses = [status for status, _ in seen]
    assert statuses == ["PENDING", "ACTIVATING", "RUNNING", "DEACTIVATING", "STOPPING", "STOPPED"]


def test_desired_status_goes_first(sandbox: Sandbox) -> None:
    """StopTask answers a RUNNING task whose desired status is STOPPED."""
    sandbox.define()
    arn = sandbox.run()
    sandbox.advance()
    task = sandbox.api("StopTask", cluster="demo", task=arn, reason="tidy")["task"]
    assert (task["lastStatus"], task["desiredStatus"]) == ("RUNNING", "STOPPED")
    assert (task["stopCode"], task["stoppedReason"]) == ("UserInitiated", "tidy")


def test_version_grows_with_each_change(sandbox: Sandbox) -> None:
    """Every step has a greater version than the one before."""
    sandbox.define()
    versions = []
    world = sandbox.regions.at().world
    world.on_task = lambda task: versions.append(task.version)
    arn = sandbox.run()
    sandbox.advance()
    sandbox.api("StopTask", cluster="demo", task=arn)
    sandbox.advance()
    assert versions == sorted(set(versions))
    assert versions[0] == 1


def test_sigkill_follows_after_the_stop_timeout(sandbox: Sandbox) -> None:
    """A container that ignores SIGTERM is killed after its stopTimeout."""
    sandbox.define(container={"stopTimeout": 7})
    sandbox.launcher.stubborn = True
    arn = sandbox.run()
    sandbox.advance()
    sandbox.api("StopTask", cluster="demo", task=arn)
    sandbox.advance(6.9)
    assert [number for _, number in sandbox.launcher.signals] == [signal.SIGTERM]
    sandbox.advance(1)
    assert [number for _, number in sandbox.launcher.signals] == [signal.SIGTERM, signal.SIGKILL]
    assert sandbox.task(arn)["containers"][0]["exitCode"] == 137


def test_essential_container_ends_the_task(sandbox: Sandbox) -> None:
    """The task stops with the exit code of its essential container, and the others end too."""
    sandbox.define(containerDefinitions=[_container("app"), _container("side")])
    arn = sandbox.run()
    sandbox.advance()
    sandbox.launcher.exit(sandbox.launcher.alive(arn)[0], 3)
    sandbox.advance()
    task = sandbox.task(arn)
    assert task["stopCode"] == "EssentialContainerExited"
    assert task["stoppedReason"] == "Essential container in task exited"
    assert [each["exitCode"] for each in task["containers"]] == [3, 0]


def test_other_container_does_not_end_the_task(sandbox: Sandbox) -> None:
    """A container that is not essential may end alone."""
    sandbox.define(containerDefinitions=[_container("app"), _container("side", essential=False)])
    arn = sandbox.run()
    sandbox.advance()
    sandbox.launcher.exit(sandbox.launcher.alive(arn)[1], 0)
    sandbox.advance()
    task = sandbox.task(arn)
    assert [each["lastStatus"] for each in task["containers"]] == ["RUNNING", "STOPPED"]
    assert task["lastStatus"] == "RUNNING"


def test_restart_policy_restarts_in_place_on_another_port(sandbox: Sandbox) -> None:
    """The task goes on, and the container has a new host port."""
    sandbox.define(container={"restartPolicy": {"enabled": True}})
    arn = sandbox.run()
    sandbox.advance(31)
    before = sandbox.task(arn)
    sandbox.launcher.exit(sandbox.launcher.alive(arn)[0], 1)
    sandbox.advance()
    after = sandbox.task(arn)
    assert after["lastStatus"] == after["containers"][0]["lastStatus"] == "RUNNING"
    assert _host_port(after) != _host_port(before)
    assert after["version"] > before["version"]


@pytest.mark.parametrize(("ran_s", "status"), [(5.8, "STOPPED"), (6.2, "RUNNING")])
def test_container_that_ends_too_early_is_not_restarted(
    sandbox: Sandbox, ran_s: float, status: str
) -> None:
    """It must have run for `restartAttemptPeriod`, of which a tenth is waited here."""
    policy = {"enabled": True, "restartAttemptPeriod": 60}
    sandbox.define(container={"restartPolicy": policy})
    arn = sandbox.run()
    sandbox.advance(ran_s)
    sandbox.launcher.exit(sandbox.launcher.alive(arn)[0], 1)
    sandbox.advance()
    assert sandbox.task(arn)["lastStatus"] == status


@pytest.mark.parametrize("period_s", [0, 59, 1801, "60"])
def test_unreal_restart_period_is_refused(sandbox: Sandbox, period_s: object) -> None:
    """ECS takes 60 to 1800 seconds."""
    policy = {"enabled": True, "restartAttemptPeriod": period_s}
    with pytest.raises(ApiError, match="restartAttemptPeriod"):
        sandbox.define(container={"restartPolicy": policy})


def test_failed_start_is_told(sandbox: Sandbox) -> None:
    """A container that cannot be started makes TaskFailedToStart, and never a startedAt."""
    sandbox.define()
    sandbox.launcher.errors["app"] = "port is already allocated"
    arn = sandbox.run()
    sandbox.advance()
    task = sandbox.task(arn)
    assert (task["lastStatus"], task["stopCode"]) == ("STOPPED", "TaskFailedToStart")
    assert task["containers"][0]["reason"] == (
        "CannotStartContainerError: port is already allocated"
    )
    assert "startedAt" not in task


def test_task_stopped_before_it_ran_never_starts(sandbox: Sandbox) -> None:
    """A task that is stopped while PENDING goes to STOPPED without a process."""
    sandbox.define()
    arn = sandbox.run()
    sandbox.api("StopTask", cluster="demo", task=arn)
    sandbox.advance()
    assert sandbox.task(arn)["lastStatus"] == "STOPPED"
    assert not sandbox.launcher.signals


def test_stopped_task_stays_describable_for_an_hour(sandbox: Sandbox) -> None:
    """Then it is MISSING."""
    sandbox.define()
    arn = sandbox.run()
    sandbox.advance()
    sandbox.api("StopTask", cluster="demo", task=arn)
    sandbox.advance(3590)
    assert sandbox.task(arn)["lastStatus"] == "STOPPED"
    sandbox.advance(20)
    answer = sandbox.api("DescribeTasks", cluster="demo", tasks=[arn])
    assert answer == {"tasks": [], "failures": [{"arn": arn, "reason": "MISSING"}]}


def test_host_ports_are_free_again_after_the_task(sandbox: Sandbox) -> None:
    """A fixed port can be used by the next task."""
    sandbox.define(container={"portMappings": [{"containerPort": 80, "hostPort": 8081}]})
    arns = [sandbox.run() for _ in range(3)]
    assert sandbox.api("RunTask", cluster="demo", taskDefinition="web")["failures"]
    sandbox.advance()
    sandbox.api("StopTask", cluster="demo", task=arns[0])
    sandbox.advance()
    assert sandbox.run()


def test_container_waits_for_what_it_depends_on(sandbox: Sandbox) -> None:
    """`dependsOn` HEALTHY and SUCCESS: the task is PENDING until the last one has started."""
    check = {"command": ["CMD", "true"], "interval": 5}
    waits = [
        {"containerName": "db", "condition": "HEALTHY"},
        {"containerName": "init", "condition": "SUCCESS"},
    ]
    sandbox.define(
        containerDefinitions=[
            _container("app", dependsOn=waits),
            _container("db", healthCheck=check),
            _container("init", essential=False),
        ]
    )
    arn = sandbox.run()
    sandbox.advance()
    assert [_status(sandbox, arn, n) for n in range(3)] == ["PENDING", "RUNNING", "RUNNING"]
    for key in sandbox.launcher.alive(arn):
        if "-2/" in key or "/check/" in key:
            sandbox.launcher.exit(key, 0)
    assert sandbox.task(arn)["lastStatus"] == "RUNNING"
    assert [_status(sandbox, arn, n) for n in range(3)] == ["RUNNING", "RUNNING", "STOPPED"]


def test_failed_dependency_fails_the_task(sandbox: Sandbox) -> None:
    """Who waits for success and sees a failure never starts."""
    waits = [{"containerName": "init", "condition": "SUCCESS"}]
    app, init = _container("app", dependsOn=waits), _container("init", essential=False)
    sandbox.define(containerDefinitions=[app, init])
    arn = sandbox.run()
    sandbox.advance()
    sandbox.launcher.exit(sandbox.launcher.alive(arn)[0], 1)
    sandbox.advance()
    task = sandbox.task(arn)
    assert (task["lastStatus"], task["stopCode"]) == ("STOPPED", "TaskFailedToStart")


@pytest.mark.parametrize(
    "waits",
    [
        {"containerName": "nobody", "condition": "START"},
        {"containerName": "app", "condition": "START"},
        {"containerName": "side", "condition": "SOON"},
    ],
)
def test_impossible_dependencies_are_refused(sandbox: Sandbox, waits: dict[str, str]) -> None:
    """Unknown containers, unknown conditions and cycles."""
    containers = [_container("app", dependsOn=[waits]), _container("side")]
    with pytest.raises(ApiError) as refused:
        sandbox.define(containerDefinitions=containers)
    assert refused.value.code == "ClientException"


def _status(sandbox: Sandbox, arn: str, number: int) -> Any:
    return sandbox.task(arn)["containers"][number]["lastStatus"]


def test_environment_tells_where_to_listen(sandbox: Sandbox) -> None:
    """HOST and PORT name the host's address and the mapped port; the definition's own win."""
    sandbox.define(
        container={
            "portMappings": [{"containerPort": 80}, {"containerPort": 81}],
            "environment": [{"name": "COLOUR", "value": "red"}],
        }
    )
    arn = sandbox.run()
    sandbox.advance()
    bindings = sandbox.task(arn)["containers"][0]["networkBindings"]
    env = sandbox.launcher.programs[sandbox.launcher.alive(arn)[0]].env
    assert env["HOST"] == "127.0.0.2"
    assert env["PORT"] == env["PORT_80"] == str(bindings[0]["hostPort"])
    assert env["PORT_81"] == str(bindings[1]["hostPort"])
    assert env["COLOUR"] == "red"
    assert env["AWS_REGION"] == "us-east-1"


def test_override_changes_command_and_environment(sandbox: Sandbox) -> None:
    """RunTask's container overrides reach the process."""
    sandbox.define(container={"command": ["sleep", "1"]})
    override = {
        "name": "app",
        "command": ["sleep", "2"],
        "environment": [{"name": "A", "value": "b"}],
    }
    arn = sandbox.run(overrides={"containerOverrides": [override]})
    sandbox.advance()
    program = sandbox.launcher.programs[sandbox.launcher.alive(arn)[0]]
    assert program.argv == ["sleep", "2"]
    assert program.env["A"] == "b"


def test_command_unknown_to_this_machine_is_the_built_in_server(sandbox: Sandbox) -> None:
    """`nginx -g …` without nginx listens on the task's ports all the same."""
    sandbox.define(container={"command": ["no-such-program-here", "-g"]})
    arn = sandbox.run()
    sandbox.advance()
    program = sandbox.launcher.programs[sandbox.launcher.alive(arn)[0]]
    port = sandbox.task(arn)["containers"][0]["networkBindings"][0]["hostPort"]
    assert program.argv is None
    assert program.listen == [("127.0.0.2", port, "tcp")]


def test_late_bindings_come_after_running(sandbox: Sandbox) -> None:
    """With the fault on, a RUNNING task has no bindings for a while."""
    sandbox.define()
    sandbox.faults.late_bindings(5)
    arn = sandbox.run()
    sandbox.advance(1)
    assert sandbox.task(arn)["lastStatus"] == "RUNNING"
    assert sandbox.task(arn)["containers"][0]["networkBindings"] == []
    sandbox.advance(5)
    assert len(sandbox.task(arn)["containers"][0]["networkBindings"]) == 1


def _container(name: str, **members: Any) -> dict[str, Any]:
    return {"name": name, "image": "nginx", "memory": 16} | members


def _host_port(task: Any) -> Any:
    return task["containers"][0]["networkBindings"][0]["hostPort"]

"""Host ports and addresses that are soon used again, by other services."""

from __future__ import annotations

from random import Random

import pytest

from discovery.local.addresses import Addresses
from discovery.local.errors import ApiError
from discovery.local.instances import HostOptions
from discovery.local.server import LocalECS
from tests.local.sandbox import Sandbox
from tests.local.strict import Api
from tests.local.waiting import define, run, settled, until


def port(task: object) -> int:
    """The host port of a task of one port."""
    found: int = task["containers"][0]["networkBindings"][0]["hostPort"]  # type: ignore[index]
    return found


def test_two_host_ports_are_given_in_turn(sandbox: Sandbox) -> None:
    """The third task has the port of the first, and a third at the same time has none."""
    made = sandbox.control().add_instances("demo", host_ports=(40001, 40002))
    sandbox.define(container={"dockerLabels": {"local.simulated": "true"}})
    arns = [_start(sandbox, made[0]) for _ in range(2)]
    assert [port(sandbox.task(arn)) for arn in arns] == [40001, 40002]
    refused = sandbox.task(_start(sandbox, made[0]))
    assert (refused["lastStatus"], refused["stopCode"]) == ("STOPPED", "TaskFailedToStart")
    sandbox.api("StopTask", cluster="demo", task=arns[0])
    sandbox.advance()
    assert port(sandbox.task(_start(sandbox, made[0]))) == 40001


def _start(sandbox: Sandbox, instance: str) -> str:
    answer = sandbox.api(
        "StartTask", cluster="demo", taskDefinition="web", containerInstances=[instance]
    )
    sandbox.advance()
    return str(answer["tasks"][0]["taskArn"])


@pytest.mark.parametrize("given", [(0, 1), (5, 4), (1, 65536)])
def test_impossible_port_ranges_are_refused(given: tuple[int, int]) -> None:
    """First and last, both of them ports."""
    with pytest.raises(ValueError, match="host_ports"):
        HostOptions(host_ports=given)


@pytest.mark.parametrize("reuse", [True, False])
def test_address_is_used_again_at_once_where_wanted(reuse: bool) -> None:
    """Otherwise last of all."""
    addresses = Addresses(Random(1), reuse)
    try:
        first = addresses.interface()
        addresses.interface()
        addresses.release(first)
        assert (addresses.interface() == first) is reuse
    finally:
        addresses.close()


def test_next_awsvpc_task_has_the_address_of_the_last(api: Api) -> None:
    """Two services, one address, one after the other."""
    with LocalECS("127.0.0.1:0", throttle=False, reuse_addresses=True) as ecs:
        ecs.add_cluster("demo")
        ecs.add_instances("demo", 1)
        again = Api(ecs)
        ports = [{"containerPort": 20080}]
        subnets = {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}
        seen = []
        for family in ("one", "two"):
            define(again, family, networkMode="awsvpc", container={"portMappings": ports})
            arn = run(again, taskDefinition=family, networkConfiguration=subnets)
            task = settled(again, arn)
            seen.append(task["containers"][0]["networkInterfaces"][0]["privateIpv4Address"])
            again.ecs("StopTask", cluster="demo", task=arn)
            settled(again, arn, "STOPPED")
    assert seen[0] == seen[1]


def _protect(sandbox: Sandbox, *arns: str, enabled: bool = True, **request: int) -> object:
    return sandbox.api(
        "UpdateTaskProtection",
        cluster="demo",
        tasks=list(arns),
        protectionEnabled=enabled,
        **request,
    )


def test_protected_task_survives_scale_in(sandbox: Sandbox) -> None:
    """Until its protection is removed."""
    sandbox.define()
    sandbox.service(desiredCount=3)
    sandbox.advance()
    newest = sandbox.running()[-1]["taskArn"]
    _protect(sandbox, newest)
    sandbox.api("UpdateService", cluster="demo", service="web", desiredCount=1)
    sandbox.advance()
    assert [task["taskArn"] for task in sandbox.running()] == [newest]
    sandbox.api("UpdateService", cluster="demo", service="web", desiredCount=0)
    sandbox.advance()
    assert len(sandbox.running()) == 1
    _protect(sandbox, newest, enabled=False)
    sandbox.advance()
    assert sandbox.running() == []


def test_protected_task_of_an_old_revision_outlives_its_deployment(sandbox: Sandbox) -> None:
    """The deployment goes on without it and is finished when the protection has expired."""
    sandbox.define()
    sandbox.service(desiredCount=2)
    sandbox.advance()
    old = sandbox.running()[0]["taskArn"]
    _protect(sandbox, old, expiresInMinutes=1)
    sandbox.api("UpdateService", cluster="demo", service="web", forceNewDeployment=True)
    sandbox.advance(50)
    assert len(sandbox.running()) == 3
    assert old in [task["taskArn"] for task in sandbox.running()]
    assert sandbox.described()["deployments"][0]["rolloutState"] == "IN_PROGRESS"
    sandbox.advance(20)
    assert len(sandbox.running()) == 2
    assert sandbox.described()["deployments"][0]["rolloutState"] == "COMPLETED"


def test_only_service_tasks_are_protected(sandbox: Sandbox) -> None:
    """TASK_NOT_VALID for others, MISSING for unknown ones."""
    sandbox.define()
    alone = sandbox.run()
    missing = alone[:-32] + "0" * 32
    answer = sandbox.api("GetTaskProtection", cluster="demo", tasks=[alone, missing])
    assert [each["reason"] for each in answer["failures"]] == ["TASK_NOT_VALID", "MISSING"]
    with pytest.raises(ApiError, match="between 1 and 2880"):
        _protect(sandbox, alone, expiresInMinutes=2881)


def test_protection_is_the_api_s_own(api: Api) -> None:
    """Checked member by member against the service model."""
    define(api)
    api.ecs("CreateService", cluster="demo", serviceName="s", taskDefinition="web", desiredCount=1)
    (arn,) = until(lambda: api.ecs("ListTasks", cluster="demo", serviceName="s")["taskArns"], 30)
    wanted = {"cluster": "demo", "tasks": [arn]}
    answer = api.ecs("UpdateTaskProtection", **wanted, protectionEnabled=True)
    assert answer == api.ecs("GetTaskProtection", **wanted)
    (found,) = answer["protectedTasks"]
    assert (found["taskArn"], found["protectionEnabled"]) == (arn, True)


def test_restarted_container_has_another_port_in_the_same_task(sandbox: Sandbox) -> None:
    """Its load balancer learns the new one."""
    made = sandbox.control().add_instances("demo", host_ports=(40001, 40002))
    policy = {"enabled": True, "restartAttemptPeriod": 60}
    sandbox.define(container={"restartPolicy": policy})
    attribute = {"type": "memberOf", "expression": f"instanceId == {made[0].rsplit('/', 1)[-1]}"}
    balancer = {"targetGroupArn": "group", "containerName": "app", "containerPort": 80}
    sandbox.service(desiredCount=1, placementConstraints=[attribute], loadBalancers=[balancer])
    sandbox.advance(10)
    (task,) = sandbox.running()
    before = port(task)
    sandbox.launcher.exit(sandbox.launcher.alive(task["taskArn"])[0], 1)
    sandbox.advance(1)
    after = port(sandbox.task(task["taskArn"]))
    assert {before, after} == {40001, 40002}
    group = sandbox.regions.at().world.state.target_groups["group"]
    assert [target.port for target in group.targets.values()] == [after]

"""The service scheduler, on a fake clock."""

from __future__ import annotations

from typing import Any

import pytest

from discovery.local.errors import ApiError
from tests.local.sandbox import Sandbox


def test_service_reaches_its_desired_count(sandbox: Sandbox) -> None:
    """The deployment is COMPLETED and the service says so."""
    sandbox.define()
    sandbox.service(desiredCount=4)
    sandbox.advance()
    service = sandbox.described()
    assert (service["runningCount"], service["pendingCount"]) == (4, 0)
    assert [d["rolloutState"] for d in service["deployments"]] == ["COMPLETED"]
    assert service["events"][0]["message"] == "(service web) has reached a steady state."


def test_tasks_are_spread_over_zones_and_hosts(sandbox: Sandbox) -> None:
    """Six tasks on three hosts in three zones are two each."""
    sandbox.define()
    sandbox.service(desiredCount=6)
    sandbox.advance()
    zones = [task["availabilityZone"] for task in sandbox.running(serviceName="web")]
    assert sorted(zones) == [f"us-east-1{letter}" for letter in "aabbcc"]


def test_started_by_is_the_deployment(sandbox: Sandbox) -> None:
    """A service's task names its deployment and its group."""
    sandbox.define()
    sandbox.service()
    sandbox.advance()
    deployment = sandbox.described()["deployments"][0]["id"]
    tasks = sandbox.running(serviceName="web")
    assert {(t["startedBy"], t["group"]) for t in tasks} == {(deployment, "service:web")}


def test_dead_task_is_replaced(sandbox: Sandbox) -> None:
    """A task whose process ended is STOPPED and another runs."""
    sandbox.define()
    sandbox.service()
    sandbox.advance(10)
    dead = sandbox.running()[0]["taskArn"]
    sandbox.launcher.exit(sandbox.launcher.alive(dead)[0], 1)
    sandbox.advance(2)
    assert sandbox.task(dead)["lastStatus"] == "STOPPED"
    assert len(sandbox.running()) == 2


def test_rolling_update_never_goes_below_the_minimum(sandbox: Sandbox) -> None:
    """100 %/200 %: the new tasks run before the old ones go, PRIMARY and ACTIVE meanwhile."""
    sandbox.define()
    sandbox.service(desiredCount=3)
    sandbox.advance()
    sandbox.define()
    sandbox.api("UpdateService", cluster="demo", service="web", taskDefinition="web")
    running, statuses = _watched(sandbox)
    assert min(running) >= 3
    assert max(running) <= 6
    assert ("PRIMARY", "ACTIVE") in statuses
    assert {t["taskDefinitionArn"][-5:] for t in sandbox.running()} == {"web:2"}
    assert len(sandbox.described()["deployments"]) == 1


def test_rolling_update_within_the_maximum_stops_first(sandbox: Sandbox) -> None:
    """50 %/100 %: there is never more than the desired count."""
    sandbox.define()
    limits = {"minimumHealthyPercent": 50, "maximumPercent": 100}
    sandbox.service(desiredCount=4, deploymentConfiguration=limits)
    sandbox.advance()
    sandbox.api("UpdateService", cluster="demo", service="web", forceNewDeployment=True)
    running, _ = _watched(sandbox)
    assert min(running) >= 2
    assert max(running) <= 4
    assert sandbox.described()["deployments"][0]["rolloutState"] == "COMPLETED"


def _watched(sandbox: Sandbox) -> tuple[list[int], set[tuple[str, ...]]]:
    running, statuses = [], set()
    for _ in range(100):
        sandbox.advance(0.01)
        running.append(len(sandbox.running()))
        statuses.add(tuple(each["status"] for each in sandbox.described()["deployments"]))
    return running, statuses


def test_scaling_down_stops_the_newest(sandbox: Sandbox) -> None:
    """The scheduler stops what is too much, with its own stop code."""
    sandbox.define()
    sandbox.service(desiredCount=3)
    sandbox.advance()
    newest = sandbox.running()[-1]["taskArn"]
    sandbox.api("UpdateService", cluster="demo", service="web", desiredCount=2)
    sandbox.advance()
    task = sandbox.task(newest)
    assert (task["lastStatus"], task["stopCode"]) == ("STOPPED", "ServiceSchedulerInitiated")
    assert len(sandbox.running()) == 2


def test_daemon_runs_once_on_each_host(sandbox: Sandbox) -> None:
    """A new host gets its task too."""
    sandbox.define()
    sandbox.service(schedulingStrategy="DAEMON")
    sandbox.advance()
    sandbox.api("RegisterContainerInstance", cluster="demo")
    sandbox.advance()
    hosts = [task["containerInstanceArn"] for task in sandbox.running()]
    assert len(hosts) == len(set(hosts)) == 4
    assert sandbox.described()["desiredCount"] == 4


def test_daemon_update_replaces_every_task(sandbox: Sandbox) -> None:
    """A new deployment of a DAEMON ends with its tasks only."""
    sandbox.define()
    sandbox.service(schedulingStrategy="DAEMON")
    sandbox.advance()
    sandbox.define()
    sandbox.api("UpdateService", cluster="demo", service="web", taskDefinition="web:2")
    sandbox.advance()
    assert [t["taskDefinitionArn"][-5:] for t in sandbox.running()] == ["web:2"] * 3


def test_draining_host_loses_its_service_tasks(sandbox: Sandbox) -> None:
    """They are replaced elsewhere; standalone tasks stay."""
    sandbox.define()
    sandbox.service(desiredCount=3)
    sandbox.advance()
    alone = sandbox.run()
    sandbox.advance()
    host = sandbox.task(alone)["containerInstanceArn"]
    sandbox.api(
        "UpdateContainerInstancesState",
        cluster="demo",
        containerInstances=[host],
        status="DRAINING",
    )
    sandbox.advance()
    tasks = sandbox.running()
    assert [t["taskArn"] for t in tasks if t["containerInstanceArn"] == host] == [alone]
    assert len([t for t in tasks if t["group"] == "service:web"]) == 3


def test_unplaceable_service_says_why_and_tries_again(sandbox: Sandbox) -> None:
    """The event names the reason; room that appears later is used."""
    sandbox.define(container={"memory": 10_000})
    sandbox.service(desiredCount=4)
    sandbox.advance()
    assert sandbox.described()["runningCount"] == 3
    assert "has insufficient memory available" in sandbox.described()["events"][0]["message"]
    sandbox.api("RegisterContainerInstance", cluster="demo")
    sandbox.advance()
    assert sandbox.described()["runningCount"] == 4


def test_failing_starts_are_spaced_out(sandbox: Sandbox) -> None:
    """A task that never starts is not tried in a loop."""
    sandbox.define()
    sandbox.launcher.errors["app"] = "no"
    sandbox.service(desiredCount=1)
    sandbox.advance(20)
    assert 3 <= sandbox.described()["deployments"][0]["failedTasks"] <= 8


def test_crashing_daemon_is_spaced_out(sandbox: Sandbox) -> None:
    """A program that ends at once is started again after growing pauses, on every host."""
    sandbox.define()
    sandbox.service(schedulingStrategy="DAEMON")
    starts = 0
    for _ in range(200):
        sandbox.advance(0.1)
        for key in list(sandbox.launcher.programs):
            sandbox.launcher.exit(key, 1)
            starts += 1
    assert 9 <= starts <= 30


def test_circuit_breaker_fails_and_rolls_back(sandbox: Sandbox) -> None:
    """After three failures the deployment is FAILED and the former definition returns."""
    sandbox.define()
    breaker = {"deploymentCircuitBreaker": {"enable": True, "rollback": True}}
    sandbox.service(desiredCount=1, deploymentConfiguration=breaker)
    sandbox.advance()
    sandbox.define(containerDefinitions=[{"name": "bad", "image": "x", "memory": 8}])
    sandbox.launcher.errors["bad"] = "no"
    sandbox.api("UpdateService", cluster="demo", service="web", taskDefinition="web:2")
    sandbox.advance(60)
    service = sandbox.described()
    assert service["taskDefinition"].endswith("web:1")
    assert service["deployments"][0]["rolloutState"] == "COMPLETED"
    assert service["runningCount"] == 1
    assert any("deployment failed" in event["message"] for event in service["events"])


def test_unhealthy_task_is_replaced(sandbox: Sandbox) -> None:
    """A failed health check costs the task its life in a service."""
    check = {"command": ["CMD", "true"], "interval": 5, "retries": 2}
    sandbox.define(container={"healthCheck": check})
    sandbox.service(desiredCount=1)
    sandbox.advance(0.6)
    assert _finish_checks(sandbox, 0) == 1
    first = sandbox.running()[0]["taskArn"]
    assert sandbox.task(first)["healthStatus"] == "HEALTHY"
    for _ in range(2):
        sandbox.advance(0.5)
        assert _finish_checks(sandbox, 1) == 1
    sandbox.advance(0.7)
    assert sandbox.task(first)["stoppedReason"] == "Task failed container health checks"
    assert len(sandbox.running()) == 1


def _finish_checks(sandbox: Sandbox, code: int) -> int:
    keys = [each for each in sandbox.launcher.programs if "/check/" in each]
    for key in keys:
        sandbox.launcher.exit(key, code)
    return len(keys)


def _fail_checks(sandbox: Sandbox, seconds: int) -> None:
    """Let time pass in which every health check fails."""
    for _ in range(seconds * 10):
        sandbox.advance(0.1)
        _finish_checks(sandbox, 1)


CHECK = {"command": ["CMD", "false"], "interval": 5, "retries": 1}


def test_failing_health_checks_are_spaced_out_and_counted(sandbox: Sandbox) -> None:
    """Tasks that never become healthy are failed ones, and replaced after growing pauses."""
    sandbox.define(container={"healthCheck": CHECK})
    sandbox.service(desiredCount=1)
    _fail_checks(sandbox, 40)
    assert 4 <= sandbox.described()["deployments"][0]["failedTasks"] <= 8


def test_failing_health_checks_break_the_circuit(sandbox: Sandbox) -> None:
    """Three of them fail the deployment."""
    sandbox.define(container={"healthCheck": CHECK})
    breaker = {"deploymentCircuitBreaker": {"enable": True, "rollback": False}}
    sandbox.service(desiredCount=1, deploymentConfiguration=breaker)
    _fail_checks(sandbox, 20)
    deployment = sandbox.described()["deployments"][0]
    assert (deployment["rolloutState"], deployment["failedTasks"]) == ("FAILED", 3)


def test_health_checks_are_not_heeded_in_the_grace_period(sandbox: Sandbox) -> None:
    """An UNHEALTHY task stays for so long after its start, and goes then."""
    sandbox.define(container={"healthCheck": CHECK})
    sandbox.service(desiredCount=1, healthCheckGracePeriodSeconds=20)
    _fail_checks(sandbox, 19)
    (task,) = sandbox.running()
    assert task["healthStatus"] == "UNHEALTHY"
    _fail_checks(sandbox, 3)
    assert sandbox.task(task["taskArn"])["lastStatus"] == "STOPPED"


@pytest.mark.parametrize("strategy", [{"desiredCount": 1}, {"schedulingStrategy": "DAEMON"}])
def test_failed_deployment_starts_nothing_more(sandbox: Sandbox, strategy: Any) -> None:
    """Without a rollback the tasks of before stay, and no more are tried."""
    sandbox.define()
    breaker = {"deploymentCircuitBreaker": {"enable": True, "rollback": False}}
    sandbox.service(deploymentConfiguration=breaker, **strategy)
    sandbox.advance()
    before = len(sandbox.running())
    sandbox.define(containerDefinitions=[{"name": "bad", "image": "x", "memory": 8}])
    sandbox.launcher.errors["bad"] = "no"
    sandbox.api("UpdateService", cluster="demo", service="web", taskDefinition="web:2")
    sandbox.advance(60)
    failed = sandbox.described()["deployments"][0]
    assert failed["rolloutState"] == "FAILED"
    sandbox.advance(600)
    assert sandbox.described()["deployments"][0]["failedTasks"] == failed["failedTasks"]
    if "desiredCount" in strategy:
        assert len(sandbox.running()) == before


def test_deleted_service_drains_and_becomes_inactive(sandbox: Sandbox) -> None:
    """It stays describable as INACTIVE and leaves the list."""
    sandbox.define()
    sandbox.service()
    sandbox.advance()
    answer = sandbox.api("DeleteService", cluster="demo", service="web", force=True)
    assert answer["service"]["status"] == "DRAINING"
    sandbox.advance()
    assert sandbox.described()["status"] == "INACTIVE"
    assert sandbox.api("ListServices", cluster="demo")["serviceArns"] == []


def test_name_of_an_inactive_service_can_be_used_again(sandbox: Sandbox) -> None:
    """While it is ACTIVE it cannot."""
    sandbox.define()
    sandbox.service()
    with pytest.raises(ApiError, match="not idempotent"):
        sandbox.service()
    sandbox.api("DeleteService", cluster="demo", service="web", force=True)
    sandbox.advance()
    sandbox.service()
    sandbox.advance()
    assert sandbox.described()["runningCount"] == 2


def test_lost_host_keeps_tasks_running_for_a_while(sandbox: Sandbox) -> None:
    """Then they are STOPPED and replaced on the others."""
    sandbox.define()
    sandbox.service(desiredCount=3)
    sandbox.advance()
    world = sandbox.regions.at().world
    instance = next(iter(world.cluster("demo").instances.values()))
    sandbox.control().lose_host(instance.arn)
    sandbox.advance(20)
    assert len(sandbox.running(containerInstance=instance.arn)) == 1
    sandbox.advance(20)
    assert sandbox.running(containerInstance=instance.arn) == []
    assert len(sandbox.running()) == 3

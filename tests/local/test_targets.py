"""Target groups: their checks, and what ECS makes of them."""

from __future__ import annotations

from typing import Any

import pytest

from discovery.local.errors import ApiError
from discovery.local.server import LocalECS
from discovery.local.targets import FAILED, MISMATCH, TIMEOUT, Outcome, matches
from tests.local.sandbox import Sandbox
from tests.local.strict import Api, Refused
from tests.local.waiting import define, until

BALANCER = {"containerName": "app", "containerPort": 80}
LONG_S = 30.0


def group(sandbox: Sandbox, name: str = "web", **members: Any) -> str:
    """CreateTargetGroup of instances over HTTP; returns its ARN."""
    wanted = {"Name": name, "Protocol": "HTTP", "Port": 80} | members
    return str(sandbox.elb("CreateTargetGroup", **wanted)["TargetGroups"][0]["TargetGroupArn"])


def states(sandbox: Sandbox, arn: str) -> list[tuple[str, str | None]]:
    """State and reason of every target."""
    answer = sandbox.elb("DescribeTargetHealth", TargetGroupArn=arn)
    health = [each["TargetHealth"] for each in answer["TargetHealthDescriptions"]]
    return [(each["State"], each.get("Reason")) for each in health]


def balanced(sandbox: Sandbox, arn: str, **request: Any) -> None:
    """A service of one task behind the group."""
    sandbox.define()
    wanted: dict[str, Any] = {"desiredCount": 1}
    wanted["loadBalancers"] = [BALANCER | {"targetGroupArn": arn}]
    sandbox.service(**(wanted | request))


def fail(sandbox: Sandbox, outcome: Outcome) -> None:
    """From now on every check of every port comes to that."""
    sandbox.prober.always = outcome


def test_target_is_initial_until_its_first_check_passes(sandbox: Sandbox) -> None:
    """Registration first, then checks, then healthy without a reason."""
    arn = group(sandbox)
    fail(sandbox, Outcome(FAILED))
    balanced(sandbox, arn)
    sandbox.advance(0.06)
    assert states(sandbox, arn) == [("initial", "Elb.RegistrationInProgress")]
    sandbox.advance(0.1)
    assert states(sandbox, arn) == [("initial", "Elb.InitialHealthChecking")]
    fail(sandbox, Outcome())
    sandbox.advance(3)
    assert states(sandbox, arn) == [("healthy", None)]


@pytest.mark.parametrize("outcome", [Outcome(FAILED), Outcome(TIMEOUT), Outcome(MISMATCH, 503)])
def test_failed_checks_in_a_row_make_unhealthy(sandbox: Sandbox, outcome: Outcome) -> None:
    """As many as the threshold says; the reason is the check's."""
    arn = group(sandbox, UnhealthyThresholdCount=3)
    balanced(sandbox, arn, healthCheckGracePeriodSeconds=1000)
    sandbox.advance(1)
    fail(sandbox, outcome)
    sandbox.advance(6)
    assert states(sandbox, arn) == [("healthy", None)]
    sandbox.advance(3)
    assert states(sandbox, arn) == [("unhealthy", outcome.reason)]


def test_unhealthy_target_needs_the_healthy_threshold(sandbox: Sandbox) -> None:
    """One success is enough only at first."""
    arn = group(sandbox, HealthyThresholdCount=4)
    fail(sandbox, Outcome(FAILED))
    balanced(sandbox, arn, healthCheckGracePeriodSeconds=1000)
    sandbox.advance(7)
    assert states(sandbox, arn)[0][0] == "unhealthy"
    fail(sandbox, Outcome())
    sandbox.advance(9)
    assert states(sandbox, arn)[0][0] == "unhealthy"
    sandbox.advance(4)
    assert states(sandbox, arn) == [("healthy", None)]


def test_task_that_fails_its_load_balancer_is_replaced(sandbox: Sandbox) -> None:
    """After the grace period, with the group in the reason."""
    arn = group(sandbox)
    fail(sandbox, Outcome(FAILED))
    balanced(sandbox, arn, healthCheckGracePeriodSeconds=20)
    sandbox.advance(15)
    (task,) = sandbox.running()
    sandbox.advance(10)
    stopped = sandbox.task(task["taskArn"])
    assert stopped["stoppedReason"] == f"Task failed ELB health checks in (target-group {arn})"
    assert stopped["stopCode"] == "ServiceSchedulerInitiated"
    told = " ".join(each["message"] for each in sandbox.described()["events"])
    assert "is unhealthy in (target-group" in told


def test_target_drains_before_the_container_is_told(sandbox: Sandbox) -> None:
    """DEACTIVATING and draining for the deregistration delay, then SIGTERM."""
    arn = group(sandbox)
    balanced(sandbox, arn)
    sandbox.advance(2)
    (task,) = sandbox.running()
    sandbox.api("StopTask", cluster="demo", task=task["taskArn"])
    sandbox.advance(29)
    assert ("draining", "Target.DeregistrationInProgress") in states(sandbox, arn)
    assert sandbox.task(task["taskArn"])["lastStatus"] == "DEACTIVATING"
    assert sandbox.launcher.alive(task["taskArn"])
    sandbox.advance(2)
    assert sandbox.task(task["taskArn"])["lastStatus"] == "STOPPED"
    assert [state for state, _ in states(sandbox, arn)] == ["healthy"]


def test_deregistration_delay_can_be_set(sandbox: Sandbox) -> None:
    """It is an attribute of the group."""
    arn = group(sandbox)
    sandbox.elb(
        "ModifyTargetGroupAttributes",
        **{
            "TargetGroupArn": arn,
            "Attributes.member.1.Key": "deregistration_delay.timeout_seconds",
            "Attributes.member.1.Value": "0",
        },
    )
    balanced(sandbox, arn)
    sandbox.advance(2)
    (task,) = sandbox.running()
    sandbox.api("StopTask", cluster="demo", task=task["taskArn"])
    sandbox.advance(1)
    assert sandbox.task(task["taskArn"])["lastStatus"] == "STOPPED"


def test_deployment_waits_for_healthy_targets(sandbox: Sandbox) -> None:
    """The old tasks stay while the load balancer does not know the new ones as healthy."""
    arn = group(sandbox)
    balanced(sandbox, arn, healthCheckGracePeriodSeconds=1000)
    sandbox.advance(2)
    (old,) = sandbox.running()
    fail(sandbox, Outcome(FAILED))
    sandbox.api("UpdateService", cluster="demo", service="web", forceNewDeployment=True)
    sandbox.advance(2)
    assert len(sandbox.running()) == 2
    fail(sandbox, Outcome())
    sandbox.advance(60)
    (new,) = sandbox.running()
    assert new["taskArn"] != old["taskArn"]


def test_targets_in_a_closed_zone_are_unused(sandbox: Sandbox) -> None:
    """The zone is not enabled for the load balancer."""
    arn = group(sandbox)
    balanced(sandbox, arn, desiredCount=3)
    sandbox.advance(2)
    found = sandbox.regions.at().world.state.target_groups[arn]
    found.closed_zones = frozenset({"us-east-1a"})
    assert sorted(states(sandbox, arn), key=str) == [
        ("healthy", None),
        ("healthy", None),
        ("unused", "Target.NotInUse"),
    ]


def test_target_type_must_fit_the_network_mode(sandbox: Sandbox) -> None:
    """An `instance` group takes no awsvpc tasks."""
    arn = group(sandbox)
    sandbox.define(networkMode="awsvpc")
    with pytest.raises(ApiError, match="incompatible with the awsvpc network mode"):
        sandbox.service(
            loadBalancers=[BALANCER | {"targetGroupArn": arn}],
            networkConfiguration={"awsvpcConfiguration": {"subnets": ["subnet-1"]}},
        )


@pytest.mark.parametrize(
    ("matcher", "status", "passes"),
    [("200", 200, True), ("200", 204, False), ("200-299", 204, True), ("200,302", 302, True)],
)
def test_matcher_lists_and_ranges(matcher: str, status: int, passes: bool) -> None:
    """`200`, `200,302`, `200-299`."""
    assert matches(matcher, status) is passes


def _created(api: Api, **members: Any) -> str:
    wanted = {"Name": "web", "Protocol": "HTTP", "Port": 80} | members
    answer = api.call("elbv2", "CreateTargetGroup", **wanted)
    return str(answer["TargetGroups"][0]["TargetGroupArn"])


def _health(api: Api, arn: str, **params: Any) -> list[Any]:
    answer = api.call("elbv2", "DescribeTargetHealth", TargetGroupArn=arn, **params)
    found: list[Any] = answer["TargetHealthDescriptions"]
    return found


def test_checks_are_real_http_requests(ecs: LocalECS, api: Api) -> None:
    """The built-in server answers 200, so a matcher of 204 fails."""
    arn = _created(api, HealthCheckIntervalSeconds=5)
    define(api)
    api.ecs(
        "CreateService",
        cluster="demo",
        serviceName="web",
        taskDefinition="web",
        desiredCount=2,
        healthCheckGracePeriodSeconds=1000,
        loadBalancers=[BALANCER | {"targetGroupArn": arn}],
    )
    until(
        lambda: [e["TargetHealth"]["State"] for e in _health(api, arn)] == ["healthy"] * 2, LONG_S
    )
    api.call("elbv2", "ModifyTargetGroup", TargetGroupArn=arn, Matcher={"HttpCode": "204"})
    until(
        lambda: (
            [e["TargetHealth"].get("Description") for e in _health(api, arn)]
            == ["Health checks failed with these codes: [200]"] * 2
        ),
        LONG_S,
    )


def test_targets_are_registered_by_hand(ecs: LocalECS, api: Api) -> None:
    """An address where nobody listens is unhealthy; one never registered is unused."""
    arn = _created(api, TargetType="ip", Protocol="TCP", HealthCheckIntervalSeconds=10)
    target = {"Id": "127.0.0.2", "Port": 1}
    api.call("elbv2", "RegisterTargets", TargetGroupArn=arn, Targets=[target])
    until(lambda: _health(api, arn)[0]["TargetHealth"]["State"] == "unhealthy", LONG_S)
    (other,) = _health(api, arn, Targets=[{"Id": "127.0.0.9", "Port": 80}])
    assert other["TargetHealth"]["Reason"] == "Target.NotRegistered"
    api.call("elbv2", "DeregisterTargets", TargetGroupArn=arn, Targets=[target])
    assert _health(api, arn)[0]["TargetHealth"]["State"] == "draining"


@pytest.mark.parametrize(
    ("operation", "params", "code"),
    [
        ("DescribeTargetGroups", {"Names": ["nope"]}, "TargetGroupNotFound"),
        ("DescribeTargetGroups", {"TargetGroupArns": ["arn:nope"]}, "TargetGroupNotFound"),
        ("RegisterTargets", {"TargetGroupArn": "", "Targets": [{"Id": "i-1"}]}, "InvalidTarget"),
        ("CreateTargetGroup", {"Name": "web", "Protocol": "TCP", "Port": 1}, "Duplicate"),
        ("CreateTargetGroup", {"Name": "b", "Port": 1}, "ValidationError"),
        ("CreateTargetGroup", {"Name": "-b", "Protocol": "TCP", "Port": 1}, "ValidationError"),
        (
            "ModifyTargetGroup",
            {"TargetGroupArn": "", "HealthCheckTimeoutSeconds": 31},
            "ValidationError",
        ),
    ],
)
def test_elb_refuses_what_it_does_not_know(
    api: Api, operation: str, params: dict[str, Any], code: str
) -> None:
    """Each error has its type."""
    arn = _created(api)
    if params.get("TargetGroupArn") == "":
        params = params | {"TargetGroupArn": arn}
    with pytest.raises(Refused) as refused:
        api.call("elbv2", operation, **params)
    assert refused.value.code.startswith(code)


def test_groups_are_described_and_deleted(api: Api) -> None:
    """With their attributes, by name and by ARN."""
    arn = _created(api)
    by_name = api.call("elbv2", "DescribeTargetGroups", Names=["web"])["TargetGroups"]
    assert by_name == api.call("elbv2", "DescribeTargetGroups")["TargetGroups"]
    assert by_name[0]["HealthCheckPath"] == "/"
    found = api.call("elbv2", "DescribeTargetGroupAttributes", TargetGroupArn=arn)["Attributes"]
    assert {"Key": "deregistration_delay.timeout_seconds", "Value": "300"} in found
    api.call("elbv2", "DeleteTargetGroup", TargetGroupArn=arn)
    assert api.call("elbv2", "DescribeTargetGroups")["TargetGroups"] == []

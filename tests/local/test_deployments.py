"""Deployments that shift traffic: their stages, weights and rollback."""

from __future__ import annotations

from typing import Any

import pytest

from discovery.local.errors import ApiError
from discovery.local.releases import STAGES
from discovery.local.server import LocalECS
from tests.local.sandbox import Sandbox
from tests.local.strict import Api, Refused
from tests.local.waiting import define, until

WEB: dict[str, Any] = {"cluster": "demo", "service": "web"}


def shifting(sandbox: Sandbox, strategy: str = "BLUE_GREEN", **configuration: Any) -> None:
    """A service of that strategy whose second revision is just being deployed, held."""
    sandbox.define()
    wanted = {"strategy": strategy, **configuration}
    sandbox.service(deploymentConfiguration=wanted)
    sandbox.advance(60)
    assert release(sandbox)["status"] == "SUCCESSFUL"
    hold(sandbox)
    sandbox.define()
    sandbox.api("UpdateService", **WEB, taskDefinition="web:2")


def hold(sandbox: Sandbox, held: bool = True) -> None:
    """Stages go on by hand."""
    sandbox.control().hold_deployment("demo", "web", held)


def release(sandbox: Sandbox) -> Any:
    """The newest service deployment, described."""
    listed = sandbox.api("ListServiceDeployments", cluster="demo", service="web")
    arn = listed["serviceDeployments"][0]["serviceDeploymentArn"]
    answer = sandbox.api("DescribeServiceDeployments", serviceDeploymentArns=[arn])
    return answer["serviceDeployments"][0]


def weights(sandbox: Sandbox, member: str = "requestedProductionTrafficWeight") -> tuple[Any, Any]:
    """What the old revision and the new one get."""
    found = release(sandbox)
    (old,) = found["sourceServiceRevisions"]
    return old[member], found["targetServiceRevision"][member]


def reach(sandbox: Sandbox, stage: str) -> None:
    """Go on by hand until that stage."""
    while True:
        sandbox.advance(5)
        if release(sandbox)["lifecycleStage"] == stage:
            return
        assert sandbox.control().next_stage("demo", "web")["status"] == "IN_PROGRESS"


def walk(sandbox: Sandbox) -> list[tuple[str, float]]:
    """Every stage with every weight of the new revision, by hand until the clean-up."""
    seen: list[tuple[str, float]] = []
    while True:
        sandbox.advance(5)
        stage = release(sandbox).get("lifecycleStage")
        if not seen or seen[-1] != (stage, weights(sandbox)[1]):
            seen.append((stage, weights(sandbox)[1]))
        if stage == STAGES[-1]:
            return seen
        sandbox.control().next_stage("demo", "web")


def test_blue_green_goes_through_the_documented_stages(sandbox: Sandbox) -> None:
    """Production goes over at once."""
    shifting(sandbox)
    assert walk(sandbox) == [
        *((stage, 0.0) for stage in STAGES[1:6]),
        *((stage, 100.0) for stage in STAGES[6:]),
    ]
    assert release(sandbox)["status"] == "SUCCESSFUL"


@pytest.mark.parametrize(
    ("strategy", "configuration", "shares"),
    [
        ("CANARY", {"canaryConfiguration": {"canaryPercent": 20.0}}, [20.0, 100.0]),
        ("LINEAR", {"linearConfiguration": {"stepPercent": 40.0}}, [40.0, 80.0, 100.0]),
    ],
)
def test_production_shifts_in_steps(
    sandbox: Sandbox, strategy: str, configuration: dict[str, Any], shares: list[float]
) -> None:
    """The share of the new revision at every step; the old one has the rest."""
    shifting(sandbox, strategy, **configuration)
    seen = walk(sandbox)
    assert [share for stage, share in seen if stage == "PRODUCTION_TRAFFIC_SHIFT"] == shares
    assert sum(weights(sandbox)) == 100


def test_both_revisions_run_in_full_while_traffic_shifts(sandbox: Sandbox) -> None:
    """Their tasks carry the number of their revision; the old ones go at the clean-up."""
    shifting(sandbox)
    reach(sandbox, "BAKE_TIME")
    revisions = [each["arn"] for each in sandbox.described()["currentServiceRevisions"]]
    for arn in revisions:
        started_by = f"ecs-svc/{arn.rsplit('/', 1)[-1]}"
        assert len([t for t in sandbox.running() if t["startedBy"] == started_by]) == 2
    sandbox.control().next_stage("demo", "web")
    sandbox.advance(5)
    assert {t["taskDefinitionArn"][-5:] for t in sandbox.running()} == {"web:2"}
    assert len(sandbox.running()) == 2


def test_stages_go_on_by_themselves(sandbox: Sandbox) -> None:
    """Bake times are shortened by the pace."""
    sandbox.define()
    configuration = {"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 5}
    sandbox.service(deploymentConfiguration=configuration)
    sandbox.advance(60)
    sandbox.api("UpdateService", **WEB, forceNewDeployment=True)
    sandbox.advance(20)
    assert release(sandbox)["lifecycleStage"] == "BAKE_TIME"
    sandbox.advance(20)
    assert release(sandbox)["status"] == "SUCCESSFUL"


def test_test_traffic_goes_first(sandbox: Sandbox) -> None:
    """All of it, before any production traffic."""
    shifting(sandbox)
    reach(sandbox, "TEST_TRAFFIC_SHIFT")
    assert weights(sandbox, "requestedTestTrafficWeight") == (0.0, 100.0)
    assert weights(sandbox) == (100.0, 0.0)


def test_stopped_deployment_rolls_back(sandbox: Sandbox) -> None:
    """Traffic returns at once, the new tasks go, the old ones were never touched."""
    shifting(sandbox, "CANARY")
    before = {t["taskArn"] for t in sandbox.running()}
    reach(sandbox, "PRODUCTION_TRAFFIC_SHIFT")
    assert weights(sandbox) == (95.0, 5.0)
    arn = release(sandbox)["serviceDeploymentArn"]
    sandbox.api("StopServiceDeployment", serviceDeploymentArn=arn)
    assert release(sandbox)["status"] == "ROLLBACK_REQUESTED"
    sandbox.advance(0.05)
    assert weights(sandbox) == (100.0, 0.0)
    sandbox.advance(5)
    found = release(sandbox)
    assert found["status"] == "ROLLBACK_SUCCESSFUL"
    assert found["rollback"]["serviceRevisionArn"] == found["sourceServiceRevisions"][0]["arn"]
    assert {t["taskArn"] for t in sandbox.running()} == before
    assert [d["status"] for d in sandbox.described()["deployments"]] == ["PRIMARY"]


def test_finished_deployment_cannot_be_stopped(sandbox: Sandbox) -> None:
    """ConflictException; an unknown one is not found."""
    shifting(sandbox)
    walk(sandbox)
    arn = release(sandbox)["serviceDeploymentArn"]
    with pytest.raises(ApiError, match="ConflictException"):
        sandbox.api("StopServiceDeployment", serviceDeploymentArn=arn)
    with pytest.raises(ApiError, match="ServiceDeploymentNotFoundException"):
        sandbox.api("StopServiceDeployment", serviceDeploymentArn=arn + "x")


def test_pause_hook_waits_for_an_answer(sandbox: Sandbox) -> None:
    """The deployment stays in its stage until it is continued."""
    hook = {"targetType": "PAUSE", "lifecycleStages": ["POST_TEST_TRAFFIC_SHIFT"]}
    shifting(sandbox, lifecycleHooks=[hook])
    (first,) = release(sandbox)["sourceServiceRevisions"]
    hold(sandbox, held=False)
    sandbox.advance(30)
    found = release(sandbox)
    assert found["lifecycleStage"] == "POST_TEST_TRAFFIC_SHIFT"
    (paused,) = found["lifecycleHookDetails"]
    assert paused["status"] == "AWAITING_ACTION"
    sandbox.api(
        "ContinueServiceDeployment",
        serviceDeploymentArn=found["serviceDeploymentArn"],
        hookId=paused["hookId"],
    )
    sandbox.advance(30)
    assert release(sandbox)["status"] == "SUCCESSFUL"
    assert first["arn"] != release(sandbox)["targetServiceRevision"]["arn"]


def test_newer_deployment_stops_the_one_under_way(sandbox: Sandbox) -> None:
    """Both old revisions are sources, and are reconciled into the completed one first."""
    shifting(sandbox, "CANARY", canaryConfiguration={"canaryPercent": 30.0})
    reach(sandbox, "PRODUCTION_TRAFFIC_SHIFT")
    sandbox.api("UpdateService", **WEB, forceNewDeployment=True)
    found = release(sandbox)
    assert found["lifecycleStage"] == "RECONCILE_SERVICE"
    shares = [e["requestedProductionTrafficWeight"] for e in found["sourceServiceRevisions"]]
    assert sorted(shares) == [30.0, 70.0]
    statuses = [
        each["status"]
        for each in sandbox.api("ListServiceDeployments", **WEB)["serviceDeployments"]
    ]
    assert statuses == ["IN_PROGRESS", "STOPPED", "SUCCESSFUL"]
    hold(sandbox, held=False)
    sandbox.advance(200)
    assert release(sandbox)["status"] == "SUCCESSFUL"
    assert len(sandbox.running()) == 2


def test_revisions_alternate_between_two_target_groups(sandbox: Sandbox) -> None:
    """The green tasks are in the alternate one; the next revision's are in the first again."""
    sandbox.define()
    advanced = {"alternateTargetGroupArn": "green", "productionListenerRule": "rule"}
    balancer = {"targetGroupArn": "blue", "containerName": "app", "containerPort": 80}
    sandbox.service(
        deploymentConfiguration={"strategy": "BLUE_GREEN"},
        loadBalancers=[balancer | {"advancedConfiguration": advanced}],
    )
    seen = []
    for _ in range(3):
        sandbox.advance(60)
        groups = sandbox.regions.at().world.state.target_groups
        seen.append([arn for arn in ("blue", "green") if arn in groups and groups[arn].targets])
        sandbox.api("UpdateService", **WEB, forceNewDeployment=True)
    assert seen == [["blue"], ["green"], ["blue"]]


def test_failing_revision_rolls_back_by_the_circuit_breaker(sandbox: Sandbox) -> None:
    """Production traffic never leaves the old one."""
    breaker: Any = {"deploymentCircuitBreaker": {"enable": True, "rollback": True}}
    shifting(sandbox, **breaker)
    sandbox.launcher.errors["app"] = "no"
    hold(sandbox, held=False)
    sandbox.advance(200)
    assert release(sandbox)["status"] == "ROLLBACK_SUCCESSFUL"
    assert weights(sandbox) == (100.0, 0.0)
    assert {t["taskDefinitionArn"][-5:] for t in sandbox.running()} == {"web:1"}


def test_scaling_reaches_every_revision(sandbox: Sandbox) -> None:
    """Blue and green have the new desired count."""
    shifting(sandbox)
    reach(sandbox, "TEST_TRAFFIC_SHIFT")
    sandbox.api("UpdateService", **WEB, desiredCount=3)
    sandbox.advance(5)
    assert len(sandbox.running()) == 6


@pytest.mark.parametrize(
    "configuration",
    [
        {"strategy": "PURPLE"},
        {"strategy": "LINEAR", "linearConfiguration": {"stepPercent": 1.0}},
        {"strategy": "CANARY", "canaryConfiguration": {"canaryPercent": 101.0}},
    ],
)
def test_impossible_strategies_are_refused(sandbox: Sandbox, configuration: Any) -> None:
    """InvalidParameterException."""
    sandbox.define()
    with pytest.raises(ApiError, match="InvalidParameterException"):
        sandbox.service(deploymentConfiguration=configuration)


def test_rolling_deployments_are_service_deployments_too(sandbox: Sandbox) -> None:
    """Without stages and weights."""
    sandbox.define()
    sandbox.service()
    assert release(sandbox)["status"] == "IN_PROGRESS"
    sandbox.advance()
    found = release(sandbox)
    assert found["status"] == "SUCCESSFUL"
    assert "lifecycleStage" not in found
    assert "requestedProductionTrafficWeight" not in found["targetServiceRevision"]


def test_answers_are_the_api_s_own(ecs: LocalECS, api: Api) -> None:
    """Checked member by member against the service model, in every stage."""
    define(api)
    configuration = {"strategy": "CANARY", "bakeTimeInMinutes": 1}
    api.ecs(
        "CreateService",
        cluster="demo",
        serviceName="web",
        taskDefinition="web",
        desiredCount=1,
        deploymentConfiguration=configuration,
    )
    until(lambda: _latest(api)["status"] == "SUCCESSFUL", 60)
    ecs.hold_deployment("demo", "web")
    api.ecs("UpdateService", **WEB, forceNewDeployment=True)
    stages = set()
    while "BAKE_TIME" not in stages:
        stages.add(until(lambda: ecs.next_stage("demo", "web"), 30)["stage"])
        api.ecs("DescribeServices", cluster="demo", services=["web"])
        _latest(api)
    arns = [_latest(api)["targetServiceRevision"]["arn"]]
    revisions = api.ecs("DescribeServiceRevisions", serviceRevisionArns=[*arns, "arn:nothing"])
    assert revisions["serviceRevisions"][0]["taskDefinition"].endswith("web:1")
    assert revisions["failures"] == [{"arn": "arn:nothing", "reason": "MISSING"}]
    with pytest.raises(Refused, match="ServiceNotFoundException"):
        api.ecs("ListServiceDeployments", cluster="demo", service="nope")


def _latest(api: Api) -> Any:
    listed = api.ecs("ListServiceDeployments", **WEB)["serviceDeployments"]
    arns = [listed[0]["serviceDeploymentArn"]]
    answer = api.ecs("DescribeServiceDeployments", serviceDeploymentArns=arns)
    return answer["serviceDeployments"][0]

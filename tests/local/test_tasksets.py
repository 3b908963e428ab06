"""Task sets of CodeDeploy and external controllers."""

from __future__ import annotations

from typing import Any

import pytest

from discovery.local.errors import ApiError
from discovery.local.server import LocalECS
from tests.local.sandbox import Sandbox
from tests.local.strict import Api
from tests.local.waiting import define, until

WEB: dict[str, Any] = {"cluster": "demo", "service": "web"}
PERCENT = "PERCENT"


def external(sandbox: Sandbox, desired: int = 4) -> None:
    """A service that waits for task sets."""
    sandbox.define()
    sandbox.api(
        "CreateService",
        cluster="demo",
        serviceName="web",
        desiredCount=desired,
        deploymentController={"type": "EXTERNAL"},
    )


def add(sandbox: Sandbox, value: float, **request: Any) -> Any:
    """CreateTaskSet at that scale."""
    wanted = {"taskDefinition": "web", "scale": {"value": value, "unit": PERCENT}} | request
    return sandbox.api("CreateTaskSet", **WEB, **wanted)["taskSet"]


def running(sandbox: Sandbox, task_set: Any) -> int:
    """How many tasks of a task set run; `startedBy` is its id."""
    return len([t for t in sandbox.running() if t["startedBy"] == task_set["id"]])


def test_external_service_has_no_tasks_of_its_own(sandbox: Sandbox) -> None:
    """Neither deployments nor a definition."""
    external(sandbox)
    sandbox.advance()
    service = sandbox.described()
    assert service["taskSets"] == []
    assert not {"deployments", "taskDefinition"} & service.keys()
    assert sandbox.running() == []


def test_task_sets_keep_their_part_rounded_up(sandbox: Sandbox) -> None:
    """30 % of four tasks are two."""
    external(sandbox)
    first, second = add(sandbox, 100.0), add(sandbox, 30.0)
    sandbox.advance()
    assert (running(sandbox, first), running(sandbox, second)) == (4, 2)
    found = sandbox.api("DescribeTaskSets", **WEB)["taskSets"]
    assert [each["computedDesiredCount"] for each in found] == [4, 2]
    assert {each["stabilityStatus"] for each in found} == {"STEADY_STATE"}
    assert sandbox.described()["runningCount"] == 6


def test_scale_may_change(sandbox: Sandbox) -> None:
    """Up and down, and with the service's desired count."""
    external(sandbox)
    made = add(sandbox, 25.0)
    sandbox.advance()
    scale = {"value": 75.0, "unit": PERCENT}
    answer = sandbox.api("UpdateTaskSet", **WEB, taskSet=made["id"], scale=scale)
    assert answer["taskSet"]["stabilityStatus"] == "STABILIZING"
    sandbox.advance()
    assert running(sandbox, made) == 3
    sandbox.api("UpdateService", **WEB, desiredCount=8)
    sandbox.advance()
    assert running(sandbox, made) == 6


def test_one_task_set_is_primary(sandbox: Sandbox) -> None:
    """The one before it is ACTIVE again; the service shows the primary's definition."""
    external(sandbox)
    first, second = add(sandbox, 100.0), add(sandbox, 100.0)
    for made in (first, second):
        sandbox.api("UpdateServicePrimaryTaskSet", **WEB, primaryTaskSet=made["taskSetArn"])
    found = sandbox.described()
    assert [each["status"] for each in found["taskSets"]] == ["ACTIVE", "PRIMARY"]
    assert found["taskDefinition"].endswith("web:1")


def test_deleted_task_set_drains(sandbox: Sandbox) -> None:
    """Refused while it is scaled, unless it is forced; gone with its last task."""
    external(sandbox)
    made = add(sandbox, 100.0)
    sandbox.advance()
    with pytest.raises(ApiError, match="scaled above 0"):
        sandbox.api("DeleteTaskSet", **WEB, taskSet=made["id"])
    answer = sandbox.api("DeleteTaskSet", **WEB, taskSet=made["id"], force=True)
    assert answer["taskSet"]["status"] == "DRAINING"
    sandbox.advance()
    assert sandbox.api("DescribeTaskSets", **WEB)["taskSets"] == []
    assert sandbox.running() == []


def test_code_deploy_service_begins_with_a_primary_task_set(sandbox: Sandbox) -> None:
    """Blue stands at 100 %, green beside it, and the primary moves."""
    sandbox.define()
    sandbox.service(deploymentController={"type": "CODE_DEPLOY"})
    sandbox.advance()
    (blue,) = sandbox.described()["taskSets"]
    assert (blue["status"], blue["scale"]["value"], running(sandbox, blue)) == ("PRIMARY", 100, 2)
    green = add(sandbox, 100.0)
    sandbox.advance()
    assert running(sandbox, green) == running(sandbox, blue) == 2
    sandbox.api("UpdateServicePrimaryTaskSet", **WEB, primaryTaskSet=green["id"])
    assert [e["status"] for e in sandbox.described()["taskSets"]] == ["ACTIVE", "PRIMARY"]
    with pytest.raises(ApiError, match="Unable to update task definition"):
        sandbox.api("UpdateService", **WEB, taskDefinition="web:1")


@pytest.mark.parametrize(
    ("operation", "request_", "error"),
    [
        ("UpdateTaskSet", {"taskSet": "no", "scale": {"value": 1.0}}, "TaskSetNotFoundException"),
        ("CreateTaskSet", {"taskDefinition": "nope"}, "TaskDefinition not found"),
        (
            "CreateTaskSet",
            {"taskDefinition": "web", "scale": {"value": 101.0, "unit": PERCENT}},
            "between 0.0 and 100.0",
        ),
        ("DescribeTaskSets", {"service": "nope"}, "ServiceNotFoundException"),
    ],
)
def test_refusals_have_the_real_type(
    sandbox: Sandbox, operation: str, request_: Any, error: str
) -> None:
    """Unknown sets and services, impossible scales."""
    external(sandbox)
    with pytest.raises(ApiError, match=error):
        sandbox.api(operation, **(WEB | request_))


def test_rolling_service_has_no_task_sets(sandbox: Sandbox) -> None:
    """Its controller is ECS."""
    sandbox.define()
    sandbox.service()
    with pytest.raises(ApiError, match="external deployment controller"):
        add(sandbox, 100.0)


def test_answers_are_the_api_s_own(ecs: LocalECS, api: Api) -> None:
    """Checked member by member against the service model, with real processes."""
    define(api)
    controller = {"type": "EXTERNAL"}
    api.ecs(
        "CreateService",
        cluster="demo",
        serviceName="web",
        desiredCount=1,
        deploymentController=controller,
    )
    scale = {"value": 100.0, "unit": PERCENT}
    made = api.ecs("CreateTaskSet", **WEB, taskDefinition="web", scale=scale)["taskSet"]
    until(
        lambda: (
            api.ecs("DescribeTaskSets", **WEB, taskSets=[made["id"]])["taskSets"][0][
                "stabilityStatus"
            ]
            == "STEADY_STATE"
        ),
        30,
    )
    api.ecs("UpdateServicePrimaryTaskSet", **WEB, primaryTaskSet=made["id"])
    (service,) = api.ecs("DescribeServices", cluster="demo", services=["web"])["services"]
    assert service["taskSets"][0]["status"] == "PRIMARY"

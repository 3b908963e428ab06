"""What ECS refuses, in its own words where they are known."""

from __future__ import annotations

from typing import Any

import pytest

from discovery.local.errors import ApiError
from tests.local.sandbox import Sandbox
from tests.local.strict import Api, Refused

DAEMON = {"schedulingStrategy": "DAEMON"}
WEB = {"taskDefinition": "web", "cluster": "demo"}


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"desiredCount": 1}, "does not support a desired count for services. Remove the desired"),
        (
            {"placementStrategy": [{"type": "random"}]},
            "does not support placement strategies. Remove the placement strategy and try again",
        ),
        (
            {"capacityProviderStrategy": [{"capacityProvider": "ours"}]},
            "Specifying a capacity provider strategy is not supported when you create a service",
        ),
        ({"launchType": "FARGATE"}, "FARGATE"),
        ({"deploymentController": {"type": "EXTERNAL"}}, "EXTERNAL"),
    ],
)
def test_daemon_service_cannot_have_everything(
    sandbox: Sandbox, request_: dict[str, Any], words: str
) -> None:
    """Its number and its places are given by the hosts."""
    sandbox.define()
    with pytest.raises(ApiError, match=words) as refused:
        sandbox.service(**(DAEMON | request_))
    assert refused.value.code == "InvalidParameterException"


def test_group_of_a_service_is_the_scheduler_s(sandbox: Sandbox) -> None:
    """RunTask cannot pretend to be one."""
    sandbox.define()
    with pytest.raises(ApiError, match="Invalid namespace for group"):
        sandbox.run(group="service:web")


def test_started_by_has_a_length(sandbox: Sandbox) -> None:
    """128 characters."""
    sandbox.define()
    sandbox.run(startedBy="x" * 128)
    with pytest.raises(ApiError, match="InvalidParameterException: startedBy"):
        sandbox.run(startedBy="x" * 129)


def test_inactive_service_is_not_active(sandbox: Sandbox) -> None:
    """UpdateService says so, not that there never was one."""
    sandbox.define()
    sandbox.service()
    sandbox.advance()
    sandbox.api("DeleteService", cluster="demo", service="web", force=True)
    sandbox.advance()
    with pytest.raises(ApiError, match="ServiceNotActiveException: Service was not ACTIVE"):
        sandbox.api("UpdateService", cluster="demo", service="web", desiredCount=1)


@pytest.mark.parametrize("operation", ["ListTasks", "ListServices", "ListContainerInstances"])
def test_page_of_nothing_is_refused(sandbox: Sandbox, operation: str) -> None:
    """`maxResults` 0 is not the default."""
    with pytest.raises(ApiError, match="maxResults must be between 1 and 100"):
        sandbox.api(operation, cluster="demo", maxResults=0)


def test_definition_needs_an_essential_container(sandbox: Sandbox) -> None:
    """A task would have no end."""
    with pytest.raises(ApiError, match=r"ClientException: .*essential"):
        sandbox.define(container={"essential": False})


@pytest.mark.parametrize(
    "given", [{"interval": 4}, {"interval": 301}, {"timeout": 1}, {"retries": 11}]
)
def test_health_check_periods_have_ranges(sandbox: Sandbox, given: dict[str, int]) -> None:
    """The member and its range are named."""
    with pytest.raises(ApiError, match=f"{next(iter(given))} must be between"):
        sandbox.define(container={"healthCheck": {"command": ["CMD", "true"], **given}})


@pytest.mark.parametrize(("cpu", "memory"), [("512", "512"), ("300", "1024"), ("256", "4096")])
def test_fargate_sizes_are_those_of_the_table(sandbox: Sandbox, cpu: str, memory: str) -> None:
    """Other pairs have no configuration."""
    fargate: Any = {"networkMode": "awsvpc", "requiresCompatibilities": ["FARGATE"]}
    with pytest.raises(ApiError, match=f"given values: {cpu} CPU, {memory} memory"):
        sandbox.define(**fargate, cpu=cpu, memory=memory)
    sandbox.define(**fargate, cpu="0.5 vCPU", memory="2 GB")


def test_run_task_is_idempotent_by_its_token(sandbox: Sandbox) -> None:
    """The same tasks again; another request with the token is a conflict."""
    sandbox.define()
    first = sandbox.api("RunTask", **WEB, clientToken="t")
    again = sandbox.api("RunTask", **WEB, clientToken="t")
    assert [t["taskArn"] for t in first["tasks"]] == [t["taskArn"] for t in again["tasks"]]
    with pytest.raises(ApiError, match="ConflictException"):
        sandbox.api("RunTask", **WEB, clientToken="t", count=2)
    assert len(sandbox.api("ListTasks", cluster="demo")["taskArns"]) == 1


def test_create_service_is_idempotent_by_its_token(sandbox: Sandbox) -> None:
    """Without it a second one of that name is refused."""
    sandbox.define()
    made = sandbox.service(clientToken="t")
    assert sandbox.service(clientToken="t")["serviceArn"] == made["serviceArn"]
    with pytest.raises(ApiError, match="not idempotent"):
        sandbox.service(clientToken="u")


def test_queue_waits_at_most_twenty_seconds(api: Api) -> None:
    """InvalidParameterValue with the range."""
    url = api.call("sqs", "CreateQueue", QueueName="q")["QueueUrl"]
    with pytest.raises(Refused, match="Must be >= 0 and <= 20"):
        api.call("sqs", "ReceiveMessage", QueueUrl=url, WaitTimeSeconds=21)

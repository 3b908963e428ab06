"""Limits, errors, pages and placement of the ECS operations, each answer checked strictly."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import Any

import pytest

from discovery.local import region
from discovery.local.server import LocalECS
from tests.local.strict import Api, Refused, model
from tests.local.waiting import define, run, settled

NO_ARN = "arn:aws:ecs:us-east-1:123456789012:task/demo/" + "0" * 32


def pages(api: Api, operation: str, member: str, **params: Any) -> list[list[Any]]:
    """Every page of a list operation."""
    found = []
    token: dict[str, str] = {}
    while True:
        answer = api.ecs(operation, **params, **token)
        found.append(answer[member])
        if "nextToken" not in answer:
            return found
        token = {"nextToken": answer["nextToken"]}


@pytest.mark.parametrize(
    ("operation", "params", "code", "words"),
    [
        ("ListTasks", {"cluster": "nope"}, "ClusterNotFoundException", "Cluster not found."),
        ("DescribeTasks", {"tasks": [NO_ARN]}, "ClusterNotFoundException", "Cluster not found."),
        ("DescribeTasks", {"cluster": "demo", "tasks": []}, "InvalidParameterException", "empty"),
        (
            "DescribeTasks",
            {"cluster": "demo", "tasks": [NO_ARN] * 101},
            "InvalidParameterException",
            "100",
        ),
        (
            "DescribeServices",
            {"cluster": "demo", "services": ["a"] * 11},
            "InvalidParameterException",
            "10",
        ),
        (
            "DescribeContainerInstances",
            {"cluster": "demo", "containerInstances": ["a"] * 101},
            "InvalidParameterException",
            "100",
        ),
        ("DescribeClusters", {"clusters": ["a"] * 101}, "InvalidParameterException", "100"),
        (
            "ListTasks",
            {"cluster": "demo", "maxResults": 101},
            "InvalidParameterException",
            "maxResults",
        ),
        (
            "ListTasks",
            {"cluster": "demo", "nextToken": "bad"},
            "InvalidParameterException",
            "token",
        ),
        (
            "ListTasks",
            {"cluster": "demo", "startedBy": "me", "family": "web"},
            "InvalidParameterException",
            "startedBy",
        ),
        (
            "ListTasks",
            {"cluster": "demo", "serviceName": "nope"},
            "ServiceNotFoundException",
            "Service not found.",
        ),
        (
            "RunTask",
            {"cluster": "demo", "taskDefinition": "web", "count": 11},
            "InvalidParameterException",
            "10",
        ),
        (
            "RunTask",
            {"cluster": "demo", "taskDefinition": "nope"},
            "ClientException",
            "TaskDefinition not found.",
        ),
        (
            "DescribeTaskDefinition",
            {"taskDefinition": "nope"},
            "ClientException",
            "Unable to describe task definition.",
        ),
        (
            "StopTask",
            {"cluster": "demo", "task": NO_ARN},
            "InvalidParameterException",
            "not found",
        ),
        (
            "UpdateService",
            {"cluster": "demo", "service": "nope"},
            "ServiceNotFoundException",
            "Service not found.",
        ),
        (
            "DeleteCluster",
            {"cluster": "demo"},
            "ClusterContainsContainerInstancesException",
            "Container Instances",
        ),
    ],
)
def test_refusals_have_the_real_type(
    api: Api, operation: str, params: dict[str, Any], code: str, words: str
) -> None:
    """HTTP 400 with the error type of the real API."""
    define(api)
    with pytest.raises(Refused) as refused:
        api.ecs(operation, **params)
    assert (refused.value.code, refused.value.status) == (code, 400)
    assert words in refused.value.message


def test_empty_cluster_has_no_container_instances(ecs: LocalECS, api: Api) -> None:
    """RunTask on EC2 without any host is refused."""
    ecs.add_cluster("empty")
    define(api)
    with pytest.raises(Refused, match="No Container Instances were found in your cluster"):
        api.ecs("RunTask", cluster="empty", taskDefinition="web")


def test_unknown_operation_is_refused(ecs: LocalECS, api: Api) -> None:
    """What is not built is said, not answered."""
    with pytest.raises(Refused) as refused:
        api.ecs("ListAttributes", cluster="demo", targetType="container-instance")
    assert refused.value.code == "UnknownOperationException"


def test_malformed_request_is_a_client_error(ecs: LocalECS) -> None:
    """Bytes that are no JSON never make a 5xx."""
    connection = HTTPConnection(ecs.url.removeprefix("http://"), timeout=10)
    target = "AmazonEC2ContainerServiceV20141113.ListTasks"
    for body in (b"{", b"[]", b'{"cluster": 5}', b'{"maxResults": "x"}', b"\xff"):
        connection.request("POST", "/", body, {"X-Amz-Target": target})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 400
    connection.close()


@pytest.mark.parametrize("operation", sorted(region.OPERATIONS["ecs"]))
def test_no_request_makes_a_server_error(ecs: LocalECS, operation: str) -> None:
    """Members of a wrong type, one by one and all at once, are refused with 400 or ignored."""
    shape: Any = model("ecs").operation_model(operation).input_shape
    wrong = (5, "x", ["x"], [5], {"x": 1}, [{"name": 5}], True)
    bodies = [{name: value} for name in shape.members for value in wrong]
    bodies += [dict.fromkeys(shape.members, value) for value in wrong]
    bodies += [{"cluster": "demo"} | body for body in bodies if "cluster" not in body]
    connection = HTTPConnection(ecs.url.removeprefix("http://"), timeout=10)
    target = f"AmazonEC2ContainerServiceV20141113.{operation}"
    for body in bodies:
        connection.request("POST", "/", json.dumps(body), {"X-Amz-Target": target})
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status < 500, (body, content)
    connection.close()


def test_pages_hold_every_task_once(ecs: LocalECS, api: Api) -> None:
    """Small pages together are the whole list, whatever starts meanwhile."""
    ecs.populate("many", services=3, tasks=25, instances=2)
    found = pages(api, "ListTasks", "taskArns", cluster="many", maxResults=10)
    assert [len(each) for each in found] == [10, 10, 5]
    assert len({arn for each in found for arn in each}) == 25


def test_task_pages_hold_100_and_service_pages_10(ecs: LocalECS, api: Api) -> None:
    """The defaults differ, as in the real API."""
    ecs.populate("many", services=25, tasks=250, instances=2)
    tasks = pages(api, "ListTasks", "taskArns", cluster="many")
    services = pages(api, "ListServices", "serviceArns", cluster="many")
    assert [len(each) for each in tasks] == [100, 100, 50]
    assert [len(each) for each in services] == [10, 10, 5]
    assert len(pages(api, "ListServices", "serviceArns", cluster="many", maxResults=100)) == 1


def test_token_belongs_to_its_call(ecs: LocalECS, api: Api) -> None:
    """A token of another operation, other filters or another server is refused."""
    ecs.populate("many", services=2, tasks=20, instances=2)
    token = api.ecs("ListTasks", cluster="many", maxResults=5)["nextToken"]
    for operation, params in (
        ("ListServices", {"cluster": "many"}),
        ("ListTasks", {"cluster": "demo"}),
        ("ListTasks", {"cluster": "many", "family": "svc-0"}),
    ):
        with pytest.raises(Refused, match="token"):
            api.ecs(operation, nextToken=token, **params)
    changed = token[:-6] + "AAAAAA"
    with pytest.raises(Refused, match="token"):
        api.ecs("ListTasks", cluster="many", nextToken=changed)


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({}, 20),
        ({"serviceName": "svc-1"}, 10),
        ({"family": "svc-1"}, 10),
        ({"launchType": "EC2"}, 20),
        ({"launchType": "FARGATE"}, 0),
        ({"startedBy": "nobody"}, 0),
        ({"desiredStatus": "STOPPED"}, 0),
    ],
)
def test_task_filters(ecs: LocalECS, api: Api, filters: dict[str, str], count: int) -> None:
    """Each filter narrows the list."""
    ecs.populate("many", services=2, tasks=20, instances=4)
    assert len(api.ecs("ListTasks", cluster="many", **filters)["taskArns"]) == count


def test_instance_filter_lists_its_tasks(ecs: LocalECS, api: Api) -> None:
    """`containerInstance` takes an ARN or an id."""
    ecs.populate("many", services=2, tasks=20, instances=4)
    host = api.ecs("ListContainerInstances", cluster="many")["containerInstanceArns"][0]
    for named in (host, host.rsplit("/", 1)[-1]):
        assert len(api.ecs("ListTasks", cluster="many", containerInstance=named)["taskArns"]) == 5


def test_stopped_tasks_are_listed_when_asked_for(api: Api) -> None:
    """ListTasks shows what should run; STOPPED shows the others."""
    define(api)
    arn = run(api)
    settled(api, arn)
    api.ecs("StopTask", cluster="demo", task=arn)
    assert api.ecs("ListTasks", cluster="demo")["taskArns"] == []
    assert api.ecs("ListTasks", cluster="demo", desiredStatus="STOPPED")["taskArns"] == [arn]


def test_describe_keeps_the_order_and_names_what_is_missing(api: Api) -> None:
    """Tasks come as asked for; unknown ones are failures in a 200."""
    define(api)
    arns = [run(api), run(api)]
    answer = api.ecs("DescribeTasks", cluster="demo", tasks=[arns[1], NO_ARN, arns[0]])
    assert [task["taskArn"] for task in answer["tasks"]] == [arns[1], arns[0]]
    assert answer["failures"] == [{"arn": NO_ARN, "reason": "MISSING"}]


def test_tasks_of_another_cluster_are_missing(ecs: LocalECS, api: Api) -> None:
    """A wrong cluster looks exactly like tasks that are gone."""
    ecs.add_cluster("other")
    define(api)
    arn = run(api)
    answer = api.ecs("DescribeTasks", cluster="other", tasks=[arn])
    assert answer == {"tasks": [], "failures": [{"arn": arn, "reason": "MISSING"}]}


@pytest.mark.parametrize(
    ("container", "reason"),
    [
        ({"memory": 100_000}, "RESOURCE:MEMORY"),
        ({"cpu": 100_000}, "RESOURCE:CPU"),
        ({"portMappings": [{"containerPort": 80, "hostPort": 51678}]}, "RESOURCE:PORTS"),
    ],
)
def test_what_cannot_be_placed_is_a_failure_per_host(
    api: Api, container: dict[str, Any], reason: str
) -> None:
    """Reserved ports count as taken."""
    define(api, container=container)
    answer = api.ecs("RunTask", cluster="demo", taskDefinition="web")
    assert answer["tasks"] == []
    assert [each["reason"] for each in answer["failures"]] == [reason] * 3


def test_run_task_starts_what_fits(api: Api) -> None:
    """Three hosts take a fixed port three times; the rest is a failure."""
    define(api, container={"portMappings": [{"containerPort": 80, "hostPort": 18082}]})
    answer = api.ecs("RunTask", cluster="demo", taskDefinition="web", count=5)
    assert len(answer["tasks"]) == 3
    assert {each["reason"] for each in answer["failures"]} == {"RESOURCE:PORTS"}


def test_start_task_names_its_hosts(ecs: LocalECS, api: Api) -> None:
    """Unknown hosts are MISSING, lost ones AGENT, draining ones INACTIVE."""
    define(api)
    hosts = api.ecs("ListContainerInstances", cluster="demo")["containerInstanceArns"]
    ecs.lose_host(hosts[1])
    api.ecs(
        "UpdateContainerInstancesState",
        cluster="demo",
        containerInstances=hosts[2:],
        status="DRAINING",
    )
    answer = api.ecs(
        "StartTask", cluster="demo", taskDefinition="web", containerInstances=[*hosts, "f" * 32]
    )
    assert [task["containerInstanceArn"] for task in answer["tasks"]] == hosts[:1]
    assert [each["reason"] for each in answer["failures"]] == ["AGENT", "INACTIVE", "MISSING"]


@pytest.mark.parametrize(
    ("strategy", "constraints", "zones"),
    [
        ([], [], ["a", "b", "c"]),
        ([{"type": "binpack", "field": "memory"}], [], ["a", "a", "a"]),
        (
            [],
            [
                {
                    "type": "memberOf",
                    "expression": "attribute:ecs.availability-zone in [us-east-1b, us-east-1c]",
                }
            ],
            ["b", "b", "c"],
        ),
        (
            [],
            [
                {
                    "type": "memberOf",
                    "expression": "attribute:ecs.availability-zone == us-east-1c",
                }
            ],
            ["c", "c", "c"],
        ),
        ([], [{"type": "distinctInstance"}], ["a", "b", "c"]),
    ],
)
def test_placement_follows_strategy_and_constraints(
    api: Api, strategy: list[Any], constraints: list[Any], zones: list[str]
) -> None:
    """Spread is the default."""
    define(api)
    answer = api.ecs(
        "RunTask",
        cluster="demo",
        taskDefinition="web",
        count=3,
        placementStrategy=strategy,
        placementConstraints=constraints,
    )
    assert sorted(task["availabilityZone"][-1] for task in answer["tasks"]) == zones

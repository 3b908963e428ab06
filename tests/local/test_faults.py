"""Every fault does to a client what it says."""

from __future__ import annotations

import json
import time
from http.client import HTTPConnection
from typing import Any
from urllib.request import Request, urlopen

import pytest

from discovery.local.errors import ApiError
from discovery.local.server import LocalECS
from discovery.local.throttle import GROUPS, Throttle
from tests.local.strict import Api, Refused
from tests.local.waiting import define, described, run, settled


@pytest.mark.parametrize(
    ("service", "operation", "params", "code"),
    [
        ("ecs", "ListTasks", {"cluster": "demo"}, "AccessDeniedException"),
        ("ec2", "DescribeInstances", {}, "UnauthorizedOperation"),
        ("ssm", "DescribeInstanceInformation", {}, "AccessDeniedException"),
        ("sts", "GetCallerIdentity", {}, "AccessDenied"),
        ("sqs", "ListQueues", {}, "AccessDeniedException"),
    ],
)
def test_denied_action_is_named(
    ecs: LocalECS, api: Api, service: str, operation: str, params: dict[str, Any], code: str
) -> None:
    """The message says who may not do what."""
    with ecs.faults.deny(f"{service}:{operation}"):
        with pytest.raises(Refused) as refused:
            api.call(service, operation, **params)
        api.ecs("ListClusters")
    assert refused.value.code == code
    assert f"is not authorized to perform: {service}:{operation}" in refused.value.message
    api.call(service, operation, **params)


def test_one_role_may_be_denied(ecs: LocalECS, api: Api) -> None:
    """The others keep their permissions."""
    role = "arn:aws:iam::123456789012:role/reader"
    assumed = api.call("sts", "AssumeRole", RoleArn=role, RoleSessionName="test")
    reader = Api(ecs, key=assumed["Credentials"]["AccessKeyId"])
    ecs.faults.deny("ecs:ListTasks", principal="role/reader")
    api.ecs("ListTasks", cluster="demo")
    with pytest.raises(Refused, match="assumed-role/reader/test is not authorized"):
        reader.ecs("ListTasks", cluster="demo")


def test_role_may_want_an_external_id(ecs: LocalECS, api: Api) -> None:
    """Without it, or with another, it is not assumed."""
    role = "arn:aws:iam::123456789012:role/reader"
    ecs.add_role(role, "secret")
    for given in ({}, {"ExternalId": "wrong"}):
        with pytest.raises(Refused, match="sts:AssumeRole"):
            api.call("sts", "AssumeRole", RoleArn=role, RoleSessionName="test", **given)
    api.call("sts", "AssumeRole", RoleArn=role, RoleSessionName="test", ExternalId="secret")


def test_expired_credentials(ecs: LocalECS, api: Api) -> None:
    """ECS and EC2 word it differently."""
    with ecs.faults.expire():
        with pytest.raises(Refused) as refused:
            api.ecs("ListClusters")
        assert refused.value.code == "ExpiredTokenException"
        with pytest.raises(Refused) as refused:
            api.ec2("DescribeInstances")
        assert refused.value.code == "RequestExpired"


def test_throttle_as_often_as_told(ecs: LocalECS, api: Api) -> None:
    """Then the call works again."""
    ecs.faults.throttle("ListTasks", times=2)
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            api.ecs("ListTasks", cluster="demo")
        assert (refused.value.code, refused.value.message) == (
            "ThrottlingException",
            "Rate exceeded",
        )
    api.ecs("ListTasks", cluster="demo")
    assert ecs.calls["ListTasks"] == 3


def test_server_error_on_the_second_page_only(ecs: LocalECS, api: Api) -> None:
    """The first page works, so a client holds half an answer."""
    ecs.populate("many", services=1, tasks=150, instances=1)
    ecs.faults.error(503, "ListTasks", paged=True)
    token = api.ecs("ListTasks", cluster="many")["nextToken"]
    with pytest.raises(Refused) as refused:
        api.ecs("ListTasks", cluster="many", nextToken=token)
    assert refused.value.status == 503


def test_token_fails_midway(ecs: LocalECS, api: Api) -> None:
    """A good token is refused."""
    ecs.populate("many", services=1, tasks=150, instances=1)
    token = api.ecs("ListTasks", cluster="many")["nextToken"]
    with ecs.faults.bad_token(), pytest.raises(Refused, match="token"):
        api.ecs("ListTasks", cluster="many", nextToken=token)
    assert len(api.ecs("ListTasks", cluster="many", nextToken=token)["taskArns"]) == 50


def test_torn_answer_is_no_json(ecs: LocalECS, api: Api) -> None:
    """The answer ends in the middle."""
    ecs.faults.torn("ListTasks", times=1)
    status, _, body = api.raw("ecs", "ListTasks", {"cluster": "demo"})
    assert status == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


def test_stale_answers_repeat(ecs: LocalECS, api: Api) -> None:
    """What happened since the first answer is not seen."""
    define(api)
    with ecs.faults.stale(60, "ListTasks"):
        before = api.ecs("ListTasks", cluster="demo")
        run(api)
        assert api.ecs("ListTasks", cluster="demo") == before
    assert len(api.ecs("ListTasks", cluster="demo")["taskArns"]) == 1


def test_members_are_omitted(ecs: LocalECS, api: Api) -> None:
    """At any depth, and only where told."""
    define(api)
    arn = run(api)
    settled(api, arn)
    with ecs.faults.omit("group", "networkBindings", operation="DescribeTasks"):
        task = described(api, arn)
        assert "group" not in task
        assert "networkBindings" not in task["containers"][0]
    assert "group" in described(api, arn)


def test_missing_moves_to_failures(ecs: LocalECS, api: Api) -> None:
    """Named ARNs only, or all of them."""
    define(api)
    arns = [run(api), run(api)]
    with ecs.faults.missing(arns[0]):
        answer = api.ecs("DescribeTasks", cluster="demo", tasks=arns)
        assert [task["taskArn"] for task in answer["tasks"]] == arns[1:]
        assert answer["failures"] == [{"arn": arns[0], "reason": "MISSING"}]
    with ecs.faults.missing():
        assert api.ecs("DescribeTasks", cluster="demo", tasks=arns)["tasks"] == []


def test_latency_delays_the_answer(ecs: LocalECS, api: Api) -> None:
    """Other operations are not held up."""
    with ecs.faults.latency(0.3, "ListTasks"):
        start = time.monotonic()
        api.ecs("ListClusters")
        assert time.monotonic() - start < 0.3
        api.ecs("ListTasks", cluster="demo")
        assert time.monotonic() - start >= 0.3


def test_unknown_fault_names_those_there_are(ecs: LocalECS) -> None:
    """A typing error is said at once."""
    with pytest.raises(ValueError, match="throttle, latency"):
        ecs.faults.on("slow")


def test_calls_are_counted_and_reset(ecs: LocalECS, api: Api) -> None:
    """Refused calls count too."""
    ecs.calls.clear()
    api.ecs("ListClusters")
    with pytest.raises(Refused):
        api.ecs("ListTasks", cluster="nope")
    assert ecs.calls == {"ListClusters": 1, "ListTasks": 1}


def control(ecs: LocalECS, method: str, path: str, body: Any = None) -> Any:
    """A call of the control path."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} if data else {}
    request = Request(f"{ecs.url}/_local/{path}", data, headers, method=method)
    with urlopen(request, timeout=10) as answer:
        return json.load(answer)


def test_faults_are_switched_over_http(ecs: LocalECS, api: Api) -> None:
    """And can be read and cleared there."""
    control(ecs, "POST", "faults", {"kind": "throttle", "operation": "List*"})
    with pytest.raises(Refused):
        api.ecs("ListClusters")
    assert [each["kind"] for each in control(ecs, "GET", "faults")["faults"]] == ["throttle"]
    control(ecs, "DELETE", "faults")
    api.ecs("ListClusters")


def test_control_path_does_what_python_does(ecs: LocalECS, api: Api) -> None:
    """Instances, population, crashes, lost hosts and counts."""
    arns = control(ecs, "POST", "instances", {"cluster": "demo", "count": 2})["arns"]
    assert len(arns) == 2
    assert control(ecs, "POST", "populate", {"cluster": "many", "services": 2, "tasks": 4})
    define(api)
    arn = run(api)
    settled(api, arn)
    control(ecs, "POST", "kill-process", {"task": arn})
    settled(api, arn, "STOPPED")
    control(ecs, "POST", "lose-host", {"containerInstance": arns[0]})
    assert control(ecs, "GET", "calls")["calls"]["RunTask"] == 1
    clusters = [each["cluster"] for each in control(ecs, "GET", "")["clusters"]]
    assert clusters == ["demo", "many"]


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("_local/nothing", None, {}, 404),
        ("_local/faults", {"kind": "nope"}, {}, 400),
        ("_local/faults", {"kind": "latency"}, {}, 400),
        ("_local/faults", {"kind": "latency", "value": "1"}, {}, 400),
        ("_local/faults", {"kind": "stale", "value": -1}, {}, 400),
        ("_local/faults", {"kind": "late_bindings", "value": True}, {}, 400),
        ("_local/faults", {"kind": "error", "value": "abc"}, {}, 400),
        ("_local/faults", {"kind": "error", "value": 200}, {}, 400),
        ("_local/faults", {"kind": "omit", "value": 3}, {}, 400),
        ("_local/faults", {"kind": "missing", "value": [[]]}, {}, 400),
        ("_local/faults", {"kind": "throttle", "value": 1}, {}, 400),
        ("_local/faults", {"kind": "throttle", "times": "2"}, {}, 400),
        ("_local/faults", {"kind": "throttle", "times": 0}, {}, 400),
        ("_local/faults", {"kind": "throttle", "operation": 7}, {}, 400),
        ("_local/faults", {"kind": "throttle", "principal": 7}, {}, 400),
        ("_local/faults", {"kind": "throttle", "paged": "no"}, {}, 400),
        ("_local/faults", {"kind": "throttle", "colour": "red"}, {}, 400),
        ("_local/kill-process", {"task": "nope"}, {}, 400),
        ("_local/kill-process", {}, {}, 400),
        ("_local/calls", None, {"Host": "evil.example"}, 403),
        ("_local/faults", {"kind": "throttle"}, {"Content-Type": "text/plain"}, 415),
        ("v4/nothing/task", None, {}, 404),
    ],
)
def test_control_path_refuses_in_one_line(
    ecs: LocalECS, path: str, body: Any, headers: dict[str, str], status: int
) -> None:
    """Unknown paths, bad values, and pages of foreign web sites."""
    data = None if body is None else json.dumps(body).encode()
    given = {"Content-Type": "application/json"} | headers
    connection = HTTPConnection(ecs.url.removeprefix("http://"), timeout=10)
    connection.request("POST" if data else "GET", f"/{path}", data, given)
    answer = connection.getresponse()
    message = json.load(answer)["message"]
    connection.close()
    assert answer.status == status
    assert message
    assert not list(ecs.faults)


@pytest.mark.parametrize(
    ("operation", "burst"),
    [
        ("DescribeTasks", 100),
        ("ListContainerInstances", 100),
        ("DescribeServices", 100),
        ("DescribeTaskDefinition", 50),
        ("ListClusters", 50),
    ],
)
def test_buckets_are_the_documented_ones(operation: str, burst: float) -> None:
    """Burst and refill per group."""
    group = GROUPS[operation]
    assert (group.burst, group.rate_per_s) == (burst, 20)


def test_bucket_empties_and_refills() -> None:
    """Operations of a group share one bucket; owners and groups do not."""
    now = 0.0
    throttle = Throttle(lambda: now)
    for number in range(100):
        throttle.take("a", "ListTasks" if number % 2 else "DescribeTasks")
    with pytest.raises(ApiError, match="Rate exceeded"):
        throttle.take("a", "DescribeContainerInstances")
    throttle.take("b", "ListTasks")
    throttle.take("a", "ListServices")
    now = 1.0
    for _ in range(20):
        throttle.take("a", "ListTasks")
    with pytest.raises(ApiError, match="Rate exceeded"):
        throttle.take("a", "ListTasks")


def test_rate_limits_are_on_by_default() -> None:
    """The hundred-and-first DescribeTasks within a moment is throttled."""
    with LocalECS("127.0.0.1:0") as ecs:
        api = Api(ecs)
        api.ecs("CreateCluster", clusterName="demo")
        for _ in range(100):
            api.ecs("ListTasks", cluster="demo")
        assert "Rate exceeded" in {_outcome(api) for _ in range(100)}
        ecs.throttle.enabled = False
        api.ecs("ListTasks", cluster="demo")


def _outcome(api: Api) -> str:
    try:
        api.ecs("ListTasks", cluster="demo")
    except Refused as refused:
        return refused.message
    return "answered"

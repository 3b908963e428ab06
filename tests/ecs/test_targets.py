"""What load balancers say of targets, how it counts, and which calls it takes."""

from typing import Any

import pytest

from discovery.ecs.calls import TARGETS
from discovery.ecs.memory import Memory, Scope
from discovery.ecs.services import services_in
from discovery.ecs.targets import Target, TargetGroup, targets_in
from discovery.errors import AccessDenied, SourceError, SourceUnreachable
from discovery.model import ClusterReading
from tests.ecs.documents import (
    awsvpc_task,
    binding,
    checked,
    container,
    on_interface,
    service,
    services,
    task_arn,
)
from tests.ecs.fixed import SCOPE, FixedAws, by_name, fail_on, sizes, small_cluster

NOW = 1_000_000.0
GROUP = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/orders/1"
OTHER = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/orders/2"
DENIED = AccessDenied("elasticloadbalancing:DescribeTargetHealth")


def balanced(**states: str) -> FixedAws:
    """Service `orders` behind a target group, its tasks' targets in these states."""
    aws = small_cluster(orders=len(states))
    aws.services["orders"]["loadBalancers"] = [
        {"targetGroupArn": GROUP, "containerName": "app", "containerPort": 8080}
    ]
    aws.targets[GROUP] = {
        (machine(aws, n), 32_768 + n): state for n, state in enumerate(states.values(), 1)
    }
    return aws


def machine(aws: FixedAws, number: int) -> str:
    """The EC2 instance of a task."""
    instance = aws.tasks[task_arn(number)]["containerInstanceArn"]
    found: str = aws.instances[instance]["ec2InstanceId"]
    return found


def serving(found: ClusterReading) -> list[str | None]:
    """The tasks that serve `orders`."""
    return [e.task_arn for e in by_name(found)["orders"].endpoints]


@pytest.mark.parametrize(
    ("state", "serves"),
    [
        ("healthy", True),
        ("unused", True),
        ("unavailable", True),
        ("initial", False),
        ("unhealthy", False),
        ("draining", False),
        ("unhealthy.draining", False),
    ],
)
def test_what_its_load_balancer_leaves_out_is_out(state: str, serves: bool) -> None:
    """With the state and the load balancer's reason; without an opinion it stays in."""
    found = balanced(first="healthy", second=state).read(Memory(), NOW)
    assert serving(found) == [task_arn(1), task_arn(2)][: 1 + serves]
    reasons = [e.reason for e in by_name(found)["orders"].exclusions]
    assert reasons == ([] if serves else [f"its target is {state} (Elb.InitialHealthChecking)"])


def test_where_no_target_is_healthy_all_are_the_last_resort() -> None:
    """As load balancers do themselves, when nothing is healthy."""
    found = balanced(first="unhealthy", second="unhealthy").read(Memory(), NOW)
    endpoints = by_name(found)["orders"].endpoints
    assert [e.health for e in endpoints] == ["unhealthy", "unhealthy"]


def test_a_task_on_its_own_interface_is_a_target_by_address() -> None:
    """And by container port."""
    aws = balanced(first="healthy", second="healthy")
    app = container("app", networkInterfaces=on_interface("10.0.5.17"))
    arn = aws.tasks[task_arn(1)]["taskDefinitionArn"]
    aws.add_task(awsvpc_task(app, number=1, taskDefinitionArn=arn, startedBy="ecs-svc/orders"))
    aws.targets[GROUP][("10.0.5.17", 8080)] = "draining"
    assert serving(aws.read(Memory(), NOW)) == [task_arn(2)]


def test_other_ports_than_the_registered_one_are_not_judged_by_it() -> None:
    """The metrics port of a task is no target."""
    aws = balanced(first="unhealthy")
    aws.tasks[task_arn(1)]["containers"][0]["networkBindings"].append(binding(9090, 40_000))
    aws.targets[GROUP][machine(aws, 1), 40_000] = "unhealthy"
    found = by_name(aws.read(Memory(), NOW))["orders"].endpoints
    assert {e.container_port: e.health for e in found} == {8080: "unhealthy", 9090: "unknown"}


def test_a_target_that_serves_in_one_group_serves() -> None:
    """It may be registered with the next group and not have passed there yet."""
    aws = balanced(first="healthy", second="healthy")
    first = aws.services["orders"]["loadBalancers"][0]
    aws.services["orders"]["loadBalancers"].append({**first, "targetGroupArn": OTHER})
    aws.targets[OTHER] = {(machine(aws, 1), 32_769): "initial"}
    assert serving(aws.read(Memory(), NOW)) == [task_arn(1), task_arn(2)]


def test_it_is_read_with_each_read_and_believed_at_once() -> None:
    """One call for each target group; services without one cost none."""
    aws, memory = balanced(first="healthy", second="initial"), Memory()
    aws.add_service("users", 3, list(aws.instances))
    aws.read(memory, NOW)
    assert aws.groups[TARGETS] == 1
    aws.targets[GROUP][machine(aws, 2), 32_770] = "healthy"
    assert serving(aws.read(memory, NOW + 10)) == [task_arn(1), task_arn(2)]
    assert aws.groups[TARGETS] == 1


def test_without_the_permission_it_is_noted_and_skipped() -> None:
    """Once an hour; nothing is out for it, and no read fails."""
    aws, memory = balanced(first="healthy", second="unhealthy"), Memory()
    aws.fail = fail_on(DENIED, "DescribeTargetHealth")
    made = 0
    for n in range(361):
        found = aws.read(memory, NOW + 10 * n)
        made += aws.groups[TARGETS]
        assert sizes(found) == {"orders": 2}
        assert found.error is None
    assert made == 2
    assert memory.notices == {str(DENIED): NOW + 3_600}


@pytest.mark.parametrize(
    "failure", [SourceUnreachable("no answer"), SourceError("TargetGroupNotFound")]
)
def test_a_failure_leaves_what_was_known_for_a_while(failure: SourceError) -> None:
    """And then counts for nothing."""
    aws, memory = balanced(first="healthy", second="unhealthy"), Memory()
    aws.read(memory, NOW)
    aws.fail = fail_on(failure, "DescribeTargetHealth")
    assert serving(aws.read(memory, NOW + 299)) == [task_arn(1)]
    found = aws.read(memory, NOW + 301)
    assert serving(found) == [task_arn(1), task_arn(2)]
    assert found.error is None


def test_services_with_new_tasks_come_first_then_who_was_read_longest_ago() -> None:
    """Our share may not allow them all in one read."""
    aws, memory = balanced(first="healthy"), Memory()
    names = [f"service-{n}" for n in range(3)]
    for name in names:
        aws.add_service(name, 1, list(aws.instances))
        aws.services[name]["loadBalancers"] = [{"targetGroupArn": name, "containerPort": 8080}]
        aws.targets[name] = {}
    aws.read(memory, NOW)
    aws.fail = fail_on(SourceUnreachable("no answer"), "DescribeTargetHealth", after=2)
    aws.read(memory, NOW + 10)
    aws.tasks[task_arn(3)]["startedAt"] = NOW
    aws.read(memory, NOW + 20)
    asked = [c.parameters["TargetGroupArn"] for c in aws.calls if c.group == TARGETS]
    assert asked == ["service-1", "service-2", GROUP, "service-0"]


def test_the_setting_switches_it_off() -> None:
    """Then no call is made."""
    aws = balanced(first="healthy", second="unhealthy")
    scope = Scope(SCOPE.cluster, SCOPE.label, targets=False)
    assert sizes(aws.read(Memory(), NOW, scope=scope)) == {"orders": 2}
    assert aws.groups[TARGETS] == 0


def test_both_groups_of_a_blue_green_pair_are_known() -> None:
    """Of the service and of its task sets."""
    pair = {
        "targetGroupArn": GROUP,
        "containerName": "app",
        "containerPort": 8080,
        "advancedConfiguration": {"alternateTargetGroupArn": OTHER},
    }
    group = {"targetGroupArn": "third"}
    document = service(loadBalancers=[pair], taskSets=[{"id": "x", "loadBalancers": [group]}])
    found = services_in(services(document), 1.0)["orders"].target_groups
    assert found == (
        TargetGroup(GROUP, "app", 8080),
        TargetGroup(OTHER, "app", 8080),
        TargetGroup("third"),
    )


def test_targets_are_read_as_the_api_gives_them() -> None:
    """By id and port."""
    rows: list[dict[str, Any]] = [
        {
            "Target": {"Id": "i-1", "Port": 32768},
            "TargetHealth": {"State": "unhealthy", "Reason": "Target.Timeout"},
        },
        {"Target": {"Id": "10.0.0.1", "Port": 80}, "TargetHealth": {"State": "healthy"}},
        {"Target": {"Id": "arn:aws:lambda:us-east-1:1:function:f"}},
    ]
    answer = checked("elbv2", "DescribeTargetHealth", {"TargetHealthDescriptions": rows})
    assert targets_in(answer) == {
        ("i-1", 32768): Target("unhealthy", "Target.Timeout"),
        ("10.0.0.1", 80): Target("healthy"),
    }

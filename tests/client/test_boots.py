"""Tasks that are RUNNING before they listen, on the local ECS: real processes, real refusals."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from discovery.balancing.round_robin import RoundRobin
from discovery.client.resolver import Resolver
from discovery.errors import NoEndpoints
from discovery.local.server import LocalECS
from discovery.model import Endpoint
from discovery.settings import Settings
from tests.client.test_against_local_ecs import client, stable, until

QUICK = Settings(interval_s=0.2)


@pytest.fixture
def ecs(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalECS]:
    """A cluster with the service `web`, whose one task is up."""
    with LocalECS(listen="127.0.0.1:0") as local:
        local.add_cluster("demo")
        local.add_instances("demo", 2)
        for name, value in local.environment().items():
            monkeypatch.setenv(name, value)
        api = client(local)
        ports = [{"containerPort": 80, "hostPort": 0, "name": "http"}]
        api.register_task_definition(
            family="web",
            networkMode="bridge",
            containerDefinitions=[
                {"name": "web", "image": "nginx", "memory": 32, "portMappings": ports}
            ],
        )
        api.create_service(cluster="demo", serviceName="web", taskDefinition="web", desiredCount=1)
        stable(api)
        local.api = api  # type: ignore[attr-defined]  # for the tests
        yield local
        api.close()


def scaled(ecs: LocalECS, count: int) -> None:
    api: Any = ecs.api  # type: ignore[attr-defined]
    api.update_service(cluster="demo", service="web", desiredCount=count)


def listens(endpoint: Endpoint) -> bool:
    try:
        socket.create_connection((endpoint.host, endpoint.port), 5).close()
    except OSError:
        return False
    return True


def test_a_booting_task_is_offered_once_it_accepts_and_said_to_start_before(
    ecs: LocalECS,
) -> None:
    """Whoever asks meanwhile is never sent to it: no connection is refused."""
    with Resolver("demo", settings=QUICK) as resolver:
        assert until(resolver, lambda: len(resolver.endpoints("web")) == 1)
        ecs.faults.slow_boot(4)
        scaled(ecs, 2)
        refused: list[Endpoint] = []
        over = threading.Event()

        def call() -> None:
            while not over.wait(0.02):
                refused.extend(e for e in resolver.endpoints("web") if not listens(e))

        caller = threading.Thread(target=call)
        caller.start()
        try:
            assert until(resolver, lambda: "starting: it refuses connections" in reasons(resolver))
            assert until(resolver, lambda: len(resolver.endpoints("web")) == 2)
        finally:
            over.set()
            caller.join()
        assert refused == []
        assert reasons(resolver) == []


def reasons(resolver: Resolver) -> list[str]:
    return [x.reason for x in resolver.service("web").exclusions]


def test_a_first_answer_has_no_task_that_boots(ecs: LocalECS) -> None:
    """Of a process that starts in the middle of it."""
    ecs.faults.slow_boot(60)
    scaled(ecs, 2)
    with Resolver("demo", settings=QUICK) as resolver:
        assert until(resolver, lambda: "starting: it refuses connections" in reasons(resolver))
    with Resolver("demo") as another:
        assert [listens(e) for e in another.endpoints("web")] == [True]


def test_where_all_boot_they_are_offered_as_the_last_resort(ecs: LocalECS) -> None:
    """And are said to be no more than that."""
    ecs.faults.slow_boot(60)
    scaled(ecs, 0)
    with Resolver("demo", settings=QUICK) as resolver:
        assert until(resolver, lambda: not resolver.endpoints("web"))
        with pytest.raises(NoEndpoints):
            resolver.pick("web")
        scaled(ecs, 1)
        assert until(
            resolver, lambda: [e.health for e in resolver.endpoints("web")] == ["starting"]
        )
        (task,) = [t for t in resolver.explain("web")["tasks"] if t["verdict"] == "last resort"]
        assert task["reason"] == "starting: it refuses connections; nothing better runs"


def test_without_the_boot_check_running_is_enough(ecs: LocalECS) -> None:
    """Whoever switched it off is sent to a task that refuses."""
    ecs.faults.slow_boot(60)
    scaled(ecs, 2)
    with Resolver("demo", settings=Settings(interval_s=0.2, boot_check=False)) as resolver:
        assert until(resolver, lambda: len(resolver.endpoints("web")) == 2)
        assert sorted(map(listens, resolver.endpoints("web"))) == [False, True]


def test_a_task_that_dies_leaves_with_a_callers_refusal_though_ecs_cannot_be_read(
    ecs: LocalECS,
) -> None:
    """What a caller met is looked into, and is enough."""
    scaled(ecs, 2)
    stable(ecs.api)  # type: ignore[attr-defined]
    with Resolver("demo", settings=QUICK, policy=RoundRobin) as resolver:
        assert until(resolver, lambda: len(resolver.endpoints("web")) == 2)
        first = resolver.endpoints("web")[0]
        with ecs.faults.deny():
            ecs.kill_process(str(first.task_arn))
            assert any(refused(resolver) for _ in range(1_000))
            assert until(resolver, lambda: first not in resolver.endpoints("web"))
            assert [why.endswith("it refuses connections") for why in reasons(resolver)] == [True]


def refused(resolver: Resolver) -> bool:
    try:
        with resolver.lease("web") as endpoint:
            socket.create_connection((endpoint.host, endpoint.port), 5).close()
    except ConnectionError as error:  # a reset, as it dies, is no refusal yet
        return isinstance(error, ConnectionRefusedError)
    return False

"""What every source promises, whatever it reads."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from discovery.ecs.source import EcsSource
from discovery.local.server import LocalECS
from discovery.model import ClusterReading, Service
from discovery.settings import Settings
from discovery.sources.base import FixedSource, Source
from discovery.sources.disk import Disk, Remembered
from discovery.sources.static import StaticSource
from discovery.written import ClusterSettings
from tests.made import observed, reading, service
from tests.sources.hubs import Hub, following
from tests.sources.stores import Fleet, serving

LABEL = "demo"
Build = Callable[[], Source]


@pytest.fixture(scope="module")
def ecs() -> Iterator[LocalECS]:
    """A cluster with the services `web` and `api`, one task each."""
    with LocalECS(listen="127.0.0.1:0") as local:
        local.add_cluster(LABEL)
        local.add_instances(LABEL, 1)
        api: Any = boto3.client(
            "ecs",
            endpoint_url=local.url,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )
        mapping = {"containerPort": 80, "hostPort": 0}
        container = {"name": "main", "image": "nginx", "memory": 16, "portMappings": [mapping]}
        api.register_task_definition(family="any", containerDefinitions=[container])
        for name in ("web", "api"):
            api.create_service(
                cluster=LABEL, serviceName=name, taskDefinition="any", desiredCount=1
            )
        api.get_waiter("services_stable").wait(
            cluster=LABEL, services=["web", "api"], WaiterConfig={"Delay": 1, "MaxAttempts": 20}
        )
        yield local
        api.close()


@pytest.fixture(params=["fixed", "static", "ecs", "hub", "disk", "redis"])
def source(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Source]:
    """Each kind of source, with the services `web` and `api` in the cluster `demo`."""
    builds: dict[str, Build] = {
        "fixed": lambda: FixedSource(observed(reading(service("web", 1), service("api", 2)))),
        "static": lambda: _static(tmp_path),
        "ecs": lambda: _ecs(request.getfixturevalue("ecs"), monkeypatch),
    }
    builds["hub"] = lambda: following(request.getfixturevalue("hub").url)
    builds["disk"] = lambda: Remembered(builds["fixed"](), Disk(tmp_path / "cache", "any"))
    builds["redis"] = lambda: request.getfixturevalue("fleet").member()
    built = builds[request.param]()
    yield built
    built.close()


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub that knows the two."""
    with Hub(service("web", 1), service("api", 2)) as hub:
        yield hub


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A store, and sidecars that share it."""
    with serving(tmp_path) as server:
        fleet = Fleet(server, service("web", 1), service("api", 2))
        yield fleet
        fleet.close()


def _static(folder: Path) -> StaticSource:
    path = folder / "services.toml"
    path.write_text(
        'services.web.endpoints = [{host = "10.0.0.1", port = 80}]\n'
        'services.api.endpoints = [{host = "10.0.0.2", port = 80}]\n'
    )
    return StaticSource(path, label=LABEL)


def _ecs(local: LocalECS, monkeypatch: pytest.MonkeyPatch) -> EcsSource:
    for name, value in local.environment().items():
        monkeypatch.setenv(name, value)
    return EcsSource(Settings(clusters=(ClusterSettings(LABEL),)))


def only(source: Source, *names: str) -> ClusterReading:
    """The reading of those names alone."""
    (found,) = source.load({LABEL: frozenset(names)}).clusters
    return found


def named(found: ClusterReading) -> dict[str, Service]:
    return {service.name: service for service in found.services}


def test_the_labels_are_known_before_any_load(source: Source) -> None:
    """Names are split by them."""
    assert source.labels == (LABEL,)


def test_everything_is_one_complete_reading_a_cluster(source: Source) -> None:
    """With every service, each read whole."""
    observation = source.load(None)
    (found,) = observation.clusters
    assert (found.label, found.complete, found.error) == (LABEL, True, None)
    assert named(found).keys() == {"web", "api"}
    assert all(len(s.endpoints) == 1 for s in found.services)
    assert observation.observed_at > 0


def test_every_endpoint_says_what_it_belongs_to(source: Source) -> None:
    """Cluster label and service, so that answers need nothing else."""
    endpoints = [e for s in only(source, "web", "api").services for e in s.endpoints]
    assert sorted((e.cluster, e.service) for e in endpoints) == [(LABEL, "api"), (LABEL, "web")]


def test_a_name_asked_for_is_read(source: Source) -> None:
    """Others may be told of, too."""
    assert named(only(source, "web"))["web"].endpoints


def test_a_name_that_does_not_exist_is_said_to_be_absent(source: Source) -> None:
    """By name, or by a list that is complete without it; and without an error."""
    found = only(source, "web", "nope")
    assert "nope" not in named(found)
    assert "nope" in found.absent or found.complete
    assert found.error is None


def test_a_second_read_finds_equal_services(source: Source) -> None:
    """Nothing changed, so nothing differs: not even the order of endpoints."""
    first = named(only(source, "web", "api"))
    assert first.keys() == {"web", "api"}
    assert named(only(source, "web", "api")) == first


def test_what_is_pending_adds_to_what_was_read(source: Source) -> None:
    """It takes nothing back, and may be nothing at all."""
    first = named(source.load(None).clusters[0])
    for found in source.load_pending().clusters:
        assert found.error is None
        assert named(found).keys() == first.keys()


def test_it_may_be_closed_twice(source: Source) -> None:
    """By whoever is first."""
    source.load(None)
    source.close()
    source.close()

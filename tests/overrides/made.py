"""Snapshots and decisions with as little to say as a test needs."""

import tomllib
from collections.abc import Iterable

from discovery.model import Cluster, Endpoint, Exclusion, Port, Service, Snapshot
from discovery.overrides.applied import Decisions, Enable
from discovery.overrides.rules import overrides_in
from tests.made import NOW


def snapshot(*services: Service, read_at: float = NOW, error: str | None = None) -> Snapshot:
    """Of the clusters a and b, a the default."""
    return Snapshot(
        clusters=(Cluster("a", NOW), Cluster("b", NOW, error)),
        services={service.key: service for service in services},
        read_at={service.key: read_at for service in services},
    )


def service(name: str, *endpoints: Endpoint, cluster: str = "a", **more: object) -> Service:
    """A service of these endpoints at one port."""
    return Service(
        name,
        cluster,
        endpoints=endpoints,
        ports=(Port(80),),
        default_port=Port(80),
        **more,  # type: ignore[arg-type]  # members are checked at run time
    )


def decided(of: Snapshot, text: str = "", *, enable: Enable = "all", now: float = NOW) -> Snapshot:
    """The snapshot under the decisions in a file; entries without an end have none."""
    document = tomllib.loads(text)
    for entries in document.values():
        for entry in entries:
            entry.setdefault("until", "forever")
    return Decisions(overrides_in(document), enable, "ecs.internal").applied(of, now)


def hosts(of: Snapshot, name: str, cluster: str = "a") -> list[str]:
    """Where a service's endpoints are: the last parts of their addresses."""
    return [e.host.rpartition(".")[2] for e in of.services[cluster, name].endpoints]


def reasons(of: Snapshot, name: str, cluster: str = "a") -> list[tuple[str, str]]:
    """Who is excluded, and why."""
    return parts(of.services[cluster, name].exclusions)


def parts(exclusions: Iterable[Exclusion]) -> list[tuple[str, str]]:
    """Tasks and reasons."""
    return [(exclusion.task_arn, exclusion.reason) for exclusion in exclusions]

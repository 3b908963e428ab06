"""Names that stand for other services, in order or in parts. Pure.

Rule 1: an alias is a service like any other to all who ask, made anew from each snapshot.
Rule 2: it stands for services, never for aliases; what it leads to is said in its exclusions.
Rule 3: it is there as soon as one of its services is known. One that cannot be read is not waited
for: whoever asks to fail over wants to be served. One whose data is too old to be served is passed
over, unless all are so.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from discovery import names
from discovery.errors import BadName
from discovery.model import SERVES, Exclusion, Port, Service, Snapshot
from discovery.overrides.rules import Alias

_K = TypeVar("_K")
_V = TypeVar("_V")
_TOO_OLD = "what is known of it is too old to be served"


def aliased(
    alias: Alias, snapshot: Snapshot, zone: str, now: float
) -> tuple[Service, float] | None:
    """The service that an alias is at `now`, and when it was read; `None` where none is known."""
    if missing_cluster(alias, snapshot.labels, zone) is not None:
        return None
    known: list[tuple[Service, float]] = []
    missing: list[Exclusion] = []
    for target, part in alias.targets:
        service, why = _target(snapshot, target, zone)
        if service is None:
            missing.append(Exclusion(target, why))
        else:
            known.append((service, part))
    if not known:
        return None
    expired = [service for service, _ in known if snapshot.is_expired(service, now)]
    if len(expired) < len(known):
        known = [each for each in known if each[0] not in expired]
        missing += [Exclusion(service.full_name, _TOO_OLD) for service in expired]
    used: Sequence[Service] = _shared(known)
    passed: Sequence[Service] = ()
    if alias.in_order:
        *passed, chosen = _first_that_serves([service for service, _ in known])
        used = [chosen]
    missing += [exclusion for service in passed for exclusion in service.exclusions]
    read_at = min(snapshot.read_at.get(s.key, s.observed_at) for s in used)
    name = names.parse(alias.name, snapshot.labels, zone)
    return _united(name, used, missing), read_at


def missing_cluster(alias: Alias, labels: tuple[str, ...], zone: str) -> str | None:
    """The cluster that an alias' name ends in, where there is no such one.

    Only what ECS made has dots in its names; an alias with one was meant for another cluster.
    """
    service = names.parse(alias.name, labels, zone).service
    return service.rpartition(".")[2] if "." in service else None


def _target(snapshot: Snapshot, target: str, zone: str) -> tuple[Service | None, str]:
    """The service of that name, or why there is none."""
    try:
        name, service = names.look_up(snapshot, target, zone)
    except BadName as error:
        return None, error.message
    cluster = snapshot.cluster(name.cluster)
    if service is None and cluster is not None and cluster.error:
        return None, f"it could not be read: {cluster.error}"
    return service, f"{name.cluster} has no such service"


def _first_that_serves(services: Sequence[Service]) -> Sequence[Service]:
    """All up to the first that has something well, else to the first that has anything."""
    for serves in (_is_well, _is_something):
        for n, service in enumerate(services, 1):
            if serves(service):
                return services[:n]
    return services[:1]


def _is_well(service: Service) -> bool:
    return any(endpoint.health in SERVES for endpoint in service.endpoints)


def _is_something(service: Service) -> bool:
    return bool(service.endpoints)


def _shared(parts: Sequence[tuple[Service, float]]) -> list[Service]:
    """The services with weights that give each its part, however many tasks it has.

    What has nothing to call leaves its part to the others. Weights stay 1 on average.
    """
    weights = [_weights(service) for service, _ in parts]
    totals = [sum(of_tasks) for of_tasks in weights]
    whole = sum(part for (_, part), total in zip(parts, totals, strict=True) if total)
    tasks = sum(map(len, weights))
    return [
        _times(service, part / whole * tasks / total) if whole and total else service
        for (service, part), total in zip(parts, totals, strict=True)
    ]


def _weights(service: Service) -> list[float]:
    """Those of its tasks, each once, however many ports it has."""
    return list({e.task_arn or e.authority: e.weight for e in service.endpoints}.values())


def _times(service: Service, factor: float) -> Service:
    weighed = (replace(e, weight=e.weight * factor) for e in service.endpoints)
    return replace(service, endpoints=tuple(weighed))


def _united(name: names.Name, services: Sequence[Service], more: Iterable[Exclusion]) -> Service:
    """Several services as one of another name."""
    first = services[0]
    default = next((s.default_port for s in services if s.default_port is not None), None)
    return replace(
        first,
        name=name.service,
        cluster=name.cluster,
        kind="service",
        endpoints=tuple(e for s in services for e in s.endpoints),
        exclusions=(*(x for s in services for x in s.exclusions), *more),
        ports=tuple(dict.fromkeys(port for s in services for port in s.ports)),
        default_port=default,
        other_default_ports=dict(p for s in services for p in _default_ports(s, default)),
        definitions_pending=any(s.definitions_pending for s in services),
        other_addresses=_merged(s.other_addresses for s in services),
        task_addresses=frozenset().union(*(s.task_addresses for s in services)),
        spares=tuple(e for s in services for e in s.spares),
        placements=_merged(s.placements for s in services),
        notes=_merged(s.notes for s in services),
    )


def _default_ports(service: Service, default: Port | None) -> Iterator[tuple[str, Port]]:
    """The default ports of its task definitions, as far as they are not `default`."""
    if service.default_port is not None and service.default_port != default:
        for endpoint in service.endpoints:
            if endpoint.task_definition is not None:
                yield endpoint.task_definition, service.default_port
    yield from service.other_default_ports.items()


def _merged(several: Iterable[Mapping[_K, _V]]) -> dict[_K, _V]:
    return {key: value for each in several for key, value in each.items()}

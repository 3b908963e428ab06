"""How values look as JSON documents: one place for HTTP, the command line, files and followers.

Members are always present, `None` where not known. The shapes are a public contract; readers of
them ignore members they do not know.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from discovery.errors import DiscoveryError, UnknownName
from discovery.model import Change, Endpoint, Exclusion, Health, Identity, Port, Service, Snapshot

Document = dict[str, Any]

_KEPT: dict[Health, str] = {
    "healthy": "its health check passes",
    "unknown": "it runs; no health check says otherwise",
    "starting": "its health check has no verdict yet",
    "unhealthy": "its health check fails",
    "draining": "it is being stopped",
}


def endpoint(value: Endpoint) -> Document:
    """One endpoint, as `/v1/pick` and every list of endpoints has it."""
    return {
        "host": value.host,
        "port": value.port,
        "protocol": value.protocol,
        "url": value.url,
        "container_port": value.container_port,
        "port_name": value.port_name,
        "container": value.container,
        "task_arn": value.task_arn,
        "task_definition": value.task_definition,
        "cluster": value.cluster,
        "service": value.service,
        "zone": value.zone,
        "health": value.health,
        "weight": value.weight,
        "labels": dict(value.labels),
    }


def exclusion(value: Exclusion) -> Document:
    """One task, or container of it, that is not an endpoint."""
    return {"task_arn": value.task_arn, "container": value.container, "reason": value.reason}


def port(value: Port) -> Document:
    """One port that a service offers."""
    return {
        "name": value.name,
        "container_port": value.container_port,
        "protocol": value.protocol,
    }


def endpoints(
    service: Service,
    snapshot: Snapshot,
    now: float,
    *,
    name: str | None = None,
    only: Iterable[Endpoint] | None = None,
) -> Document:
    """The body of `/v1/endpoints/{name}` and `resolve --json`.

    `name` is the name that was asked for, and `only` what it narrows the endpoints to.
    """
    chosen = service.endpoints if only is None else only
    return heading(service, snapshot, now, name or service.name) | {
        "endpoints": [endpoint(e) for e in chosen],
        "excluded": [exclusion(e) for e in service.exclusions],
    }


def heading(service: Service, snapshot: Snapshot, now: float, name: str) -> Document:
    """What the body of `/v1/endpoints/{name}` says before its endpoints and exclusions."""
    return {
        "name": name,
        "cluster": service.cluster,
        "service": service.name,
        "index": snapshot.index,
        "age_s": round(snapshot.age_s(service, now), 3),
        "stale": snapshot.is_stale(service, now),
    }


def service(
    value: Service, snapshot: Snapshot, now: float, usage: Mapping[Identity, Document] | None = None
) -> Document:
    """The body of `/v1/services/{name}`: endpoints of every port, exclusions, ports, age.

    Each endpoint also has its `usage`, as of this process's own requests.
    """
    body = endpoints(value, snapshot, now)
    known = usage or {}
    used = [endpoint(e) | known.get(e.identity, UNUSED) for e in value.endpoints]
    default = value.default_port
    return body | {
        "endpoints": used,
        "kind": value.kind,
        "ports": [port(p) for p in value.ports],
        "default_port": port(default) if default else None,
        "last_resort": value.last_resort,
    }


def usage(
    in_flight: int, latency_s: float | None, ejected: tuple[str, str, float] | None
) -> Document:
    """What this process's own requests know of an endpoint; `ejected` is cause, why, how long."""
    names = ("cause", "why", "for_s")
    return {
        "in_flight": in_flight,
        "latency_s": None if latency_s is None else round(latency_s, 6),
        "ejected": ejected and dict(zip(names, ejected, strict=True)),
    }


UNUSED = usage(0, None, None)


def services(snapshot: Snapshot, now: float) -> Document:
    """The body of `/v1/services` and `ls --json`."""
    return {
        "index": snapshot.index,
        "age_s": round(max(0.0, now - snapshot.observed_at), 3),
        "services": [
            {
                "name": s.name,
                "cluster": s.cluster,
                "kind": s.kind,
                "endpoints": len(s.endpoints),
                "excluded": len(s.exclusions),
                "ports": [port(p) for p in s.ports],
            }
            for s in in_order(snapshot)
        ],
    }


def explanation(value: Service) -> Document:
    """The body of `/v1/explain/{name}`: every task, kept or dropped, and why."""
    kept = [
        {
            "task_arn": e.task_arn,
            "container": e.container,
            "container_port": e.container_port,
            "verdict": "last resort" if e.is_last_resort else "kept",
            "reason": kept_because(e, value.notes.get(e.identity)),
        }
        for e in value.endpoints
    ]
    dropped = [
        {
            "task_arn": e.task_arn,
            "container": e.container,
            "container_port": e.container_port,
            "verdict": "excluded",
            "reason": e.reason,
        }
        for e in value.exclusions
    ]
    return {"name": value.full_name, "tasks": kept + dropped}


def history(name: str, changes: Iterable[Change]) -> Document:
    """The body of `/v1/history/{name}`: the last changes of a service, the oldest first."""
    return {
        "name": name,
        "changes": [
            {
                "at": round(c.at, 3),
                "index": c.index,
                "kind": c.kind,
                "task_arn": c.task_arn,
                "container": c.container,
                "container_port": c.container_port,
                "address": c.address,
                "reason": c.reason,
            }
            for c in changes
        ],
    }


def kept_because(value: Endpoint, note: str | None = None) -> str:
    """Why an endpoint is offered, in words for a person; `note` is what else is known of it."""
    if value.is_last_resort:
        return f"{note or _KEPT[value.health]}; nothing better runs"
    return f"{_KEPT[value.health]}; {note}" if note else _KEPT[value.health]


def error(value: DiscoveryError) -> Document:
    """`{"error": {"code", "message", "name"}}`, with close matches where there are some."""
    body: Document = {
        "code": value.code,
        "message": value.message,
        "name": getattr(value, "name", None),
    }
    if isinstance(value, UnknownName):
        body["suggestions"] = list(value.suggestions)
    return {"error": body}


def alive() -> Document:
    """The body of `/health`: whoever answers is alive."""
    return {"status": "alive"}


def readiness(waiting_for: Sequence[str]) -> Document:
    """The body of `/ready`; `waiting_for` names in sentences what is not ready."""
    return {"ready": not waiting_for, "waiting_for": list(waiting_for)}


def status(
    snapshot: Snapshot,
    now: float,
    waiting_for: Sequence[str],
    budgets: Iterable[tuple[str, str, float, float, float, float]],
) -> Document:
    """The body of `/v1/status`: how old what is known is, and what is left of the budgets.

    `budgets` are rows of endpoint, throttle group, calls that may be made at once, how many at
    most, how many a second come back, and what throttles left of our share.
    """
    services = snapshot.services.values()
    members = ("endpoint", "group", "available", "capacity", "per_s", "factor")
    return {
        "index": snapshot.index,
        "ready": not waiting_for,
        "waiting_for": list(waiting_for),
        "stale_after_s": snapshot.fresh_for_s,
        "clusters": [
            {
                "name": c.label,
                "age_s": None if c.observed_at is None else round(max(0.0, now - c.observed_at), 3),
                "error": c.error,
                "services": sum(s.cluster == c.label for s in services),
                "endpoints": sum(len(s.endpoints) for s in services if s.cluster == c.label),
                "excluded": sum(len(s.exclusions) for s in services if s.cluster == c.label),
            }
            for c in snapshot.clusters
        ],
        "budgets": [dict(zip(members, row, strict=True)) for row in budgets],
    }


def settings(rows: Iterable[tuple[str, object, str, str]]) -> Document:
    """The body of `config --json`, from rows of key, value, origin and environment variable."""
    members = ("key", "value", "origin", "variable")
    return {"settings": [dict(zip(members, row, strict=True)) for row in rows]}


def in_order(value: Snapshot) -> list[Service]:
    """The services as a person expects them listed: by cluster as configured, then by name."""
    rank = {label: n for n, label in enumerate(value.labels)}
    return sorted(
        value.services.values(), key=lambda s: (rank.get(s.cluster, len(rank)), s.cluster, s.name)
    )

"""From services as read to services as offered: verdicts applied, each address claimed once. Pure.

Rule 1: who is out is an exclusion with its reason. Where nothing better is left at a port, those
that are out and the spares become its last resort, best first, as in eligibility.
Rule 2: of two tasks of a cluster at one address the one started later is right: ports and
addresses are reused, and of services read at different times one list may be old.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from discovery.health.eligibility import RANK, role_of
from discovery.health.evidence import Verdict
from discovery.health.shares import keeping_shares
from discovery.model import (
    SERVES,
    Endpoint,
    Exclusion,
    Identity,
    Placement,
    Service,
    Snapshot,
)

Key = tuple[str, str]
_Place = tuple[str, str, int, str]


class Demotions:
    """What verdicts make of services. One caller at a time.

    Of the same service and the same verdicts, which are known by identity, it is the same service.
    """

    def __init__(self) -> None:
        self._known: dict[Key, tuple[Service, Mapping[Identity, Verdict], Service]] = {}

    def applied(
        self, snapshot: Snapshot, verdicts: Mapping[Key, Mapping[Identity, Verdict]]
    ) -> Snapshot:
        """The snapshot with the verdicts applied to its services; the others stay as they are."""
        services, known = dict(snapshot.services), self._known
        self._known = {}
        for key, found in verdicts.items():
            was = known.get(key)
            if was is None or was[0] is not services[key] or was[1] is not found:
                was = services[key], found, judged_by(services[key], found)
            self._known[key] = was
            services[key] = was[2]
        services.update(_without_collisions(services))
        return replace(snapshot, services=services)


def adjusted(snapshot: Snapshot, verdicts: Mapping[Key, Mapping[Identity, Verdict]]) -> Snapshot:
    """The same for once."""
    return Demotions().applied(snapshot, verdicts)


def judged_by(service: Service, verdicts: Mapping[Identity, Verdict]) -> Service:
    """The service without those who are out, and with what else is known said."""
    out = {identity: verdict for identity, verdict in verdicts.items() if verdict.is_out}
    notes = {identity: v.reason for identity, v in verdicts.items() if not v.is_out}
    if not out:
        return replace(service, notes=notes)
    kept = [e for e in service.endpoints if e.identity not in out]
    resort = _last_resort(service, kept, out)
    notes |= {e.identity: out[e.identity].reason for e in resort if e.identity in out}
    again = {e.identity for e in resort}
    gone = [e for e in service.endpoints if e.identity in out and e.identity not in again]
    back = {_part(e) for e in resort}
    exclusions = [x for x in service.exclusions if _part(x) not in back]
    exclusions += [_excluded(e, out[e.identity].reason) for e in gone]
    offered = keeping_shares(service, [*kept, *resort])
    return replace(
        service,
        endpoints=tuple(sorted(offered, key=lambda e: RANK[e.health])),
        exclusions=tuple(sorted(exclusions, key=lambda x: x.task_arn)),
        notes=notes,
        spares=tuple(e for e in service.spares if e.identity not in out),
    )


def _last_resort(
    service: Service, kept: list[Endpoint], out: Mapping[Identity, Verdict]
) -> list[Endpoint]:
    """Those who are out, and the spares, of the ports at which nobody serves any more.

    Who refuses is of no use while anybody else runs.
    """

    def role(endpoint: Endpoint) -> object:
        return role_of(endpoint, service.default_port_of(endpoint))

    served = {role(e) for e in kept if e.health in SERVES}
    lost = [(e, out[e.identity]) for e in service.endpoints if e.identity in out]
    lacking = {role(e) for e, verdict in lost if not verdict.is_old} - served
    demoted = [(replace(e, health=v.health), v) for e, v in lost if v.health is not None]
    known = {e.identity for e in service.endpoints} | out.keys()
    spares = [e for e in service.spares if e.identity not in known]
    better = [e for e in (*(e for e, v in demoted if not v.refuses), *spares) if role(e) in lacking]
    lacking -= {role(e) for e in (*better, *kept)}
    return [*better, *(e for e, v in demoted if v.refuses and role(e) in lacking)]


def _part(of: Endpoint | Exclusion) -> tuple[str, str | None, int | None]:
    return of.task_arn or "", of.container, of.container_port


def _excluded(endpoint: Endpoint, reason: str) -> Exclusion:
    return Exclusion(endpoint.task_arn or "", reason, endpoint.container, endpoint.container_port)


def _without_collisions(services: Mapping[Key, Service]) -> dict[Key, Service]:
    """The services that lose an endpoint because a newer task has its address."""
    places = [(e.host, e.port) for s in services.values() for e in _claiming(s)]
    if len(set(places)) == len(places):
        return {}
    claims: dict[_Place, list[tuple[Key, Endpoint]]] = {}
    for key, service in services.items():
        for e in _claiming(service):
            if e.task_arn not in service.placements:
                continue
            place = (service.cluster, e.host, e.port, e.protocol)
            claims.setdefault(place, []).append((key, e))
    lost: dict[Key, dict[Identity, Verdict]] = {}
    for several in claims.values():
        if len(several) < 2 or len({e.task_arn for _, e in several}) < 2:
            continue
        newest = max(several, key=lambda claim: _since(services[claim[0]], claim[1]))[1]
        reason = f"the newer task {newest.task_arn} has its address {newest.authority}"
        for key, e in several:
            if e.task_arn != newest.task_arn:
                lost.setdefault(key, {})[e.identity] = Verdict(reason, health=None)
    return {key: _without(services[key], found) for key, found in lost.items()}


def _claiming(service: Service) -> Iterator[Endpoint]:
    """All that runs, whether it serves or not: a newer task may still be starting."""
    yield from service.endpoints
    offered = {e.identity for e in service.endpoints} if service.spares else ()
    yield from (e for e in service.spares if e.identity not in offered)


def _without(service: Service, lost: Mapping[Identity, Verdict]) -> Service:
    """The notes that there were stay."""
    less = judged_by(service, lost)
    return replace(less, notes={**service.notes, **less.notes})


def _since(service: Service, endpoint: Endpoint) -> tuple[float, str]:
    placement = service.placements.get(endpoint.task_arn or "", Placement())
    since = placement.started_at or placement.created_at or 0.0
    return since, endpoint.task_arn or ""

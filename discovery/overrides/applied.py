"""What was read, as a person has it: rules by hand, tags that opt in or out, and aliases. Pure.

Rule 1: whoever is out is an `Exclusion` with the reason; a service stays known though nothing of
it is left.
Rule 2: `exclude` is obeyed to the last endpoint. `evacuate` is not: whoever would leave a port of a
service with nothing to call stays, since a zone's trouble is less than none at all.
Rule 3: aliases stand for services as the rules left them, and win over services of their name.
Rule 4: a service that nothing here touches stays the same object.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import prod
from operator import is_
from typing import Literal

from discovery import names
from discovery.health.eligibility import role_of
from discovery.model import SERVES, Endpoint, Exclusion, Identity, Service, Snapshot
from discovery.overrides.aliases import aliased
from discovery.overrides.rules import Overrides, Rule

Enable = Literal["all", "tagged"]
TAG = "ecs-discovery.enable"
_YES, _NO = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no"})
_OPTED_OUT = f"opted out by the tag {TAG}"
_NOT_IN = f"not opted in by the tag {TAG}, and only tagged services are enabled"

Key = tuple[str, str]


def overridden(
    snapshot: Snapshot, overrides: Overrides, enable: Enable, zone: str, now: float
) -> Snapshot:
    """The snapshot under what is in force at `now`. `zone` is the DNS zone that names may end in.

    Expects services as they were read; its index is that of `snapshot`.
    """
    if not snapshot.labels:
        return snapshot
    force = overrides.in_force(now)
    ruling = _Ruling(force.rules, snapshot.labels, zone)
    services = {key: _ruled(s, ruling.of(key), enable) for key, s in snapshot.services.items()}
    same = all(services[key] is service for key, service in snapshot.services.items())
    ruled = snapshot if same else replace(snapshot, services=services)
    found = [a for alias in force.aliases if (a := aliased(alias, ruled, zone)) is not None]
    if not found:
        return ruled
    return replace(
        ruled,
        services={**services, **{service.key: service for service, _ in found}},
        read_at={**ruled.read_at, **{service.key: read_at for service, read_at in found}},
    )


class _Ruling:
    """The rules by the services that they speak of."""

    def __init__(self, rules: Iterable[Rule], labels: tuple[str, ...], zone: str) -> None:
        self._for_all: list[tuple[int, Rule]] = []
        self._for_one: dict[Key, list[tuple[int, Rule]]] = {}
        for n, rule in enumerate(rules):
            if rule.service is None:
                self._for_all.append((n, rule))
            else:
                name = names.parse(rule.service, labels, zone)
                key = name.cluster.lower(), name.service.lower()
                self._for_one.setdefault(key, []).append((n, rule))

    def of(self, key: Key) -> tuple[Rule, ...]:
        """Those for this service, in the order in which they were written."""
        own = self._for_one.get((key[0].lower(), key[1].lower()), ()) if self._for_one else ()
        return tuple(rule for _, rule in sorted((*self._for_all, *own), key=lambda each: each[0]))


def _ruled(service: Service, rules: tuple[Rule, ...], enable: Enable) -> Service:
    if not rules and not any(_tag_reason(endpoint, enable) for endpoint in service.endpoints):
        return service

    def reason(endpoint: Endpoint) -> str | None:
        return _tag_reason(endpoint, enable) or _rule_reason(endpoint, rules)

    reasons = {e.identity: why for e in service.endpoints if (why := reason(e))}
    kept = [e for e in service.endpoints if e.identity not in reasons]
    notes: dict[Identity, str] = {}
    for rule in rules:
        if rule.kind == "evacuate":
            leaving, staying = _evacuated(service, kept, rule)
            reasons |= dict.fromkeys(leaving, rule.words)
            notes |= dict.fromkeys(staying, f"{rule.words}; kept, since nothing else serves")
            kept = [e for e in kept if e.identity not in leaving]
    out = [e for e in service.endpoints if e.identity in reasons]
    resort = [e for e in _resort(service, kept, out) if reason(e) is None]
    if weights := [rule for rule in rules if rule.kind == "weight"]:
        kept = [_weighed(endpoint, weights) for endpoint in kept]
    if not out and not notes and all(map(is_, kept, service.endpoints)):
        return service
    back = {_part(e) for e in resort}
    exclusions = [x for x in service.exclusions if _part(x) not in back]
    return replace(
        service,
        endpoints=(*kept, *resort),
        exclusions=(*exclusions, *(_excluded(e, reasons[e.identity]) for e in out)),
        notes={**service.notes, **notes},
    )


def _tag_reason(endpoint: Endpoint, enable: Enable) -> str | None:
    said = endpoint.labels.get(TAG, "").strip().lower()
    if enable == "tagged":
        return None if said in _YES else _NOT_IN
    return _OPTED_OUT if said in _NO else None


def _rule_reason(endpoint: Endpoint, rules: Iterable[Rule]) -> str | None:
    return next((r.words for r in rules if r.kind == "exclude" and is_of(r, endpoint)), None)


def _weighed(endpoint: Endpoint, rules: Iterable[Rule]) -> Endpoint:
    weight = endpoint.weight * prod(rule.weight for rule in rules if is_of(rule, endpoint))
    return endpoint if weight == endpoint.weight else replace(endpoint, weight=weight)


def _evacuated(
    service: Service, endpoints: Sequence[Endpoint], rule: Rule
) -> tuple[set[Identity], set[Identity]]:
    """Of those in the zone, who leaves, and who stays because nobody else would be left."""
    inside = [e for e in endpoints if e.zone == rule.zone]
    served = {_role(service, e) for e in endpoints if e.zone != rule.zone and e.health in SERVES}
    leaving = {e.identity for e in inside if _role(service, e) in served}
    return leaving, {e.identity for e in inside} - leaving


def _resort(service: Service, kept: Iterable[Endpoint], out: Iterable[Endpoint]) -> list[Endpoint]:
    """The spares of the ports at which nobody serves any more."""
    served = {_role(service, e) for e in kept}
    lacking = {_role(service, e) for e in out} - served
    return [e for e in service.spares if _role(service, e) in lacking]


def _role(service: Service, endpoint: Endpoint) -> object:
    return role_of(endpoint, service.default_port_of(endpoint))


def is_of(rule: Rule, endpoint: Endpoint) -> bool:
    """Whether the rule speaks of this endpoint, of a service that it speaks of."""
    return (
        (rule.zone is None or rule.zone == endpoint.zone)
        and (rule.task is None or rule.task in _task_names(endpoint))
        and (rule.task_definition is None or rule.task_definition in _definition_names(endpoint))
    )


def _task_names(endpoint: Endpoint) -> tuple[str, ...]:
    arn = endpoint.task_arn
    return (arn, arn.rpartition("/")[2]) if arn else (endpoint.authority,)


def _definition_names(endpoint: Endpoint) -> tuple[str, ...]:
    arn = endpoint.task_definition or ""
    revision = arn.rpartition("/")[2]
    return arn, revision, revision.rpartition(":")[0]


def _part(of: Endpoint | Exclusion) -> tuple[str, str | None, int | None]:
    return of.task_arn or "", of.container, of.container_port


def _excluded(endpoint: Endpoint, reason: str) -> Exclusion:
    task = endpoint.task_arn or endpoint.authority
    return Exclusion(task, reason, endpoint.container, endpoint.container_port)

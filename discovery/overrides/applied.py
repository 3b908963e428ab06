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
from discovery.health.shares import keeping_shares
from discovery.model import SERVES, Endpoint, Exclusion, Identity, Service, Snapshot
from discovery.overrides.aliases import aliased
from discovery.overrides.rules import Overrides, Rule

Enable = Literal["all", "tagged"]
TAG = "ecs-discovery.enable"
_YES, _NO = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no"})
_OPTED_OUT = f"opted out by the tag {TAG}"
_NOT_IN = f"not opted in by the tag {TAG}, and only tagged services are enabled"

Key = tuple[str, str]


class Decisions:
    """Overrides and tags, and what they make of snapshots. One caller at a time.

    A service that is the same object as at the last call is not looked at again. `zone` is the DNS
    zone that names may end in.
    """

    def __init__(self, overrides: Overrides, enable: Enable, zone: str) -> None:
        self.overrides = overrides
        self._enable: Enable = enable
        self._zone = zone
        self._ruling = _Ruling((), (), zone)
        self._known: dict[Key, tuple[Service, Service]] = {}  # as read, and under the rules

    def applied(self, snapshot: Snapshot, now: float) -> Snapshot:
        """The snapshot, of services as they were read, under what is in force at `now`."""
        if not snapshot.labels:
            return snapshot
        force = self.overrides.in_force(now)
        if (force.rules, snapshot.labels) != (self._ruling.rules, self._ruling.labels):
            self._ruling = _Ruling(force.rules, snapshot.labels, self._zone)
            self._known = {}
        self._known = {key: self._ruled(key, s) for key, s in snapshot.services.items()}
        services = {key: ruled for key, (_, ruled) in self._known.items()}
        same = all(read is ruled for read, ruled in self._known.values())
        ruled = snapshot if same else replace(snapshot, services=services)
        aliases = (aliased(alias, ruled, self._zone, now) for alias in force.aliases)
        found = [each for each in aliases if each is not None]
        if not found:
            return ruled
        return replace(
            ruled,
            services={**services, **{service.key: service for service, _ in found}},
            read_at={**ruled.read_at, **{service.key: read_at for service, read_at in found}},
        )

    def idle(self, snapshot: Snapshot, now: float) -> tuple[str, ...]:
        """The places of what is in force and speaks of nothing that there is: typing errors, say.

        For a snapshot that is known whole.
        """
        force = self.overrides.in_force(now)
        ruling = _Ruling(force.rules, snapshot.labels, self._zone)
        busy = {
            rule.place
            for key, service in snapshot.services.items()
            for rule in _concerned(service, ruling.of(key))
        }
        busy |= {a.place for a in force.aliases if aliased(a, snapshot, self._zone, now)}
        return tuple(each.place for each in force if each.place not in busy)

    def _ruled(self, key: Key, service: Service) -> tuple[Service, Service]:
        known = self._known.get(key)
        if known is not None and known[0] is service:
            return known
        return service, _ruled(service, self._ruling.of(key), self._enable)


class _Ruling:
    """The rules by the services that they speak of."""

    def __init__(self, rules: tuple[Rule, ...], labels: tuple[str, ...], zone: str) -> None:
        self.rules = rules
        self.labels = labels
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


def _ruled(service: Service, rules: Iterable[Rule], enable: Enable) -> Service:
    rules = _concerned(service, rules)
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
    offered = keeping_shares(service, [*kept, *resort])
    if weights := [rule for rule in rules if rule.kind == "weight"]:
        offered = [_weighed(endpoint, weights) for endpoint in offered]
    if not out and not notes and all(map(is_, offered, service.endpoints)):
        return service
    back = {_part(e) for e in resort}
    exclusions = [x for x in service.exclusions if _part(x) not in back]
    return replace(
        service,
        endpoints=tuple(offered),
        exclusions=(*exclusions, *(_excluded(e, reasons[e.identity]) for e in out)),
        notes={**service.notes, **notes},
    )


def _concerned(service: Service, rules: Iterable[Rule]) -> list[Rule]:
    """The rules that speak of any of its endpoints."""
    endpoints = (*service.endpoints, *service.spares)
    return [rule for rule in rules if any(is_of(rule, endpoint) for endpoint in endpoints)]


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
        and (rule.task is None or _is_task(rule.task, endpoint))
        and (rule.task_definition is None or rule.task_definition in _definition_names(endpoint))
    )


def _is_task(task: str, endpoint: Endpoint) -> bool:
    arn = endpoint.task_arn
    if arn is None:
        return task == endpoint.authority
    return arn.endswith(task) and (len(arn) == len(task) or arn[-len(task) - 1] == "/")


def _definition_names(endpoint: Endpoint) -> tuple[str, ...]:
    arn = endpoint.task_definition or ""
    revision = arn.rpartition("/")[2]
    return arn, revision, revision.rpartition(":")[0]


def _part(of: Endpoint | Exclusion) -> tuple[str, str | None, int | None]:
    return of.task_arn or "", of.container, of.container_port


def _excluded(endpoint: Endpoint, reason: str) -> Exclusion:
    task = endpoint.task_arn or endpoint.authority
    return Exclusion(task, reason, endpoint.container, endpoint.container_port)

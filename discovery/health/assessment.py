"""All endpoints of a snapshot in the light of the evidence: verdicts, and whom to connect to. Pure.

Rule 1: silence takes an endpoint out only while others of its service answer from other hosts; if
nearly all of a service is silent, it is our own network: all are kept, and it is said.
Rule 2: of a host, a few endpoints at a time are connected to, and a few only verified; of a lost
one, one.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import inf

from discovery.health.evidence import (
    Case,
    Evidence,
    Rules,
    Sign,
    Subject,
    Verdict,
    again_s,
    is_doubtful,
    signs_of,
    signs_of_service,
    subject_of,
    verdict_on,
)
from discovery.health.losses import Losses, Machine, losses_of
from discovery.model import SERVES, Endpoint, Identity, Placement, Service, Snapshot

SAMPLES = 3  # endpoints of a host that are connected to at a time
MOST_SILENT = 0.8  # of a service; if more of it is silent, it is our own network
ANSWER_S = 30.0  # for how long an answer shows that the network to a service is there
CONTROL_S = 10.0  # how often others of a service are tried while some are silent
LOST_S = 5.0  # how often a lost host is tried

Key = tuple[str, str]
Verdicts = Mapping[Identity, Verdict]
_NOWHERE = Placement()


@dataclass(frozen=True, slots=True)
class Look:
    """An endpoint to connect to from `at` on. `is_urgent`: before those only verified."""

    subject: Subject
    at: float
    is_urgent: bool = True


@dataclass(frozen=True, slots=True)
class _Read:
    """When a service was read, the signs that follow for all of it, and whether it may be now."""

    at: float
    signs: frozenset[Sign]
    is_denied: bool


@dataclass(frozen=True, slots=True)
class _Made:
    """A service's cases and verdicts, and what they were made from.

    Of the same they need not be made again until `until`. `told` is the evidence on each of its
    `subjects`; `verdicts` are missing where they depend on others or on the time.
    """

    service: Service
    read: _Read
    subjects: tuple[Subject, ...]
    told: list[list[object]]
    until: float
    cases: list[Case]
    verdicts: Verdicts | None = None


@dataclass(frozen=True, slots=True)
class Assessment:
    """What the evidence says of a snapshot's services, and the looks that it asks for."""

    verdicts: Mapping[Key, Verdicts] = field(default_factory=dict)
    looks: tuple[Look, ...] = ()
    made: Mapping[Key, _Made] = field(default_factory=dict)


_NONE = Assessment()


def assessed(
    snapshot: Snapshot, evidence: Evidence, rules: Rules, now: float, before: Assessment = _NONE
) -> Assessment:
    """Judge what was read by what was seen. `now` is seconds since the epoch.

    `before` is the last assessment by the same rules: a service of which nothing differs gets the
    very verdicts that it had.
    """
    made = dict(_made(snapshot, evidence, rules, now, before.made))
    once = _once(made)
    losses = losses_of(once.values())
    if losses.machines:  # whoever else is there counts, too
        made = dict(_made(snapshot, evidence, rules, now, {}, everything=True))
        once = _once(made)
    verdicts: dict[Key, Verdicts] = {}
    controls: list[tuple[Machine | None, Look]] = []
    for key, it in made.items():
        found = it.verdicts
        if found is None:
            found = {c.endpoint.identity: v for c in it.cases if (v := _verdict(c, losses))}
            if any(verdict.by_silence for verdict in found.values()):
                controls += _controls(it.cases, losses)
                found = _guarded(it.cases, found, losses, now)
            elif not losses.machines:
                made[key] = replace(it, verdicts=found)
        if found:
            verdicts[key] = found
    looks = _limited([*controls, *_looks(once.values(), losses)])
    return Assessment(verdicts, tuple(looks), {} if losses.machines else made)


def _once(made: Mapping[Key, _Made]) -> dict[Subject, Case]:
    """A task may go by several names."""
    return {case.subject: case for it in made.values() for case in it.cases}


def _made(
    snapshot: Snapshot,
    evidence: Evidence,
    rules: Rules,
    now: float,
    before: Mapping[Key, _Made],
    everything: bool = False,
) -> Iterator[tuple[Key, _Made]]:
    """The services with endpoints that there is a reason to look at."""
    touched = {s[0][0] for s in (*evidence.seen, *evidence.doubted, *evidence.probed)}
    for key, service in snapshot.services.items():
        cluster = snapshot.cluster(service.cluster)
        shared = signs_of_service(service, cluster, snapshot, rules, now)
        if not (everything or shared or _concerns(service, touched, rules, now)):
            continue
        read = _Read(
            snapshot.read_at.get(key, service.observed_at),
            shared,
            cluster is not None and cluster.denied_since is not None,
        )
        known = before.get(key)
        is_same = known is not None and known.service is service
        subjects = known.subjects if known is not None and is_same else _subjects(service)
        told = evidence.on(subjects)
        if is_same and known is not None and _still_holds(known, read, told, now):
            yield key, known
            continue
        cases = _cases(service, read, evidence, rules, now, everything)
        if cases:
            until = min((_young_until(service, c, rules) for c in cases), default=inf)
            yield key, _Made(service, read, subjects, told, until, cases)


def _still_holds(known: _Made, read: _Read, told: list[list[object]], now: float) -> bool:
    return now < known.until and (known.read, known.told) == (read, told)


def _subjects(service: Service) -> tuple[Subject, ...]:
    return tuple(map(subject_of, _serving(service)))


def _cases(
    service: Service,
    read: _Read,
    evidence: Evidence,
    rules: Rules,
    now: float,
    everything: bool,
) -> list[Case]:
    """Its endpoints that there is a reason to look at; all of them where any is silent."""
    found = [_case(service, e, read, evidence, rules, now) for e in _serving(service)]
    if everything or any(map(_is_silent, found)):
        return found
    return [c for c in found if c.signs or c.seen or c.probe]


def _young_until(service: Service, case: Case, rules: Rules) -> float:
    """When time alone changes the reasons to look at it."""
    if "young" not in case.signs:
        return inf
    placement = service.placements[case.endpoint.task_arn or ""]
    return (placement.started_at or 0.0) + rules.young_for_s


def _concerns(service: Service, touched: set[str], rules: Rules, now: float) -> bool:
    """Whether any of its endpoints may be a case, told without looking at each."""
    if not service.placements:
        return any(e.identity[0] in touched for e in service.endpoints) if touched else False
    since = now - rules.young_for_s
    return not touched.isdisjoint(service.placements) or any(
        p.agent_connected is False or (p.started_at or 0.0) > since
        for p in service.placements.values()
    )


def _serving(service: Service) -> Iterator[Endpoint]:
    return (e for e in service.endpoints if e.protocol == "tcp" and e.health in SERVES)


def _case(
    service: Service, endpoint: Endpoint, read: _Read, evidence: Evidence, rules: Rules, now: float
) -> Case:
    placement = service.placements.get(endpoint.task_arn or "", _NOWHERE)
    subject = subject_of(endpoint)
    seen = evidence.seen.get(subject)
    return Case(
        endpoint,
        subject,
        read.signs | signs_of(endpoint, placement, evidence, rules, now),
        (service.cluster, placement.machine or endpoint.host),
        seen,
        evidence.probed.get(subject),
        is_doubtful(seen, placement, rules, read.at),
        read.is_denied,
        evidence.untried.get(subject),
    )


def _verdict(case: Case, losses: Losses) -> Verdict | None:
    return verdict_on(case, losses.words(case))


def _guarded(
    cases: list[Case], found: dict[Identity, Verdict], losses: Losses, now: float
) -> dict[Identity, Verdict]:
    """Rule 1: the same, but that nobody is out by silence where that may be our own fault."""
    silent = sum(verdict.by_silence for verdict in found.values())
    answering = any(
        c.seen is not None
        and c.seen.answered
        and now - c.seen.at <= ANSWER_S
        and c.machine not in losses.machines
        for c in cases
    )
    if answering and silent <= MOST_SILENT * len(cases):
        return found
    return {identity: _kept(v) if v.by_silence else v for identity, v in found.items()}


def _kept(verdict: Verdict) -> Verdict:
    return replace(
        verdict,
        reason=f"{verdict.reason}; kept, since hardly any of its service is known to answer",
        is_out=False,
    )


def _controls(cases: list[Case], losses: Losses) -> Iterator[tuple[Machine, Look]]:
    """A few others of a service, on other hosts, best those that answered lately."""
    others = [c for c in cases if c.machine not in losses.machines and not _is_silent(c)]
    others.sort(key=lambda case: case.seen.at if case.seen is not None else 0.0)
    on_hosts = {case.machine: case for case in others}  # the latest of each
    for machine, case in list(reversed(on_hosts.items()))[:SAMPLES]:
        at = case.seen.at + CONTROL_S if case.seen is not None else 0.0
        yield machine, Look(case.subject, at)


def _is_silent(case: Case) -> bool:
    return case.seen is not None and not case.seen.answered


def _looks(cases: Collection[Case], losses: Losses) -> Iterator[tuple[Machine | None, Look]]:
    """What each case asks for, with the host whose samples it counts among."""
    answered_at: dict[Machine, float] = {}
    for case in cases:
        if case.seen is not None and case.seen.answered:
            answered_at[case.machine] = max(answered_at.get(case.machine, 0.0), case.seen.at)
    samples: dict[Machine, Look] = {}
    for case in cases:
        at = case.seen.at if case.seen is not None else 0.0
        if case.machine in losses.machines:
            again = samples.get(case.machine)
            # The one not tried for the longest, so that no single dead task stands for its host.
            if again is None or at + LOST_S < again.at:
                samples[case.machine] = Look(case.subject, at + LOST_S)
            continue
        pause_s = again_s(case)
        if pause_s is None and case.zone in losses.zones:
            pause_s = LOST_S
        if pause_s is None:
            continue
        if case.signs == {"lost"} and case.seen is None and case.machine in answered_at:
            at, pause_s = answered_at[case.machine], 10.0  # its host is there
        urgent = not case.signs <= {"old", "denied"}
        machine = None if "young" in case.signs else case.machine  # each has a boot of its own
        yield machine, Look(case.subject, at + pause_s, urgent)
    yield from samples.items()


def _limited(looks: Iterable[tuple[Machine | None, Look]]) -> Iterator[Look]:
    """The most pressing first, each endpoint once, and of a host only so many of either kind.

    Those that refuse are tried so often that they would else be all that is tried of their host.
    """
    seen: set[Subject] = set()
    counts: Counter[tuple[Machine, bool]] = Counter()
    for machine, look in sorted(looks, key=lambda each: (not each[1].is_urgent, each[1].at)):
        if look.subject in seen:
            continue
        seen.add(look.subject)
        if machine is not None:
            counts[machine, look.is_urgent] += 1
            if counts[machine, look.is_urgent] > SAMPLES:
                continue
        yield look

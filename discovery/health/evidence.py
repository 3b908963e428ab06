"""What connecting to endpoints, and probing them, showed of each; what follows for one of them.

ECS calls a task RUNNING before it listens and long after its host is lost. A refused connection is
proof that nobody listens there; silence proves little, since a firewall is silent too.

Rule 1: only endpoints with a reason are connected to (`Sign`); all others are as their source says.
Rule 2: what was seen belongs to an endpoint at an address: it says nothing of another endpoint
there, nor of this one elsewhere.
Rule 3: a refusal ends what was read before it: whoever accepts there afterwards may be somebody
else, until a later read says that it is still the same. Only a boot begins with refusals.

Pure: times are seconds since the epoch and arguments.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from discovery.health.probing import Standing
from discovery.model import Cluster, Endpoint, Health, Identity, Placement, Service, Snapshot

Result = Literal["accepted", "refused", "silent"]
Outcome = tuple[Result | Literal["untried"], str]  # and the system's word where nobody answered
Sign = Literal["young", "doubted", "lost", "old", "denied"]
Subject = tuple[Identity, str, int]

VERIFY_S = 2.0  # between looks at what is old: a port that is closed for longer is seen so
PATIENCE = 30  # refusals in a row after which a retry each second is not worth it any more


@dataclass(frozen=True, slots=True)
class Rules:
    """From when on there is a reason to connect; `boot_check` is whether youth is one."""

    boot_check: bool = True
    young_for_s: float = 120.0
    old_after_s: float = 60.0
    denied_after_s: float = 3_600.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of connecting, the last time and so often in a row; `why` is the system's word.

    `was_up`: it has accepted before. `refused_at` is when it refused last, and `fell` whether it
    had accepted before that.
    """

    result: Result
    at: float
    times: int = 1
    why: str = ""
    was_up: bool = False
    refused_at: float | None = None
    fell: bool = False

    @property
    def answered(self) -> bool:
        """Whether a machine was there, be it that it refused."""
        return self.result != "silent"


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known by connecting.

    `doubted` are endpoints that callers could not connect to, with when. `probed` are those with
    active probes, and how these stand. `untried` are those that nothing is known of because we
    could not try, such as for lack of sockets, with the system's word.
    """

    seen: Mapping[Subject, Seen] = field(default_factory=dict)
    doubted: Mapping[Subject, float] = field(default_factory=dict)
    probed: Mapping[Subject, Standing] = field(default_factory=dict)
    untried: Mapping[Subject, str] = field(default_factory=dict)

    def on(self, subjects: Collection[Subject]) -> list[list[object]]:
        """All of it that is about these: equal where it is the same."""
        every = (self.seen, self.doubted, self.probed, self.untried)
        told: list[list[object]] = [list(map(each.get, subjects)) if each else [] for each in every]
        return [values if any(values) else [] for values in told]


@dataclass(frozen=True, slots=True)
class Case:
    """An endpoint, why it is looked at, and what was seen of it.

    `machine` is what fails together: the container instance, or the address where none is known.
    `is_doubtful`: it refused since it was read (rule 3). `is_denied`: nothing may be read now.
    `untried` is why we could not connect, where that is our own trouble.
    """

    endpoint: Endpoint
    subject: Subject
    signs: frozenset[Sign]
    machine: tuple[str, str]
    seen: Seen | None = None
    probe: Standing | None = None
    is_doubtful: bool = False
    is_denied: bool = False
    untried: str | None = None

    @property
    def zone(self) -> tuple[str, str | None]:
        """The availability zone within its cluster."""
        return self.machine[0], self.endpoint.zone


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a person should know of an endpoint, and whether it is out for it (`is_out`).

    `health` is what it counts as where nothing better runs; `None` where it is no last resort
    either, since who answers there may be somebody else by now. `by_silence`: nobody answered,
    which may be our own network's fault. `refuses`: it does not listen, as far as is known.
    `is_old`: what is known of its service is so old that no spare can be trusted in its place.
    """

    reason: str
    is_out: bool = True
    health: Health | None = "unhealthy"
    by_silence: bool = False
    refuses: bool = False
    is_old: bool = False


def subject_of(endpoint: Endpoint) -> Subject:
    """What is seen belongs to this: the endpoint at this address."""
    return endpoint.identity, endpoint.host, endpoint.port


def seen_after(before: Seen | None, result: Result, at: float, why: str = "") -> Seen:
    """The same with one more result."""
    times = before.times + 1 if before is not None and before.result == result else 1
    was_up = before is not None and (before.was_up or before.result == "accepted")
    if result == "refused":
        return Seen(result, at, times, why, was_up, at, was_up)
    if before is None:
        return Seen(result, at, times, why)
    return Seen(result, at, times, why, was_up, before.refused_at, before.fell)


def after_looks(evidence: Evidence, outcomes: Mapping[Subject, Outcome], now: float) -> Evidence:
    """The same with what came of connecting just now."""
    seen, doubted = dict(evidence.seen), dict(evidence.doubted)
    untried = dict(evidence.untried)
    for subject, (result, why) in outcomes.items():
        if result == "untried":
            untried[subject] = why
            continue
        untried.pop(subject, None)
        seen[subject] = seen_after(seen.get(subject), result, now, why)
        if result == "accepted":
            doubted.pop(subject, None)
    return replace(evidence, seen=seen, doubted=doubted, untried=untried)


def is_news(before: Evidence, after: Evidence, subjects: Iterable[Subject]) -> bool:
    """Whether anything may follow from looks at these that did not before; silence adds up."""
    if (before.doubted, before.untried) != (after.doubted, after.untried):
        return True
    pairs = [(before.seen.get(s), after.seen[s]) for s in subjects if s in after.seen]
    return any(
        new.result == "silent" or old is None or old.result != new.result for old, new in pairs
    )


def is_doubtful(seen: Seen | None, placement: Placement, rules: Rules, read_at: float) -> bool:
    """Whether it refused since it was read, and not because it was still booting (rule 3)."""
    if seen is None or seen.refused_at is None or seen.refused_at <= read_at:
        return False
    young_until = (placement.started_at or 0.0) + rules.young_for_s
    return seen.fell or seen.refused_at > young_until


def is_young(endpoint: Endpoint, placement: Placement, rules: Rules, now: float) -> bool:
    """Whether it may still be booting; a health check that passes knows better."""
    if not rules.boot_check or placement.started_at is None or endpoint.health != "unknown":
        return False
    return now - placement.started_at < rules.young_for_s


def signs_of_service(
    service: Service, cluster: Cluster | None, snapshot: Snapshot, rules: Rules, now: float
) -> frozenset[Sign]:
    """The reasons that all endpoints of a service share: how old what is known of them is."""
    signs: set[Sign] = set()
    denied_since = cluster.denied_since if cluster is not None else None
    # Where the source's budget stretches the pace, data of that age is as good as new. An outage
    # may be over before; what is not permitted is not so by the next read.
    is_old = snapshot.age_s(service, now) > max(rules.old_after_s, snapshot.fresh_for_s)
    if is_old or denied_since is not None:
        signs.add("old")
    if denied_since is not None and now - denied_since > rules.denied_after_s:
        signs.add("denied")
    return frozenset(signs)


def signs_of(
    endpoint: Endpoint, placement: Placement, evidence: Evidence, rules: Rules, now: float
) -> frozenset[Sign]:
    """The reasons to connect to one endpoint. One that refused is doubted until it accepts."""
    signs: set[Sign] = set()
    if is_young(endpoint, placement, rules, now):
        signs.add("young")
    if placement.agent_connected is False:
        signs.add("lost")
    subject = subject_of(endpoint)
    seen = evidence.seen.get(subject)
    if subject in evidence.doubted or (seen is not None and seen.result == "refused"):
        signs.add("doubted")
    return frozenset(signs)


def verdict_on(case: Case, loss: str | None) -> Verdict | None:
    """What follows from what was seen; `None` where there is nothing to say.

    `loss` says in words that its whole host is silent, where that is so.
    """
    if case.probe is not None and case.probe.is_failing:
        return Verdict(f"its probe fails: {case.probe.why}")
    result = case.seen.result if case.seen is not None else None
    words = _words(case)
    if "denied" in case.signs and result != "accepted":
        reason = f"reading it has not been permitted for too long and {words}"
        return Verdict(reason, health=None, is_old=True)
    if result == "refused":
        return _refused(case)
    if case.is_doubtful:
        # In an outage it is better than nothing; without permissions nobody may ever read again.
        return Verdict(
            f"it refused connections since it was read, and {words}: it may be another one by now",
            health=None if case.is_denied else "unhealthy",
            is_old=case.is_denied,
        )
    if loss is not None:
        return Verdict(loss, by_silence=True)
    if "lost" in case.signs:
        reason, silent = f"its host's agent is disconnected and {words}", result == "silent"
        return Verdict(reason, is_out=silent, by_silence=silent)
    if "young" in case.signs and result is None:
        if case.untried is not None:
            return Verdict(f"it is young and cannot be tried: {case.untried}", is_out=False)
        return Verdict(f"starting: {words}", health="starting", refuses=True)
    if "young" in case.signs and result == "silent":
        return Verdict(f"it is young and {words}: whether it is up is not known", is_out=False)
    return None


def _refused(case: Case) -> Verdict:
    words = _words(case)
    if "old" in case.signs:
        why = "reading it is not permitted" if case.is_denied else "what is known of it is old"
        return Verdict(f"{why} and {words}", health=None, is_old=True)
    if "lost" in case.signs:
        return Verdict(f"its host's agent is disconnected and {words}", refuses=True)
    if "young" in case.signs and case.seen is not None and not case.seen.was_up:
        return Verdict(f"starting: {words}", health="starting", refuses=True)
    return Verdict(words, refuses=True)


def _words(case: Case) -> str:
    if case.seen is None:
        return "it was not connected to yet"
    if case.seen.result == "accepted":
        return "it accepts connections"
    if case.seen.result == "refused":
        return "it refuses connections"
    return f"connecting to it fails: {case.seen.why or 'timed out'}"


def again_s(case: Case) -> float | None:
    """Seconds from what was last seen to the next look; `None` where there is no need of one."""
    seen = case.seen
    if seen is None:
        return 0.0 if case.signs else None
    if seen.result == "refused":
        return 1.0 if "young" in case.signs or seen.times < PATIENCE else 5.0
    if "doubted" in case.signs and seen.answered:
        return 1.0  # it was so before the doubt came up, which the next connection ends
    if case.signs & {"lost", "doubted"} and not seen.answered:
        return 1.0 if seen.times < 3 else 5.0
    if "lost" in case.signs:
        return 10.0
    if case.signs & {"old", "denied"}:
        return VERIFY_S
    return 5.0 if case.signs and not seen.answered else None

"""The scenarios of the change benchmark in their long form, and what is asked of each caller."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tests.change import scenarios
from tests.change.fleet import Shape
from tests.change.judging import Score, percentile
from tests.change.scenarios import Scenario
from tests.change.stage import DNS, LISTENER, TRANSPORT, Stage, Timing

JAVA, JAVA_SHORT, TRAEFIK = "Java", "Java (cache 2 s)", "Traefik"
JAVA_CACHE_S = {JAVA: 30.0, JAVA_SHORT: 2.0}
TIMING = Timing(interval_s=2.0, ttl_s=2, drain_s=40.0, slack_s=2.0, timeout_s=5.0)

Verdict = tuple[str, bool | None]
Judge = Callable[[Stage, str, Score], Verdict]


@dataclass(frozen=True, slots=True)
class Goal:
    """What is asked, and how it is told whether that holds."""

    text: str
    judge: Judge


@dataclass(frozen=True, slots=True)
class Case:
    """A scenario, with the goals of our clients (transport and listener) and of DNS's."""

    scenario: Scenario
    ours: Goal
    dns: Goal
    timing: Timing = TIMING

    def goal(self, caller: str) -> Goal | None:
        """What is asked of a caller; of Traefik nothing."""
        if caller in (TRANSPORT, LISTENER):
            return self.ours
        return self.dns if caller in (DNS, JAVA, JAVA_SHORT) else None


def failures(stage: Stage, caller: str, score: Score) -> Verdict:
    """None may fail."""
    return f"{score.failed} failed", score.failed == 0


def fair(stage: Stage, caller: str, score: Score) -> Verdict:
    """None may fail, and no task may have twice its share."""
    text, holds = failures(stage, caller, score)
    return f"{text}, {score.most:.2f} ×", bool(holds) and score.most <= 2.0


def reached(stage: Stage, caller: str, score: Score) -> Verdict:
    """None may fail, and the protected task is asked, too."""
    text = f"{score.failed} failed; {stage.told[caller]} requests to the protected task"
    return text, score.failed == 0 and stage.told[caller] != "0"


def shares(stage: Stage, caller: str, score: Score) -> Verdict:
    """Every share as it should be."""
    mine = {k: v for k, v in stage.told.items() if k.endswith(f", {caller}")}
    text = "; ".join(f"{name.rpartition(', ')[0]}: {found}" for name, found in mine.items())
    missed = [each for each in stage.missed if f", {caller}: " in each]
    return f"{text}; {score.failed} failed", not missed and score.failed == 0


def few_after_a_loss(stage: Stage, caller: str, score: Score) -> Verdict:
    """A thousandth may fail; after a quarter of a minute answers are quick."""
    lost_at = stage.marks["lost"]
    later = [a.seconds for a in stage.load.of(caller) if a.at > lost_at + 15]
    p99_s = percentile(later, 0.99)
    part = score.failed / score.requests
    return f"{100 * part:.2f} % failed, then p99 {1e3 * p99_s:.0f} ms", part <= 0.001 and p99_s < 1


def back_after_a_loss(stage: Stage, caller: str, score: Score) -> Verdict:
    """After half a minute nobody fails any more."""
    last_s = last_failure_s(stage, caller, "lost")
    return f"{score.failed} failed, the last after {last_s:.1f} s", last_s <= 30


def last_failure_s(stage: Stage, caller: str, mark: str, until: str | None = None) -> float:
    """Seconds from that moment to the end of the last request that failed; 0 without one."""
    several = stage.between(mark, until, caller) if until else stage.since(mark, caller)
    return max((a.at - stage.marks[mark] for a in several if a.error), default=0.0)


def right_service(stage: Stage, caller: str, score: Score) -> Verdict:
    """No answer of another service beyond what interval and TTL allow."""
    text = f"{stage.told['exchanged']} ports exchanged; {score.wrong} to the wrong service,"
    return f"{text} {score.wrong_late} of them late; {score.failed} failed", score.wrong_late == 0


def counted(stage: Stage, caller: str, score: Score) -> Verdict:
    """The same, without a goal."""
    return right_service(stage, caller, score)[0], None


def right_once_verified(stage: Stage, caller: str, score: Score) -> Verdict:
    """No answer of another service: verification starts with the first read that is denied."""
    text = f"{stage.told['exchanged']} ports exchanged; {score.wrong} to the wrong service"
    return f"{text}; {score.failed} failed", score.wrong == 0


def right_soon(stage: Stage, caller: str, score: Score) -> Verdict:
    """Nobody fails for longer than interval and TTL."""
    last_s = last_failure_s(stage, caller, "exited")
    holds = last_s <= 1.1 * stage.timing.interval_s + stage.timing.ttl_s
    return f"{score.failed} failed, the last after {last_s:.1f} s", holds


def gone_and_back(stage: Stage, caller: str, score: Score) -> Verdict:
    """An error at once when nobody is there, and an answer soon once somebody is."""
    back_at = stage.marks["back"]
    empty = stage.between("empty", "back", caller)
    late = [a.at - stage.marks["empty"] for a in empty if not a.error]
    served = min((a.at for a in stage.load.answers if a.at > back_at and a.task), default=back_at)
    failed = [a.at - served for a in stage.since("back", caller) if a.error]
    slow_s = max(failed, default=0.0)
    by_dns = caller == DNS or caller in JAVA_CACHE_S
    cache_s = (stage.timing.ttl_s if by_dns else 0) + JAVA_CACHE_S.get(caller, 0)
    limit_s = 1.1 * stage.timing.interval_s + cache_s
    text = f"{len(late)} answered late; all answered {max(0.0, slow_s):.1f} s after the first did"
    kind = next((a.error for a in reversed(empty) if a.error), "")
    return f"{text}; “{_short(kind)}”", not late and slow_s <= limit_s


def _short(error: str) -> str:
    return error if len(error) <= 60 else f"{error[:59]}…"


NONE_FAILS = Goal("0 failed", failures)
NONE_FAILS_DRAINED = Goal("0 failed with drain", failures)
NO_REFUSAL = Goal("0 refused", failures)
WEIGHTS = Goal("each side its weight ± 5 %", shares)


def cases(silence: Callable[[list[str]], None] | None) -> Mapping[str, Case]:
    """All of them by a short name. `silence` drops the packets to addresses, where that can be."""
    drained = Shape("awsvpc", TIMING.drain_s, wrapped=True)
    plain, bridge = Shape("awsvpc"), Shape("bridge")
    dying = Timing(interval_s=2.0, ttl_s=2, drain_s=0.0, slack_s=2.0, timeout_s=5.0)
    busy = replace(TIMING, rate=40.0)
    shift: dict[str, Any] = {"window": 350, "tries": 1}
    zone = scenarios.zone_lost(plain, 45.0)
    if silence is not None:
        zone = replace(zone, setting=replace(zone.setting, ecs={"silence": silence}))
    return {
        "rolling-100": Case(scenarios.rolling(100, drained), NONE_FAILS, NONE_FAILS_DRAINED),
        "rolling-50": Case(scenarios.rolling(50, drained), NONE_FAILS, NONE_FAILS_DRAINED),
        "boot": Case(scenarios.booting(20.0, plain), NO_REFUSAL, NO_REFUSAL, dying),
        "draining": Case(
            scenarios.draining(10, drained),
            Goal("0 failed, no task over 2 × its share", fair),
            Goal("0 failed with drain, ≤ 2 ×", fair),
        ),
        "blue-green": Case(
            scenarios.shifting("BLUE_GREEN", drained, steps=(100.0,), **shift),
            *(WEIGHTS, WEIGHTS, busy),
        ),
        "canary": Case(
            scenarios.shifting(
                *("CANARY", drained),
                steps=(20.0, 100.0),
                canaryConfiguration={"canaryPercent": 20.0},
                **shift,
            ),
            *(WEIGHTS, WEIGHTS, busy),
        ),
        "linear": Case(
            scenarios.shifting(
                *("LINEAR", drained),
                steps=(60.0, 100.0),
                linearConfiguration={"stepPercent": 60.0},
                **shift,
            ),
            *(WEIGHTS, WEIGHTS, busy),
        ),
        "task-sets": Case(
            scenarios.task_sets(drained, **shift),
            *(WEIGHTS, WEIGHTS, busy),
        ),
        "protected": Case(
            scenarios.protected(drained),
            Goal("0 failed, the protected one serves", reached),
            Goal("the same, with drain", reached),
        ),
        "zone": Case(
            zone,
            Goal("≤ 0.1 % failed, p99 < 1 s after 15 s", few_after_a_loss),
            Goal("no failure after 30 s", back_after_a_loss),
            dying,
        ),
        "spot": Case(
            scenarios.spot(10, drained, TIMING.drain_s + 8), NONE_FAILS, NONE_FAILS_DRAINED
        ),
        "ports": Case(
            scenarios.reused(bridge, exchanges=16, pause_s=5.0),
            Goal("0 wrong beyond interval + TTL", right_service),
            Goal("counted", counted),
            dying,
        ),
        "ports-denied": Case(
            scenarios.reused_unseen(bridge, exchanges=6, pause_s=50.0, hosts=6),
            Goal("0 to the wrong service", right_once_verified),
            Goal("counted", counted),
            dying,
        ),
        "restart": Case(
            scenarios.restarted(bridge),
            NONE_FAILS,
            Goal("right within interval + TTL", right_soon),
            dying,
        ),
        "zero": Case(
            scenarios.zero(plain),
            Goal("a clear error, and back, within an interval", gone_and_back),
            Goal("NODATA, and back within interval + TTL (+ Java's cache)", gone_and_back),
            dying,
        ),
    }

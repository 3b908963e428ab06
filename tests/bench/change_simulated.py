"""Half an hour of exchanged ports for the change benchmark, simulated with several seeds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.change.simulated import BY_DNS, OURS, Course, Tally, simulated

_SEEDS = range(5)
_DENIED_S = (600.0, 1_200.0)


@dataclass(frozen=True, slots=True)
class _Case:
    """A course, and what is asked of each caller."""

    title: str
    course: Course
    goals: Mapping[str, str]

    def wrong(self, tally: Tally) -> tuple[int, str]:
        """The wrong answers that count here, and in words which ones these are."""
        if self.course.denied_s is not None:
            return tally.denied, "while denied"
        return tally.late, "beyond interval + TTL"


_CASES: Mapping[str, _Case] = {
    "minutes": _Case(
        "simulated: 30 minutes, 10 % churn a minute, every port exchanged",
        Course(),
        dict.fromkeys((OURS, BY_DNS), "0 wrong beyond interval + TTL"),
    ),
    "minutes-denied": _Case(
        "simulated: the same, denied from minute 10 to 20",
        Course(denied_s=_DENIED_S),
        {OURS: "0 wrong while denied"},
    ),
    "minutes-quick": _Case(
        "simulated: the same, denied, ports closed for 1 to 6 s only",
        Course(denied_s=_DENIED_S, boot_s=(1.0, 6.0)),
        {},
    ),
}
SIMULATED: Mapping[str, str] = {name: case.title for name, case in _CASES.items()}


def simulation_lines(name: str) -> list[dict[str, Any]]:
    """What each caller noticed, all seeds together."""
    case = _CASES[name]
    runs = [simulated(case.course, seed) for seed in _SEEDS]
    exchanged = sum(run.world.exchanged for run in runs)
    return [
        _line(case, caller, exchanged, sum((run.tallies[caller] for run in runs), Tally()))
        for caller in runs[0].tallies
    ]


def _line(case: _Case, caller: str, exchanged: int, tally: Tally) -> dict[str, Any]:
    wrong, which = case.wrong(tally)
    goal = case.goals.get(caller, "")
    return {
        "caller": caller,
        "requests": tally.requests,
        "failed": tally.failed,
        "wrong": tally.wrong,
        "late": 0,
        "most": 0.0,
        "p99_ms": 0,
        "measured": f"{exchanged} ports exchanged; {wrong} wrong {which}",
        "goal": goal,
        "holds": wrong == 0 if goal else None,
        "errors": {},
    }

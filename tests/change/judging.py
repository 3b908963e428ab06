"""What a run comes to: failures, wrong services, late requests and shares, per caller. Pure."""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

_ENOUGH = 25.0  # of a task's fair share, in requests; with less, chance decides


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request: which task answered, or the `error`.

    `at` is when it began, in seconds since the epoch; `seconds` is how long it took.
    """

    caller: str
    at: float
    seconds: float
    service: str = ""
    revision: str = ""
    task: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Life:
    """When ECS started a task, and when its `desiredStatus` came to be STOPPED, if it did."""

    task: str
    service: str
    started_at: float
    stopping_at: float | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """What the requests of one caller came to.

    `wrong` were answered by another service, and `wrong_late` of them by a task that ran for longer
    than `grace_s` already; `late` were answered by a task whose `desiredStatus` had been STOPPED
    for longer than `grace_s` while another one, that was to run, had served for as long: before,
    those that end are the last resort. `most` is the highest load of a task over its fair share.
    """

    requests: int
    failed: int
    wrong: int
    wrong_late: int
    late: int
    most: float
    p99_s: float
    errors: Mapping[str, int]


def score(
    answers: Sequence[Answer], lives: Mapping[str, Life], service: str, grace_s: float
) -> Score:
    """Judge the requests of one caller. `lives` are those of all tasks that there were."""
    right = [a for a in answers if not a.error]
    wrong = [a for a in right if a.service != service]
    return Score(
        requests=len(answers),
        failed=sum(1 for a in answers if a.error),
        wrong=len(wrong),
        wrong_late=sum(_is_beyond(a, lives[a.task].started_at, grace_s) for a in wrong),
        late=sum(
            _is_beyond(a, lives[a.task].stopping_at, grace_s)
            for a in _spare(right, lives, service, grace_s)
        ),
        most=most_loaded(answers, lives, service),
        p99_s=percentile([a.seconds for a in answers], 0.99),
        errors=Counter(a.error for a in answers if a.error),
    )


def _spare(
    answers: Sequence[Answer], lives: Mapping[str, Life], service: str, grace_s: float
) -> list[Answer]:
    """The answers for which there was another task that was to run, and served for a while."""
    serving = _serving(answers, lives, service)
    return [
        a
        for a in answers
        if any(b + grace_s < a.at <= e for t, (b, e) in serving.items() if t != a.task)
    ]


def _is_beyond(answer: Answer, since: float | None, grace_s: float) -> bool:
    return since is not None and answer.at > since + grace_s


def most_loaded(answers: Sequence[Answer], lives: Mapping[str, Life], service: str) -> float:
    """The highest load of one task over its fair share; 0 where no task had enough of one.

    At any time the fair share of a task is one part of as many as serve then: those that have
    answered anybody once and that are not told to stop.
    """
    serving = _serving(answers, lives, service)
    begins, ends = sorted(b for b, _ in serving.values()), sorted(e for _, e in serving.values())
    times = sorted(a.at for a in answers if not a.error)
    sums = [0.0]
    for at in times:
        there = bisect_right(begins, at) - bisect_left(ends, at)
        sums.append(sums[-1] + (1 / there if there else 0.0))
    loads = Counter(a.task for a in answers if a.task in serving and a.at <= serving[a.task][1])
    found = 0.0
    for task, (begin, end) in serving.items():
        fair = sums[bisect_right(times, end)] - sums[bisect_left(times, begin)]
        if fair >= _ENOUGH:
            found = max(found, loads[task] / fair)
    return found


def _serving(
    answers: Iterable[Answer], lives: Mapping[str, Life], service: str
) -> dict[str, tuple[float, float]]:
    """From when to when each task of the service served."""
    first: dict[str, float] = {}
    for answer in answers:
        if not answer.error and answer.service == service:
            first[answer.task] = min(answer.at, first.get(answer.task, answer.at))
    infinite = float("inf")
    ends = {task: lives[task].stopping_at for task in first}
    whole = {t: (at, infinite if (e := ends[t]) is None else e) for t, at in first.items()}
    return {task: span for task, span in whole.items() if span[0] <= span[1]}


def share(answers: Iterable[Answer], revision: str) -> float:
    """Which part of the answers came from that revision."""
    given = [a.revision for a in answers if not a.error]
    return given.count(revision) / len(given) if given else 0.0


def percentile(values: Sequence[float], part: float) -> float:
    """The value that so many of all do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[max(0, ceil(part * len(ordered)) - 1)] if ordered else 0.0

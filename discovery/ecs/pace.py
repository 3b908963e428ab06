"""How soon a source wishes to read again, by what each of its clusters came to the last time.

Soon while deployments run, and rarely while events tell all that happens but health.
"""

from collections.abc import Sequence

from discovery.ecs.conversation import Outcome

ROLLING_S = 5.0
SWEEP_S = 27.0  # with its jitter under 30 s


def again_s(lasts: Sequence[Outcome | None], is_hearing: bool, interval_s: float) -> float | None:
    """The seconds from one read to the next, where those of the interval do not suit.

    `is_hearing`: the queue of events answers. A cluster that was never read has no last outcome.
    """
    if is_quiet(lasts, is_hearing):
        return max(SWEEP_S, interval_s)
    is_rolling = any(last is not None and last.is_rolling for last in lasts)
    return min(ROLLING_S, interval_s) if is_rolling and not _is_told(lasts, is_hearing) else None


def is_quiet(lasts: Sequence[Outcome | None], is_hearing: bool) -> bool:
    """Whether events tell what happens in every cluster, and nothing is on its way in any."""
    busy = (last is not None and (last.is_rolling or last.is_starting) for last in lasts)
    return _is_told(lasts, is_hearing) and not any(busy)


def _is_told(lasts: Sequence[Outcome | None], is_hearing: bool) -> bool:
    return is_hearing and all(last is not None and last.is_told for last in lasts)

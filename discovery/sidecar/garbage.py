"""When garbage is collected in a process that has to answer all the time.

A full collection looks at every object that there is. With 10,000 tasks that takes 0.15 to 0.3 s,
in which no thread runs, and Python begins one whenever there are a quarter more objects: every few
seconds while definitions are read. So here young objects are collected as ever, and all of them
rarely, right after a refresh or one that failed; what is there after the first that succeeds stays,
and is not looked at again.
"""

import gc
import time
from collections.abc import Callable

from discovery.events import Event, Refreshed, RefreshFailed

EVERY_S = 600.0
_YOUNG, _MIDDLE, _NEVER = 700, 10, 1 << 30  # more young ones would be felt: 20 ms with 2,000


class Garbage:
    """A listener that collects garbage; from `start` to `close` nothing else does so fully."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._before: tuple[int, int, int] | None = None
        self._collected_at = 0.0
        self._has_kept = False

    def start(self) -> None:
        """Have Python collect young objects only."""
        self._before = gc.get_threshold()
        self._collected_at = self._clock()
        self._has_kept = False
        gc.set_threshold(_YOUNG, _MIDDLE, _NEVER)

    def __call__(self, event: Event) -> None:
        """Collect everything after a refresh, if it is time; after the first one keep what is."""
        if self._before is None or not isinstance(event, Refreshed | RefreshFailed):
            return
        now = self._clock()
        if isinstance(event, Refreshed) and not self._has_kept:
            gc.freeze()
            self._has_kept = True
        elif now - self._collected_at >= EVERY_S:
            gc.collect()
            self._collected_at = now

    def close(self) -> None:
        """Leave it to Python again; safe to call twice."""
        before, self._before = self._before, None
        if before is not None:
            gc.unfreeze()
            gc.set_threshold(*before)

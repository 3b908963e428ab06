"""Counts over the last seconds, in slots that are reused. Pure: the time is an argument.

Not thread-safe: whoever owns a window has one writer at a time.
"""

from collections.abc import Iterator


class Window:
    """Two counts, of all and of the bad among them, over about `span_s` seconds."""

    __slots__ = ("_all", "_bad", "_slot", "_slot_s", "all", "bad")

    def __init__(self, span_s: float = 10.0, slots: int = 10) -> None:
        self._slot_s = span_s / slots
        self._all = [0] * slots
        self._bad = [0] * slots
        self._slot = 0
        self.all = 0
        self.bad = 0

    def add(self, now: float, good: int = 0, bad: int = 0) -> None:
        """Count that many now."""
        self.move(now)
        at = self._slot % len(self._all)
        self._all[at] += good + bad
        self._bad[at] += bad
        self.all += good + bad
        self.bad += bad

    def recent(self, now: float) -> Iterator[tuple[int, int]]:
        """All and bad over the last slot, the last two, and so on up to the whole span."""
        self.move(now)
        total = bad = 0
        for passed in range(len(self._all)):
            at = (self._slot - passed) % len(self._all)
            total += self._all[at]
            bad += self._bad[at]
            yield total, bad

    def move(self, now: float) -> None:
        """Forget what is too long ago; `all` and `bad` are right afterwards."""
        slot = int(now / self._slot_s)
        for passed in range(max(self._slot + 1, slot + 1 - len(self._all)), slot + 1):
            at = passed % len(self._all)
            self.all -= self._all[at]
            self.bad -= self._bad[at]
            self._all[at] = self._bad[at] = 0
        self._slot = max(self._slot, slot)

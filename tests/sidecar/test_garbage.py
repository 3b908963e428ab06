"""When the sidecar collects garbage."""

import gc
from collections.abc import Iterator

import pytest

from discovery.events import Noticed, Refreshed
from discovery.sidecar.garbage import EVERY_S, Garbage

REFRESHED = Refreshed("prod", 1, 1, 0, 0.1)


@pytest.fixture
def full() -> Iterator[list[int]]:
    """Grows with every full collection."""
    seen: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and info["generation"] == 2:
            seen.append(1)

    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)


class Clock:
    """A clock that stands still until it is told."""

    now = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def test_everything_is_collected_rarely_and_after_a_refresh(full: list[int]) -> None:
    """Not by Python itself, however many objects are made; what the first one found is kept."""
    clock = Clock()
    garbage = Garbage(clock)
    garbage(REFRESHED)
    assert not full
    garbage.start()
    try:
        kept = [[n] for n in range(300_000)]
        garbage(Noticed("something else"))
        garbage(REFRESHED)
        garbage(REFRESHED)
        assert gc.get_freeze_count() > len(kept)
        assert not full
        clock.now = EVERY_S
        garbage(REFRESHED)
        garbage(REFRESHED)
        assert len(full) == 1
    finally:
        garbage.close()


def test_closing_gives_everything_back() -> None:
    """Thresholds are what they were, nothing stays out of sight; closing again does nothing."""
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    garbage = Garbage()
    garbage.start()
    assert gc.get_threshold() != before
    garbage(REFRESHED)
    garbage.close()
    garbage.close()
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() <= frozen

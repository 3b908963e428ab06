"""When the sidecar collects garbage."""

import gc
from collections.abc import Iterator

import pytest

from discovery.errors import SourceError
from discovery.events import Noticed, Refreshed, RefreshFailed
from discovery.sidecar.garbage import EVERY_S, Garbage

REFRESHED = Refreshed("prod", 1, 1, 0, 0.1)
FAILED = RefreshFailed("prod", SourceError("no answer"))


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


def test_an_outage_does_not_let_garbage_pile_up(full: list[int]) -> None:
    """What fails leaves some, too; what is there before anything was read is not kept."""
    clock = Clock()
    garbage = Garbage(clock)
    garbage.start()
    try:
        frozen = gc.get_freeze_count()
        garbage(FAILED)
        assert (len(full), gc.get_freeze_count()) == (0, frozen)
        for minutes in (10, 20):
            clock.now = 60.0 * minutes
            garbage(FAILED)
            garbage(FAILED)
        assert (len(full), gc.get_freeze_count()) == (2, frozen)
        garbage(REFRESHED)
        assert gc.get_freeze_count() > frozen
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

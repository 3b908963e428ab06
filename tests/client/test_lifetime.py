"""When connections end: decisions by a clock that is a number."""

import pytest

from discovery.client.lifetime import Lifetime, UpstreamLimits

LIMITS = UpstreamLimits(idle_s=100.0, half_s=30.0, age_s=50.0, quiet_s=1.0, grace_s=20.0)


def life(chance: float = 1.0) -> Lifetime:
    """A connection that began at 0."""
    return Lifetime(LIMITS, 0.0, chance)


def ended(
    of: Lifetime, now: float, *, leaving: bool = False, held: bool = False, half: bool = False
) -> str | None:
    """How it ends then."""
    return of.end(now, leaving=leaving, held=held, half=half)


@pytest.mark.parametrize(("chance", "ends_at"), [(0.0, 40.0), (0.5, 45.0), (1.0, 50.0)])
def test_an_age_is_shortened_by_chance(chance: float, ends_at: float) -> None:
    """By up to a fifth."""
    assert ended(life(chance), ends_at - 0.1) is None
    assert ended(life(chance), ends_at) == "close"


def test_a_connection_in_use_ends_in_its_next_quiet_moment() -> None:
    """And is left alone until then."""
    used = life()
    used.moved_at = 9.5
    assert ended(used, 10.0, leaving=True) is None
    assert ended(used, 10.5, leaving=True) == "close"


@pytest.mark.parametrize("owed", ["held", "half", "asked"])
def test_a_connection_that_is_owed_something_is_reset_and_only_after_the_grace_time(
    owed: str,
) -> None:
    """Bytes held back, an answer, or the other side's end."""
    used = life()
    used.asked = owed == "asked"
    more = {owed: True} if owed != "asked" else {}
    assert ended(used, 1.0, leaving=True, **more) is None
    assert ended(used, 20.9, leaving=True, **more) is None
    assert ended(used, 21.0, leaving=True, **more) == "cut"


def test_a_busy_connection_ends_in_a_shorter_moment_as_the_grace_time_runs_out() -> None:
    """A client that asks ten times a second still gets an end between two requests."""
    busy = life()
    verdicts = []
    for now in (1.0, 6.0, 11.0, 16.0, 19.0):
        busy.moved_at = now - 0.3
        verdicts.append(ended(busy, now, leaving=True))
    assert verdicts == [None, None, None, "close", "close"]


def test_a_connection_that_never_pauses_is_reset_after_the_grace_time() -> None:
    """It may be in the middle of something."""
    busy = life()
    for now in (1.0, 20.9):
        busy.moved_at = now
        assert ended(busy, now, leaving=True) is None
    busy.moved_at = 21.0
    assert ended(busy, 21.0, leaving=True) == "cut"


def test_an_idle_connection_ends() -> None:
    """Cleanly, unless somebody still waits for an answer."""
    limits = UpstreamLimits(idle_s=100.0)
    for asked, how in ((False, "close"), (True, "cut")):
        idle = Lifetime(limits, 0.0, 1.0)
        idle.asked = asked
        assert ended(idle, 99.9) is None
        assert ended(idle, 100.0) == how


def test_a_connection_of_which_one_side_has_ended_may_be_idle_for_less() -> None:
    """What was left by its client, say, and hangs at its server."""
    assert ended(life(), 29.9, half=True) is None
    assert ended(life(), 30.0, half=True) == "cut"


def test_quiet_at_a_sudden_end_is_a_short_moment() -> None:
    """When the process stops, whoever is not in the middle of something ends cleanly."""
    idle = life()
    assert not idle.is_quiet(0.05, held=False, half=False)
    assert idle.is_quiet(0.1, held=False, half=False)
    assert not idle.is_quiet(0.1, held=True, half=False)

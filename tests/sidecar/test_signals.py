"""Signals as values, and log lines that stay few."""

import io
import logging
import os
import signal

import pytest

from discovery.errors import SourceThrottled, SourceUnreachable
from discovery.events import Noticed, Refreshed, RefreshFailed
from discovery.sidecar.logs import AGAIN_S, MOST_TRACEBACK, Bounded, Narrator
from discovery.sidecar.signals import Signals


class Clock:
    """A clock that goes on only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_waited_for(number: int) -> None:
    """It arrives as a value, and the old handler is back afterwards."""
    before = signal.getsignal(number)
    with Signals() as signals:
        os.kill(os.getpid(), number)
        assert signals.wait(10) == number
    assert signal.getsignal(number) is before


def test_no_signal_is_none() -> None:
    """The wait ends with its time."""
    with Signals() as signals:
        assert signals.wait(0) is None


def test_a_flood_of_signals_is_survived() -> None:
    """A full pipe stops no handler."""
    with Signals() as signals:
        for _ in range(70_000):
            signals._received(signal.SIGTERM, None)
        assert signals.wait(0) == signal.SIGTERM


FAILED = RefreshFailed("prod", SourceUnreachable("nobody answers"))
READ = Refreshed("prod", 3, 7, 1, 0.25)


def test_a_lasting_failure_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """Again when it changes, and every ten minutes."""
    clock = Clock()
    narrator = Narrator(clock)
    with caplog.at_level(logging.INFO, "discovery"):
        narrator(FAILED)
        narrator(FAILED)
        assert len(caplog.messages) == 1
        narrator(RefreshFailed("prod", SourceThrottled("slow down")))
        assert len(caplog.messages) == 2
        clock.now += AGAIN_S
        narrator(RefreshFailed("prod", SourceThrottled("slow down")))
        assert len(caplog.messages) == 3


def test_what_was_known_from_before_is_said_with_its_age(caplog: pytest.LogCaptureFixture) -> None:
    """In an outage a cache must not look as if ECS had been read."""
    with caplog.at_level(logging.INFO, "discovery"):
        Narrator(Clock())(Refreshed("prod", 3, 7, 1, 0.25, age_s=3_600.0))
    assert caplog.messages[0].startswith("cluster prod is read, as of 3600 s ago: 3 services")


def test_recovery_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """The first read is said, then only one after a failure."""
    narrator = Narrator(Clock())
    with caplog.at_level(logging.INFO, "discovery"):
        for event in (READ, READ, FAILED, READ, READ, READ):
            narrator(event)
    assert [m.partition(":")[0] for m in caplog.messages] == [
        "cluster prod is read",
        "cluster prod cannot be read",
        "cluster prod can be read again",
    ]


def test_a_partly_read_cluster_has_not_recovered(caplog: pytest.LogCaptureFixture) -> None:
    """A load that tells of both a failure and a reading is a failure, once."""
    narrator = Narrator(Clock())
    with caplog.at_level(logging.INFO, "discovery"):
        for event in (FAILED, READ, FAILED, READ):
            narrator(event)
    assert caplog.messages == ["cluster prod cannot be read: nobody answers"]


def test_notices_are_said(caplog: pytest.LogCaptureFixture) -> None:
    """What a person should know is a warning."""
    with caplog.at_level(logging.INFO, "discovery"):
        Narrator(Clock())(Noticed("ssm is not allowed"))
    assert caplog.messages == ["ssm is not allowed"]


def test_lines_are_bounded_by_the_minute() -> None:
    """What is over is left out, and the next minute says how much."""
    clock = Clock()
    bounded = Bounded(most=2, clock=clock)

    def passes(message: str) -> logging.LogRecord | None:
        record = logging.LogRecord("discovery", logging.INFO, "", 0, message, (), None)
        return record if bounded.filter(record) else None

    assert [bool(passes("x")) for _ in range(5)] == [True, True, False, False, False]
    clock.now = 60.0
    record = passes("y")
    assert record is not None
    assert record.getMessage() == "y (3 lines were left out before)"


def test_tracebacks_are_lines_too() -> None:
    """Of each the end is passed, which has the error, and no more lines in all than the bound."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(Bounded(most=2 * MOST_TRACEBACK + 5, clock=Clock()))
    for number in range(40):
        error = nested(ValueError(f"number {number}"), 30)
        info = (type(error), error, error.__traceback__)
        handler.handle(logging.LogRecord("x", logging.ERROR, "", 0, "it failed", (), info))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2 * MOST_TRACEBACK + 5
    assert lines[0] == "it failed"
    assert lines[MOST_TRACEBACK] == "ValueError: number 0"
    assert lines[-3:] == ["it failed"] * 3


def nested(error: Exception, depth: int) -> Exception:
    """The error, raised that many calls deep."""

    def even(left: int) -> None:  # in turn with odd, since equal lines would be shown as one
        if left == 0:
            raise error
        odd(left - 1)

    def odd(left: int) -> None:
        even(left - 1)

    try:
        even(depth)
    except Exception as raised:
        return raised
    raise AssertionError

"""A resolver in the child of a fork."""

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable

import pytest

from discovery.client.resolver import Resolver
from discovery.sources.base import FixedSource
from tests.made import FakeClock, HeldSource, observed, reading, service

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def in_child(work: Callable[[], bool]) -> bool:
    """Whether `work` was true in a forked child; the child never returns into pytest."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is the point
        child = os.fork()
    if child == 0:
        signal.alarm(20)
        try:
            os._exit(0 if work() else 1)
        except BaseException:
            traceback.print_exc(file=sys.stderr)
            os._exit(2)
    return os.waitpid(child, 0)[1] == 0


def test_a_child_answers_from_memory_and_refreshes_by_itself() -> None:
    """It has its own thread from its first call on, and the parent goes on undisturbed."""
    source = FixedSource(observed(reading(service("web", 1))))
    with Resolver(source=source, clock=FakeClock()) as resolver:
        resolver.endpoints("web")

        def work() -> bool:
            known = resolver.endpoints("web")[0].host == "10.0.0.1"
            source.say(observed(reading(service("web", 2))))
            resolver.refresh()
            own = resolver.endpoints("web")[0].host == "10.0.0.2"
            resolver.close()
            return known and own

        assert in_child(work)
        resolver.refresh()
        assert resolver.endpoints("web")[0].host == "10.0.0.1"


def test_a_hot_call_in_the_child_starts_the_refreshing_again() -> None:
    """Not only cold calls: memory that nobody refreshes would grow old unnoticed."""
    source = FixedSource(observed(reading(service("web", 1))))
    with Resolver(source=source, clock=FakeClock()) as resolver:
        resolver.endpoints("web")

        def work() -> bool:
            stopped = not resolver._refresher.is_running
            resolver.endpoints("web")
            return stopped and resolver._refresher.is_running

        assert in_child(work)


def test_a_fork_during_a_load_leaves_no_lock_held() -> None:
    """The child's first call loads anew, whatever the parent's thread was doing."""
    source = HeldSource(observed(reading(service("web", 1))))
    with Resolver(source=source, clock=FakeClock()) as resolver:
        resolver.start()
        resolver.hurry()
        load = resolver._refresher.ask(("demo", "web"), resolver.snapshot)
        assert load is not None
        assert source.entered.acquire(timeout=10)
        with resolver._refresher._lock, resolver._catalog._lock, resolver._bell._lock:

            def work() -> bool:
                source.let_go.release(9)
                answered = resolver.endpoints("web")[0].host == "10.0.0.1"
                goes_on = (resolver._refresher._pause_s() or 0) <= 11
                return answered and goes_on and not load.ended

            assert in_child(work)
        source.let_go.release(9)

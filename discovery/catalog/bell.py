"""Waiting for news, from threads and from coroutines alike.

Rule 1: whoever waits is armed before it looks, so no ring is lost between the two.
Rule 2: ringing wakes and never waits; a slow waiter finds the latest state when it comes to look.
Rule 3: nothing foreign is called under the lock.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

Clock = Callable[[], float]


class Bell:
    """Rings when something may have changed; waiters look for themselves whether it did."""

    def __init__(self, monotonic: Clock = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._armed: set[Callable[[], object]] = set()

    def ring(self) -> None:
        """Wake everybody who waits."""
        with self._lock:
            armed, self._armed = self._armed, set()
        for wake in armed:
            wake()

    def wait(self, done: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Block until `done()` or the timeout; whether it is done. `None` waits for ever."""
        deadline = self._deadline(timeout_s)
        while not done():
            rung = threading.Event()
            with self._arming(rung.set):
                if done():
                    return True
                left = self._left(deadline)
                if left == 0 or not rung.wait(left):
                    return done()
        return True

    async def wait_async(self, done: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """The same for a coroutine: its event loop goes on meanwhile."""
        import asyncio  # costs as much to import as all else here; who awaits has it already

        deadline = self._deadline(timeout_s)
        loop = asyncio.get_running_loop()
        while not done():
            rung = asyncio.Event()
            with self._arming(partial(_call_in, loop, rung.set)):
                if done():
                    return True
                try:
                    await asyncio.wait_for(rung.wait(), self._left(deadline))
                except TimeoutError:
                    return done()
        return True

    def renew_after_fork(self) -> None:
        """In the child of a fork: the lock may be held, and the waiters are not here."""
        self._lock = threading.Lock()
        self._armed = set()

    @contextlib.contextmanager
    def _arming(self, wake: Callable[[], object]) -> Iterator[None]:
        with self._lock:
            self._armed.add(wake)
        try:
            yield
        finally:
            with self._lock:
                self._armed.discard(wake)

    def _deadline(self, timeout_s: float | None) -> float | None:
        return None if timeout_s is None else self._monotonic() + timeout_s

    def _left(self, deadline: float | None) -> float | None:
        return None if deadline is None else max(0.0, deadline - self._monotonic())


def _call_in(loop: "asyncio.AbstractEventLoop", call: Callable[[], object]) -> None:
    # A loop that was closed with a waiter in it has nobody left to wake.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call)

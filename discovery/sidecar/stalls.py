"""How late threads and event loops have their turn, looked at a few times a second.

What holds up this thread (a long garbage collection, the interpreter's lock) holds up the one that
answers DNS, too; an event loop is also held up by a callback that takes long.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Mapping

EVERY_S = 0.25
INTERPRETER = "interpreter"

Loop = Callable[[], asyncio.AbstractEventLoop | None]


class Stalls:
    """Looks from `start` to `close`; `tell` hears of each look, by name and seconds."""

    def __init__(
        self,
        loops: Mapping[str, Loop],
        tell: Callable[[str, float], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loops = loops
        self._tell = tell
        self._monotonic = monotonic
        self._asked: set[str] = set()  # a loop that does not answer is not asked again
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stalls", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Stop; safe to call twice, and before the start."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def look(self) -> None:
        """Ask all loops that are there."""
        for name, get in self._loops.items():
            loop = get()
            if loop is None or name in self._asked:
                continue
            self._asked.add(name)
            with contextlib.suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(self._came, name, self._monotonic())

    def _came(self, name: str, asked_at: float) -> None:
        self._asked.discard(name)
        self._tell(name, self._monotonic() - asked_at)

    def _run(self) -> None:
        began = self._monotonic()
        while not self._closed.wait(EVERY_S):
            self._tell(INTERPRETER, max(0.0, self._monotonic() - began - EVERY_S))
            self.look()
            began = self._monotonic()

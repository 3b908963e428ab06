"""Signals as values to wait for, instead of exceptions that may arise anywhere.

The handler writes a byte to a pipe and does nothing else: taking a lock there could wait for ever
on the very thread that it interrupted.
"""

import contextlib
import os
import select
import signal
from types import FrameType, TracebackType
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Receives SIGINT and SIGTERM while entered; for the main thread only."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        for number in STOPPING:
            self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)

    def wait(self, timeout_s: float | None = None) -> int | None:
        """The next signal's number, or `None` when the time is over. Blocks; `None` for ever."""
        ready, _, _ = select.select([self._read], [], [], timeout_s)
        return os.read(self._read, 1)[0] if ready else None

    def _received(self, number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(BlockingIOError):  # thousands wait already: enough said
            os.write(self._write, bytes([number]))

"""The health checks that target groups send: a TCP connect, or an HTTP request on one.

A check reports by callback, as a process does, so that a fake one can answer on a fake clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from discovery.local.targets import FAILED, MISMATCH, TIMEOUT, Outcome, matches

_HEAD_LIMIT = 1 << 12


@dataclass(frozen=True, slots=True)
class Probe:
    """One check to be made: `path` None is a TCP connect."""

    address: str
    port: int
    timeout_s: float
    path: str | None = None
    matcher: str = "200"


class Prober(Protocol):
    """Makes checks."""

    def probe(self, wanted: Probe, done: Callable[[Outcome], None]) -> None:
        """Make one; `done` is called once with what came of it, maybe before this returns."""
        ...


class Sockets:
    """Checks over real sockets, on the running event loop."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def probe(self, wanted: Probe, done: Callable[[Outcome], None]) -> None:
        """See `Prober`."""
        task = asyncio.get_running_loop().create_task(_report(wanted, done))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """Give up what is under way."""
        running = tuple(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _report(wanted: Probe, done: Callable[[Outcome], None]) -> None:
    try:
        async with asyncio.timeout(wanted.timeout_s):
            outcome = await _made(wanted)
    except TimeoutError:
        # “Applies only to Application Load Balancers”: over TCP it is a failed check
        outcome = Outcome(FAILED if wanted.path is None else TIMEOUT)
    except (OSError, ValueError):
        outcome = Outcome(FAILED)
    done(outcome)


async def _made(wanted: Probe) -> Outcome:
    reader, writer = await asyncio.open_connection(wanted.address, wanted.port, limit=_HEAD_LIMIT)
    try:
        if wanted.path is None:
            return Outcome()
        host = f"{wanted.address}:{wanted.port}"
        head = f"GET {wanted.path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        writer.write(f"{head}User-Agent: ELB-HealthChecker/2.0\r\n\r\n".encode())
        await writer.drain()
        version, _, rest = (await reader.readline()).partition(b" ")
        if not version.startswith(b"HTTP/"):
            return Outcome(FAILED)
        status = int(rest[:3])
        return Outcome() if matches(wanted.matcher, status) else Outcome(MISMATCH, status)
    finally:
        writer.close()

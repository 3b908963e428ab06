"""Hosts that vanish without a word: their addresses take packets and never answer.

A process that is frozen still has connections accepted for it by the kernel, until the queue of
its listener is full; from then on connection attempts are dropped, as on a host without power.
So the queues are filled with connections that are closed at once: they stay in the queue.
Connections made before stay open and silent. Where packets can be dropped (as root, or in a
network namespace of one's own) a hook that drops them by address is the truer way.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable

_TIMEOUT_S = 0.25
_MOST = 20_000
_GIVE_UP_S = 30.0


def fill(endpoints: Iterable[tuple[str, int]]) -> None:
    """Return when connecting to each frozen TCP endpoint is no longer answered.

    Raises RuntimeError where an endpoint goes on accepting: its process is not frozen.
    """
    for address, port in endpoints:
        _fill(address, port)


def _fill(address: str, port: int) -> None:
    end = time.monotonic() + _GIVE_UP_S
    unanswered = 0
    for _ in range(_MOST):
        if unanswered == 2:
            return
        if time.monotonic() > end:
            break
        try:
            socket.create_connection((address, port), _TIMEOUT_S).close()
            unanswered = 0
        except TimeoutError:
            unanswered += 1
        except OSError:
            return  # nobody listens there
    raise RuntimeError(f"{address}:{port} goes on accepting connections")

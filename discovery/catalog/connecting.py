"""Connecting to many addresses at once, to see whether anybody listens: TCP, in one thread.

Rule 1: what is our own trouble (no descriptor, no port left) is no result: the place is "untried".
Rule 2: nothing is sent; a connection that is made is closed at once.
"""

import errno
import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Iterable

from discovery.health.evidence import Outcome

Place = tuple[str, int]  # an IP address and a port

TIMEOUT_S = 0.5
AT_ONCE = 200

_UNDER_WAY = {errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR}
_REFUSED = {errno.ECONNREFUSED, errno.ECONNRESET}
_SCARCE = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_OURS = {*_SCARCE, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EINVAL, errno.EAGAIN}


def connected(
    places: Iterable[Place],
    timeout_s: float = TIMEOUT_S,
    within_s: float = float("inf"),
    at_once: int = AT_ONCE,
) -> dict[Place, Outcome]:
    """What came of connecting to each place; those missing could not be tried in time.

    Blocks for `timeout_s` a batch of `at_once`, and no longer than `within_s` in all.
    """
    waiting = deque(dict.fromkeys(places))
    found: dict[Place, Outcome] = {}
    ends_at = time.monotonic() + within_s
    # `poll`, which takes no descriptor of its own, unlike the default.
    with selectors.PollSelector() as selector:
        try:
            while waiting or selector.get_map():
                _begin(waiting, selector, found, at_once, timeout_s)
                _wait(selector, found, ends_at)
                if time.monotonic() >= ends_at:
                    break
        finally:
            for key in list(selector.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]  # only sockets are registered
    return found


def _begin(
    waiting: "deque[Place]",
    selector: selectors.BaseSelector,
    found: dict[Place, Outcome],
    at_once: int,
    timeout_s: float,
) -> None:
    while waiting and len(selector.get_map()) < at_once:
        host, port = place = waiting.popleft()
        try:
            it = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as error:
            if error.errno in _SCARCE and selector.get_map():
                waiting.appendleft(place)  # those under way may give some back
                return
            found[place] = "untried", _words(error.errno)
            continue
        it.setblocking(False)
        try:
            code = it.connect_ex((host, port))
        except (OSError, OverflowError):
            it.close()
            found[place] = "untried", "not an address"
            continue
        if code in _UNDER_WAY:
            deadline = time.monotonic() + timeout_s
            selector.register(it, selectors.EVENT_WRITE, (place, deadline))
        else:
            _end(it, place, code, found)


def _wait(selector: selectors.BaseSelector, found: dict[Place, Outcome], ends_at: float) -> None:
    under_way = list(selector.get_map().values())
    if not under_way:
        return
    now = time.monotonic()
    first = min(key.data[1] for key in under_way)
    for key, _ in selector.select(max(0.0, min(first, ends_at) - now)):
        it: socket.socket = key.fileobj  # type: ignore[assignment]  # only sockets are registered
        selector.unregister(it)
        _end(it, key.data[0], it.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), found)
    now = time.monotonic()
    for key in list(selector.get_map().values()):
        place, deadline = key.data
        if now >= deadline:
            selector.unregister(key.fileobj)
            key.fileobj.close()  # type: ignore[union-attr]  # only sockets are registered
            found[place] = "silent", "timed out"


def _end(it: socket.socket, place: Place, code: int, found: dict[Place, Outcome]) -> None:
    with it:
        if code == 0 and it.getsockname() == it.getpeername():
            code = errno.ECONNREFUSED  # by chance the system chose that very port for our side
    if code == 0:
        found[place] = "accepted", ""
    elif code in _REFUSED:
        found[place] = "refused", ""
    else:
        found[place] = "untried" if code in _OURS else "silent", _words(code)


def _words(code: int | None) -> str:
    return os.strerror(code or 0).lower()

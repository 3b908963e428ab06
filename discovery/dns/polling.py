"""Which sockets can go on: epoll as it is on Linux, poll elsewhere.

The `selectors` module hides that a connection is dead from whoever wants nothing of it at the
moment, and costs a fifth of what a connection for one query does.
"""

import select
import socket
import sys

IN, OUT, DEAD = select.POLLIN, select.POLLOUT, select.POLLERR | select.POLLHUP


class Poller:
    """Descriptors and what is wanted of each: `IN`, `OUT`, both or nothing.

    `DEAD` is told of every one. Owned by one thread; a socket is to be closed by `close_with`, or
    unregistered before.
    """

    def __init__(self) -> None:
        if sys.platform == "linux":
            self._system = select.epoll()
            self._second = 1.0  # what its timeouts count in
            self.close = self._system.close
        else:
            self._system = select.poll()
            self._second = 1_000.0
            self.close = lambda: None
        self.register = self._system.register
        self.modify = self._system.modify
        self.unregister = self._system.unregister

    def close_with(self, sock: socket.socket) -> None:
        """Close a socket and hear of it no more; epoll forgets by itself what is closed."""
        if sys.platform != "linux":
            self.unregister(sock.fileno())
        sock.close()

    def poll(self, pause_s: float | None) -> list[tuple[int, int]]:
        """What happened, by descriptor; waits so long at most, or for ever."""
        return self._system.poll(None if pause_s is None else pause_s * self._second)

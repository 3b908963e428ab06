"""How many connections there is room for: descriptors are what an operating system counts.

Rule 1: only the sidecar's process asks for more than it was given; a library does not.
Rule 2: clients of the HTTP server get half of what there is; DNS, sources and files have the rest.
"""

import contextlib
import resource

MOST = 8_192  # a connection is some 50 KB of memory
_LEAST = 64


def raise_limit() -> None:
    """Take as many descriptors as we are allowed to, up to what we could use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MOST if hard == resource.RLIM_INFINITY else min(2 * MOST, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connections() -> int:
    """How many connections of clients there is room for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else max(_LEAST, min(MOST, soft // 2))


def waits(connections: int) -> int:
    """How many of these may wait, so that others are answered meanwhile."""
    return connections * 4 // 5

"""Which URLs are ours, and the name that each asks for. Pure.

Ours are names in the zone, single labels, and `SERVICE.CLUSTER` of a known cluster, each also
behind `_PORT._tcp.`; every other host is the world's, addresses and `localhost` included.
"""

from collections.abc import Sequence
from functools import lru_cache

from discovery.names import is_address

_PROTOCOLS = ("_tcp", "_udp")


@lru_cache(4_096)
def name_in(host: str, port: int | None, labels: tuple[str, ...], zone: str) -> str | None:
    """The name to resolve for a URL's host and explicit port; `None` where it is not ours.

    The port of a URL is the container's, which is the one that a caller knows. A named port in
    the host goes before it.
    """
    host = host.rstrip(".")
    head, _, rest = host.partition(".")
    protocol, _, service = rest.partition(".")
    named = head.startswith("_") and protocol.lower() in _PROTOCOLS
    if not _is_ours((service if named else host).lower(), labels, zone.lower()):
        return None
    return host if named or port is None else f"_{port}._tcp.{host}"


def _is_ours(host: str, labels: Sequence[str], zone: str) -> bool:
    if not host or host == "localhost" or ":" in host:
        return False
    if "." not in host:
        return not host.isdecimal()  # 2130706433 is an address, too
    if host.endswith(f".{zone}"):
        return True
    return not is_address(host) and any(
        host.endswith(f".{label.lower()}") and "." not in host[: -len(label) - 1]
        for label in labels
    )

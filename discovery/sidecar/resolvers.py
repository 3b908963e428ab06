"""The resolvers to forward to, as settings and `/etc/resolv.conf` have them.

We are often the first in that file ourselves; asking ourselves would be a loop. The file may change
while we run: a container's is often written late.
"""

import contextlib
import ipaddress
import logging
import socket
from collections.abc import Iterable
from pathlib import Path

from discovery.dns.relay import nameservers
from discovery.written import Address, Forward

RESOLV_CONF = Path("/etc/resolv.conf")
Routes = dict[str, list[tuple[str, int]]]
_DNS_PORT = 53
_LOOPBACK = ("127.0.0.1", "::1")
_log = logging.getLogger("discovery.dns")


class Resolvers:
    """Whom to ask at the moment, by zone: call it. For one thread at a time.

    While the file cannot be read or names nobody else, those of before go on being asked.
    """

    def __init__(
        self, forwards: Iterable[Forward], own: Address, resolv_conf: Path = RESOLV_CONF
    ) -> None:
        self._forwards = tuple(forwards)
        self._own = own
        self._resolv_conf = resolv_conf
        self._listed: list[Address] = []
        self._told = ""

    def __repr__(self) -> str:
        return f"<Resolvers for {len(self._forwards)} routes, system: {self._listed}>"

    def __call__(self) -> Routes:
        """The routes as they are now."""
        if any(forward.resolver is None for forward in self._forwards):
            self._look()
        found: Routes = {}
        for forward in self._forwards:
            several = [forward.resolver] if forward.resolver else self._listed
            found.setdefault(forward.zone, []).extend((a.host, a.port) for a in several)
        return {zone: several for zone, several in found.items() if several}

    def _look(self) -> None:
        try:
            text, trouble = self._resolv_conf.read_text(errors="replace"), ""
        except OSError as error:
            text, trouble = "", f"cannot read {self._resolv_conf}: {error.strerror}"
        listed = [Address(host, _DNS_PORT) for host in nameservers(text)]
        others = [address for address in listed if not _is_own(address, self._own)]
        if not others:
            kept = "the former ones are asked" if self._listed else "nothing is forwarded there"
            trouble = trouble or f"{self._resolv_conf} names no other resolver: {kept}"
        if trouble and trouble != self._told:
            _log.warning("%s", trouble)
        self._told = trouble
        self._listed = others or self._listed


def _is_own(address: Address, own: Address) -> bool:
    if address.port != own.port:
        return False
    ours, theirs = ipaddress.ip_address(own.host), ipaddress.ip_address(address.host)
    if isinstance(theirs, ipaddress.IPv6Address) and theirs.ipv4_mapped:
        theirs = theirs.ipv4_mapped
    if theirs.is_unspecified:  # as the C library has it
        theirs = ipaddress.ip_address(_LOOPBACK[theirs.version == 6])
    if not ours.is_unspecified:
        return ours == theirs
    if theirs.is_loopback and str(theirs) not in _LOOPBACK:
        # Whoever lists such an address has a resolver there, as Docker has at 127.0.0.11, where a
        # packet filter takes queries to it. A loop would be noticed as soon as a query comes back.
        return False
    return (ours.version == theirs.version or ours.version == 6) and _is_here(str(theirs))


def _is_here(host: str) -> bool:
    """Whether an address is one of this machine's: only to those can a socket be bound."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        return True
    return False

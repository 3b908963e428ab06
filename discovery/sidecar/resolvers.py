"""The resolvers to forward to, as settings and `/etc/resolv.conf` have them.

We are often the first in that file ourselves; asking ourselves would be a loop.
"""

import ipaddress
import logging
from collections.abc import Iterable
from pathlib import Path

from discovery.dns.relay import nameservers
from discovery.settings import Address, Forward

RESOLV_CONF = Path("/etc/resolv.conf")
_DNS_PORT = 53
_log = logging.getLogger("discovery.dns")


def routes(
    forwards: Iterable[Forward], own: Address, resolv_conf: Path = RESOLV_CONF
) -> dict[str, list[tuple[str, int]]]:
    """Whom to ask, by zone; the empty zone is for all names that have no other."""
    found: dict[str, list[tuple[str, int]]] = {}
    for forward in forwards:
        several = [forward.resolver] if forward.resolver else _system(resolv_conf, own)
        found.setdefault(forward.zone, []).extend((a.host, a.port) for a in several)
    return {zone: several for zone, several in found.items() if several}


def _system(resolv_conf: Path, own: Address) -> list[Address]:
    try:
        listed = [Address(host, _DNS_PORT) for host in nameservers(resolv_conf.read_text())]
    except OSError as error:
        listed = []
        _log.warning("cannot read %s: %s", resolv_conf, error.strerror)
    others = [address for address in listed if not _is_own(address, own)]
    if not others:
        _log.warning("%s names no other resolver: nothing is forwarded there", resolv_conf)
    return others


def _is_own(address: Address, own: Address) -> bool:
    if address.port != own.port:
        return False
    ours = ipaddress.ip_address(own.host)
    theirs = ipaddress.ip_address(address.host.partition("%")[0])
    return ours == theirs or (ours.is_unspecified and theirs.is_loopback)

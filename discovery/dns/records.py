"""Record data in wire form, and the labels that addresses have in names.

dnslib encodes; it never sees anything that came from the network. Names are in wire form, as
everywhere in this room, so that the data of PTR and NS is just the name.
"""

import ipaddress
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import dnslib
from dnslib.label import DNSBuffer

from discovery.dns import wire

MAX_STRING = 255  # RFC 1035 §3.3: a character-string's length is one octet
_CACHED_ADDRESSES = 65_536


def a_or_aaaa(address: str) -> tuple[int, bytes] | None:
    """The record type and data of an IP address in text; `None` for what is no address."""
    known = _address(address)
    return known[:2] if known else None


def node_label(address: str) -> bytes | None:
    """How a host is called: `ip-10-0-1-10`, or all of an IPv6 address with dashes."""
    known = _address(address)
    return known[2] if known else None


@lru_cache(_CACHED_ADDRESSES)
def _address(address: str) -> tuple[int, bytes, bytes] | None:
    parsed = parsed_address(address)
    if parsed is None:
        return None
    if parsed.version == 4:
        label = f"ip-{str(parsed).replace('.', '-')}"
        return wire.A, _packed(dnslib.A(str(parsed))), label.encode()
    # Not `exploded`, which writes mapped addresses with dots from Python 3.13 on.
    label = f"ip-{parsed.packed.hex('-', 2)}"
    return wire.AAAA, _packed(dnslib.AAAA(tuple(parsed.packed))), label.encode()


def srv(priority: int, weight: int, port: int, target: bytes) -> bytes:
    """SRV (RFC 2782); the target is in wire form already, which leaves dnslib nothing to do."""
    return struct.pack("!3H", priority, weight, port) + target


def srv_target(data: bytes) -> bytes:
    """The target in the data of an SRV record."""
    return data[6:]


def txt(strings: Sequence[str]) -> bytes:
    """TXT of several strings, each cut to what a character-string holds."""
    return _packed(dnslib.TXT([text.encode()[:MAX_STRING] for text in strings]))


def hinfo(cpu: str, os: str = "") -> bytes:
    """HINFO (RFC 1035 §3.3.2): two character-strings, which is how TXT has them, too."""
    return txt((cpu, os))


def soa(primary: bytes, mailbox: bytes, serial: int, ttl_s: int) -> bytes:
    """SOA; nobody transfers this zone, so refresh, retry and expiry are only decent values.

    `ttl_s` is how long negative answers may be cached (RFC 2308 §4). dnslib would compress the
    second name against the start of the data, which is not where it will be in a message.
    """
    return primary + mailbox + struct.pack("!5I", serial & 0xFFFF_FFFF, 60, 10, 3_600, ttl_s)


def parsed_address(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address, or `None` for what is none; a zone index (`fe80::1%eth0`) is no part of DNS."""
    try:
        return ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None


def node_address(label: bytes) -> str | None:
    """The address that a host's label stands for, in canonical text."""
    text = label.decode("ascii", "replace")
    separator = ":" if text.count("-") == 8 else "."
    parsed = parsed_address(text.removeprefix("ip-").replace("-", separator))
    return str(parsed) if parsed and node_label(str(parsed)) == label else None


def reverse_address(labels: Sequence[bytes]) -> str | None:
    """The address whose reverse name has these labels, in canonical text."""
    text = b".".join(labels).decode("ascii", "replace")
    if text.endswith(".in-addr.arpa") and len(labels) == 6:
        candidate = ".".join(reversed(text.split(".")[:4]))
    elif text.endswith(".ip6.arpa") and len(labels) == 34:
        digits = "".join(reversed(text.split(".")[:32]))
        candidate = ":".join(digits[n : n + 4] for n in range(0, 32, 4))
    else:
        return None
    parsed = parsed_address(candidate)
    return str(parsed) if parsed and parsed.reverse_pointer == text else None


def _packed(data: Any) -> bytes:
    buffer = DNSBuffer()
    data.pack(buffer)
    return bytes(buffer.data)

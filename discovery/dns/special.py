"""Special-use names: which are never asked of a resolver, unless a route of their own says so.

Only those that mean the same everywhere. Zones such as `test`, `local`, `home.arpa` and reverse
names of private addresses are often somebody's own: whoever is asked knows them, or denies them.
"""

from discovery.dns import answers, records, wire
from discovery.dns.answers import Answer

_TTL_S = 10_800  # RFC 6303 §3
_LOCALHOST = wire.name_of(b"localhost")  # RFC 6761 §6.3
_RESOLVER = wire.name_of(b"resolver", b"arpa")  # RFC 9462: a resolver says so of itself alone
_NOBODYS = (
    wire.name_of(b"invalid"),  # RFC 6761 §6.4
    wire.name_of(b"onion"),  # RFC 7686 §2
    wire.name_of(b"alt"),  # RFC 9476 §3
)
_TOPS = (_LOCALHOST, _RESOLVER, *_NOBODYS)
_ROOT = wire.name_of()
_NOBODY = wire.name_of(b"nobody", b"invalid")
_LOOPBACK = {wire.A: bytes((127, 0, 0, 1)), wire.AAAA: bytes(15) + b"\1"}


def top_of(name: bytes) -> bytes:
    """The special-use name that this one is, or is below; empty for all others."""
    at = 0 if name.endswith(_TOPS) else len(name) - 1
    while name[at]:
        if name[at:] in _TOPS:
            return name[at:]
        at += 1 + name[at]
    return b""


def answer(name: bytes, kind: int) -> Answer | None:
    """What is said of a special-use name without asking anybody; `None` for other names."""
    top = top_of(name)
    if not top:
        return None
    if top == _LOCALHOST and kind in _LOOPBACK:
        return Answer(type=kind, ttl_s=_TTL_S, data=(_LOOPBACK[kind],))
    # What the root would say: that there is no such name; the others are zones without such data.
    rcode, zone = (wire.NXDOMAIN, _ROOT) if top in _NOBODYS else (wire.NOERROR, top)
    soa = wire.Record(zone, wire.SOA, _TTL_S, records.soa(zone, _NOBODY, 1, _TTL_S))
    return Answer(rcode, authority=(soa,), extended=(answers.OTHER, "a special-use name"))

"""How long a reply may be kept as a whole, as HTTP caches do."""

import struct

from discovery.dns import wire

_RECORD = struct.Struct("!HHIH")
_MINIMUM = struct.Struct("!I")
_COUNTS = struct.Struct("!4H")
_POINTER = 0xC0


def lifetime_s(reply: bytes) -> int:
    """Seconds for which a reply of ours holds (RFC 8484 §5.1); 0 where it says nothing.

    It is the smallest TTL of the answers; without answers that of the SOA, or its MINIMUM if that
    is less (RFC 2308 §5).
    """
    questions, answers, authorities, _ = _COUNTS.unpack_from(reply, 4)
    at = wire.HEADER_SIZE
    for _ in range(questions):
        at = _owner_end(reply, at) + 4
    found = []
    for n in range(answers + authorities):
        at = _owner_end(reply, at)
        kind, _, ttl_s, size = _RECORD.unpack_from(reply, at)
        at += _RECORD.size + size
        if n < answers:
            found.append(ttl_s)
        elif not answers and kind == wire.SOA:
            found.append(min(ttl_s, _MINIMUM.unpack_from(reply, at - _MINIMUM.size)[0]))
    return min(found, default=0)


def _owner_end(reply: bytes, at: int) -> int:
    while (length := reply[at]) and length < _POINTER:
        at += 1 + length
    return at + (2 if length else 1)

"""Coverage-guided fuzzing of all that reads octets from the network.

Run as `python -m tests.dns.fuzz -max_total_time=60` where atheris is installed; further arguments
are libFuzzer's. The first octet of an input says where the rest goes: into the responder as it is,
behind a good question, or into the forwarder as an upstream's reply.
"""

import sys
from random import Random

import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]

with atheris.instrument_imports(include=["discovery.dns"]):
    from discovery.dns import relay, wire
    from discovery.dns.cookies import Cookies
    from discovery.dns.lifetime import lifetime_s
    from discovery.dns.responder import Identity, Responder

import dns.message
import dns.rdatatype

from tests.dns.world import APEX, NOW, SNAPSHOT, packet, question

KEY: relay.Key = (wire.name_of(b"www", b"example"), wire.A, False, False)
SENT = relay.query_for(KEY, 0x1234, 0, True)
CLIENT = wire.read(SENT)
OPT = wire.opt(wire.NOERROR, False, ())
ASKED = question("_http._tcp.orders.prod.ecs.internal", wire.SRV)
RESPONDERS = [
    Responder(APEX, Identity(b"n"), Cookies(bytes(16)), Random(1).randrange, stream=stream)
    for stream in (False, True)
]


def one_input(data: bytes) -> None:
    """Whatever the octets are, the reply is well-formed and within its size, or there is none."""
    if not data:
        return
    way, rest = data[0] % 4, data[1:]
    if way == 0:
        query(rest)
    elif way == 1:
        query(packet(ASKED, rest))
    elif way == 2:
        upstream_reply(rest)
    else:
        upstream_reply(
            SENT[:2] + b"\x81\x80\0\1" + rest[:6].ljust(6, b"\0") + SENT[12:29] + rest[6:]
        )


def query(octets: bytes) -> None:
    """To a client."""
    for responder, limit in zip(RESPONDERS, (wire.OUR_SIZE, wire.STREAM_SIZE), strict=True):
        responder.begin(SNAPSHOT, NOW)
        try:
            reply = responder.respond(octets, NOW, "192.0.2.1")
        except wire.Dropped:
            continue
        assert isinstance(reply, bytes)
        assert reply[:2] == octets[:2]
        assert wire.HEADER_SIZE <= len(reply) <= limit
        message = dns.message.from_wire(reply)
        assert lifetime_s(reply) == min(
            (rrset.ttl for rrset in message.answer), default=soa_s(message)
        )


def soa_s(message: dns.message.Message) -> int:
    """How long a reply without answers holds."""
    several = [rrset for rrset in message.authority if rrset.rdtype == dns.rdatatype.SOA]
    return min((min(rrset.ttl, rrset[0].minimum) for rrset in several), default=0)


def upstream_reply(octets: bytes) -> None:
    """To the forwarder: whatever it believes, each client gets a message that can be walked."""
    for stream in (False, True):
        found = relay.read(octets, SENT, stream)
        if found is None:
            continue
        for room in (wire.PLAIN_SIZE, wire.STREAM_SIZE):
            message = found.message(CLIENT, 1.0, room, OPT)
            assert len(message) <= room
            again = relay.read(SENT[:2] + message[2:], SENT, stream)
            assert again is not None
            assert sum(again.counts) <= sum(found.counts)
            assert 0 <= lifetime_s(message) <= 0x7FFF_FFFF


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()

"""Packed answers say what the general writer says, in every order."""

import tracemalloc
from collections import Counter
from itertools import islice
from random import Random

import dns.message
import pytest

from discovery.dns import wire
from discovery.dns.answers import Answer, answer
from discovery.dns.orders import Ordering
from discovery.dns.packing import MAX_BODIES, Packed
from discovery.dns.zone import Zone
from discovery.model import Service
from tests.dns.world import APEX, NOW, PAY, SNAPSHOT, many, packet, question, snapshot


def asked(name: str, kind: int, *services: Service) -> tuple[wire.Query, Answer]:
    """A query and what it is answered."""
    query = wire.read(packet(question(name, kind)))
    zone = Zone(snapshot(*services) if services else SNAPSHOT, APEX)
    return query, answer(zone, query.name, query.type, NOW)


def read(query: wire.Query, body: wire.Body) -> dns.message.Message:
    """The reply with this body, as dnspython understands it."""
    return dns.message.from_wire(wire.reply(query, 0, 0, body, b""), one_rr_per_rrset=True)


def shown(message: dns.message.Message) -> tuple[list[str], Counter[str]]:
    """Its answers in order, and what else there is."""
    return [str(r) for r in message.answer], Counter(map(str, message.additional))


@pytest.mark.parametrize("kind", [wire.A, wire.AAAA, wire.SRV, wire.TXT])
@pytest.mark.parametrize("name", ["pay.ecs.internal", "orders.ecs.internal"])
def test_what_fits_is_packed_as_the_writer_does(name: str, kind: int) -> None:
    """The same records, each order's answers in that order, all pointers right."""
    query, found = asked(name, kind)
    packed = Packed(found, query.name, 1_232, "balanced", Random(1).randrange)
    whole = shown(read(query, found.packed(query.name, 1_232, range(len(found.data)))))
    for _ in range(2 * MAX_BODIES):
        answers, additional = shown(read(query, packed.body()))
        assert sorted(answers) == sorted(whole[0])
        assert additional == whole[1]


@pytest.mark.parametrize(("count", "room"), [(5, 512), (100, 512), (100, 1_232), (500, 65_535)])
def test_bodies_never_outgrow_their_room(count: int, room: int) -> None:
    """Whole records only; cut off only where they would not fit, and then it is said."""
    query, found = asked("many.ecs.internal", wire.SRV, many(count))
    packed = Packed(found, query.name, room, "balanced", Random(1).randrange)
    for _ in range(3):
        body = packed.body()
        reply = wire.reply(query, 0, 0, body, b"")
        assert len(reply) <= room
        assert body.truncated == (len(read(query, body).answer) < count)


@pytest.mark.parametrize(
    ("count", "room"), [(10, 1_232), (100, 512), (100, 1_232), (150, 65_535), (2_000, 65_535)]
)
def test_the_memory_of_an_answer_is_bounded_and_counted(count: int, room: int) -> None:
    """As it is measured, with as many orders as are ever kept."""
    query, found = asked("many.ecs.internal", wire.SRV, many(count))
    tracemalloc.start()
    try:
        packed = Packed(found, query.name, room, "balanced", Random(1).randrange)
        for _ in range(100):
            packed.body()
        octets = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert octets <= packed.octets + 10_000 + 500 * count
    assert packed.octets <= 300_000


@pytest.mark.parametrize(("count", "room"), [(1, 512), (10, 1_232), (100, 65_535)])
def test_the_memory_of_whole_replies_is_bounded_and_counted(count: int, room: int) -> None:
    """As it is measured, with as many orders as are ever kept."""
    query, found = asked("many.ecs.internal", wire.SRV, many(count))
    packed = Packed(found, query.name, room, "balanced", Random(1).randrange)
    tracemalloc.start()
    try:
        replies, counted = packed.replies(bytes(40), bytes(11))
        for _ in range(200):
            next(replies)
        octets = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert octets <= counted + 5_000 + 200 * count
    assert counted <= 300_000


@pytest.mark.parametrize("kind", [wire.A, wire.SRV, wire.TXT])
def test_whole_replies_have_the_records_of_bodies(kind: int) -> None:
    """Between what was given to stand before and behind them, in every order."""
    query, found = asked("pay.ecs.internal", kind)
    packed = Packed(found, query.name, 1_232, "balanced", Random(1).randrange)
    assert packed.counts is not None
    replies, _ = packed.replies(b"before", b"behind")
    bodies = {packed.body().records for _ in range(200)}
    for reply in islice(replies, 200):
        assert reply.startswith(b"before")
        assert reply.endswith(b"behind")
        assert reply[6:-6] in bodies


def test_records_come_first_equally_often_across_batches() -> None:
    """Also where only some orders are kept at a time, and in whole replies."""
    query, found = asked("many.ecs.internal", wire.A, many(10))
    packed = Packed(found, query.name, 1_232, "balanced", Random(1).randrange)
    firsts = Counter(str(read(query, packed.body()).answer[0]) for _ in range(4_000))
    assert set(firsts.values()) == {400}
    replies, _ = packed.replies(b"", b"")
    assert set(Counter(reply[:16] for reply in islice(replies, 4_000)).values()) == {400}


def test_whole_replies_go_on_to_other_orders() -> None:
    """What follows a record changes, so that what a dead one had is spread over all others."""
    query, found = asked("many.ecs.internal", wire.A, many(10))
    packed = Packed(found, query.name, 1_232, "balanced", Random(1).randrange)
    replies, _ = packed.replies(b"", b"")
    second = {reply[16:32] for reply in islice(replies, 20_000) if reply[12:16] == b"\x0a\0\0\x01"}
    assert len(second) == len({reply[12:16] for reply in islice(replies, 10)}) - 1


@pytest.mark.parametrize("ordering", ["weighted", "balanced"])
def test_unequal_weights_are_the_shares_of_first_places(ordering: Ordering) -> None:
    """That of the heavier of two addresses, across batches of orders."""
    query, found = asked("pay.ecs.internal", wire.A, PAY)
    packed = Packed(found, query.name, 1_232, ordering, Random(1).randrange)
    firsts = Counter(str(read(query, packed.body()).answer[0][0]) for _ in range(700))
    heavier = firsts["10.0.5.2"] / 700
    assert abs(heavier - 2.5 / 3.5) < 0.05

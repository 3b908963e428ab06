"""The responder: rotation, caches and limits, without a socket."""

import time
from collections import Counter
from random import Random

import dns.message
import dns.rcode
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.dns import responder as room
from discovery.dns import wire
from discovery.dns.cookies import Cookies
from discovery.dns.orders import Ordering
from discovery.dns.packing import Packed
from discovery.dns.responder import Identity, Responder
from discovery.dns.zone import Apex
from discovery.model import Cluster, Service, Snapshot
from tests.dns.test_wire import FORMERRS
from tests.dns.world import (
    APEX,
    NOW,
    ORDERS,
    PAY,
    SNAPSHOT,
    endpoint,
    many,
    opt,
    packet,
    question,
    snapshot,
)

SRV = question("_http._tcp.orders.ecs.internal", wire.SRV)
PLAIN = packet(SRV, opt())


def made(
    stream: bool = False,
    seed: int = 1,
    ordering: Ordering = "balanced",
    max_octets: int = room.MAX_OCTETS,
) -> Responder:
    """A responder with nothing remembered."""
    return Responder(
        *(APEX, Identity(nsid=b"here"), Cookies(bytes(16)), Random(seed).randrange),
        stream=stream,
        ordering=ordering,
        max_octets=max_octets,
    )


def raw(responder: Responder, octets: bytes, known: Snapshot = SNAPSHOT, now: float = NOW) -> bytes:
    """The reply as it is sent."""
    responder.begin(known, now)
    reply = responder.respond(octets, now, "192.0.2.1")
    assert isinstance(reply, bytes)
    return reply


def ask(
    responder: Responder,
    octets: bytes,
    known: Snapshot = SNAPSHOT,
    now: float = NOW,
) -> dns.message.Message:
    """The reply as dnspython reads it, strictly."""
    return dns.message.from_wire(raw(responder, octets, known, now), one_rr_per_rrset=True)


def first(message: dns.message.Message) -> str:
    """The first answer's data."""
    return str(message.answer[0][0])


@pytest.mark.parametrize(
    "octets",
    [
        PLAIN,
        packet(SRV),
        packet(SRV, opt((wire.COOKIE, b"c" * 8))),
        packet(question("_HTTP._tcp.OrDeRs.ecs.internal", wire.SRV), opt()),
    ],
    ids=["plain", "no EDNS", "cookie", "mixed case"],
)
def test_every_record_comes_first_equally_often(octets: bytes) -> None:
    """Whatever the form of the query, and whatever else is asked in between."""
    responder = made()
    firsts = Counter[str]()
    for _ in range(30):
        firsts[first(ask(responder, octets))] += 1
        ask(responder, packet(question("orders.ecs.internal"), opt()))
    assert set(firsts.values()) == {10}


@pytest.mark.parametrize("size", [3, 5, 10, 39])
def test_names_and_forms_that_are_asked_for_in_turns_have_each_their_own_turn(size: int) -> None:
    """Services on the same hosts, with and without EDNS: each record comes first equally often."""
    names = ("one", "two", "six")
    known = snapshot(*(many(size, name) for name in names))
    responder, firsts = made(), Counter[tuple[str, int, str]]()
    for _ in range(3 * size):
        for name in names:
            for form, extra in enumerate(((), (opt(),))):
                message = ask(responder, packet(question(f"{name}.ecs.internal"), *extra), known)
                firsts[name, form, first(message)] += 1
    assert len(firsts) == size * len(names) * 2
    assert set(firsts.values()) == {3}


def test_rotation_starts_anywhere() -> None:
    """So that many servers, and one after each change, do not all begin with the same endpoint."""
    starts = {first(ask(made(seed=seed), PLAIN)) for seed in range(20)}
    assert len(starts) == 3


def test_mixed_forms_of_one_question_share_one_turn() -> None:
    """A query in random case does not begin the rotation anew."""
    responder = made()
    mixed = packet(question("_Http._tCp.orDers.ecs.internal", wire.SRV), opt())
    got = [first(ask(responder, octets)) for octets in (PLAIN, mixed, PLAIN)]
    assert len(set(got)) == 3


def test_the_question_is_echoed_byte_for_byte_from_memory_too() -> None:
    """Case, id and flags are those of the query at hand, however often the answer was given."""
    responder = made()
    for name in ("_http._tcp.orders.ecs.internal", "_HTTP._TCP.Orders.ECS.Internal"):
        for ident, flags in ((1, wire.RD), (2, 0), (3, wire.RD)):
            asked = question(name, wire.SRV)
            reply = raw(responder, packet(asked, opt(), ident=ident, flags=flags))
            assert reply[12 : 12 + len(asked)] == asked
            head = dns.message.from_wire(reply)
            assert (head.id, bool(head.flags & dns.flags.RD)) == (ident, bool(flags))


def test_a_changed_snapshot_is_answered_at_once() -> None:
    """What was packed before is forgotten, also where index and times are the same."""
    responder = made()
    assert len(ask(responder, PLAIN).answer) == 3
    assert not ask(responder, PLAIN, snapshot(PAY)).answer
    assert len(ask(responder, PLAIN).answer) == 3


def test_stale_answers_are_fresh_again_with_the_next_read() -> None:
    """A read that changes nothing but the times ends the extended error."""
    responder = made()
    late = NOW + 100
    assert not ask(responder, PLAIN).extended_errors()
    assert [e.code for e in ask(responder, PLAIN, now=late).extended_errors()] == [3]
    assert [e.code for e in ask(responder, PLAIN, now=late).extended_errors()] == [3]
    read_again = snapshot(read_at=late)
    assert not ask(responder, PLAIN, read_again, now=late + 2).extended_errors()


def test_a_clock_that_is_set_back_makes_no_failure_last() -> None:
    """What was said in a time that has not come yet is asked again."""
    responder = made()
    assert ask(responder, PLAIN, now=NOW + 1_000_000).rcode() == dns.rcode.SERVFAIL
    assert len(ask(responder, PLAIN, snapshot(read_at=NOW)).answer) == 3
    late = ask(responder, PLAIN, now=NOW + 100)
    assert [e.code for e in late.extended_errors()] == [3]
    assert not ask(responder, PLAIN).extended_errors()


def test_a_read_that_changes_nothing_does_not_begin_the_rotation_anew() -> None:
    """Records take turns across reads, for as long as a reply is at hand."""
    responder = made()
    turns = []
    for n in range(9):
        now = NOW + 3 * n
        turns.append(first(ask(responder, PLAIN, snapshot(read_at=now), now)))
    assert all(len(set(turns[n : n + 3])) == 3 for n in (0, 3, 6))


def test_a_cluster_that_is_loaded_is_believed_at_once() -> None:
    """SERVFAIL before, NXDOMAIN after, though nothing that was known has changed."""
    responder = made()
    octets = packet(question("nope.late.ecs.internal"), opt())
    assert ask(responder, octets).rcode() == wire.SERVFAIL
    loaded = snapshot(clusters=(*SNAPSHOT.clusters[:2], Cluster("late", NOW)))
    assert ask(responder, octets, loaded).rcode() == wire.NXDOMAIN


@pytest.mark.parametrize("stream", [False, True], ids=["UDP", "TCP"])
@pytest.mark.parametrize("kind", [wire.A, wire.SRV])
def test_names_with_the_records_of_another_share_what_was_packed(kind: int, stream: bool) -> None:
    """Zones that nobody has can be invented without end; packing is what costs."""
    responder, known = made(stream), snapshot(many(200))
    names = [f"x{n}.prefer._zone.many.ecs.internal" for n in range(10, 60)]
    replies = [raw(responder, packet(question(n, kind), opt()), known) for n in names]
    assert repr(responder).endswith(" 1 answers packed>")
    for name, reply in zip(names, replies, strict=True):
        message = dns.message.from_wire(reply, one_rr_per_rrset=True)
        assert message.question[0].name.to_text() == name + "."
        assert {rrset.name.to_text() for rrset in message.answer} == {name + "."}
        assert bool(message.flags & dns.flags.TC) == (not stream)
    firsts = {first(dns.message.from_wire(r, one_rr_per_rrset=True)) for r in replies}
    assert len(firsts) >= 15  # they take turns; of long answers few orders are kept at a time


def test_a_name_server_is_called_alike_in_all_zones() -> None:
    """What points into the question is not shared with a question that is as long."""
    apex = Apex((b"discovery", b"example", b"com"), 5, 2)
    responder = Responder(apex, Identity(), Cookies(bytes(16)), Random(1).randrange)
    known = snapshot(Service("one", "prod", endpoints=(endpoint("1", "10.0.0.1", 80),)))
    for name in ("discovery.example.com", "1.0.0.10.in-addr.arpa"):
        answer = ask(responder, packet(question(name, wire.NS)), known).answer
        assert str(answer[0][0]) == "ns.dns.discovery.example.com."


def test_random_names_do_not_fill_the_memory() -> None:
    """Negative answers have a small bound, and take no room from the positive ones."""
    responder = made()
    ask(responder, PLAIN)
    for n in range(room.MAX_NEGATIVES + 100):
        raw(responder, packet(question(f"y.x{n}.ecs.internal")))
    assert repr(responder).endswith("1 answers packed>")
    assert 0 < len(responder._negatives) <= room.MAX_NEGATIVES


def test_sizes_and_cases_of_one_question_do_not_fill_the_memory() -> None:
    """Whoever varies what cannot matter adds nothing beyond the bound."""
    responder = made()
    for size in range(512, 1_233):
        raw(responder, packet(MANY, opt(size=size)), HUNDRED)
    assert 0 < responder._octets <= room.MAX_OCTETS
    for n in range(2_000):
        text = "".join(c.upper() if n >> at & 1 else c for at, c in enumerate("abcdefghijk"))
        raw(responder, packet(question(f"{text}.ecs.internal")))
    assert len(responder.shortcuts.ready) < 1_000


def test_a_change_does_not_double_the_memory() -> None:
    """What was packed for the snapshot before counts, too, until it is used or dropped."""
    limit = 200_000
    responder = made(max_octets=limit)
    for known in (HUNDRED, snapshot(many(99)), HUNDRED):
        for size in range(512, 1_233, 40):
            raw(responder, packet(MANY, opt(size=size)), known)
            kept = (*responder._answers.values(), *responder._before.values())
            assert 0 < sum(packed.octets for packed in kept) <= limit


def test_answers_that_a_change_leaves_alone_are_counted_once() -> None:
    """They are taken over, with nothing else pushed out."""
    responder = made(max_octets=100_000)
    kept: list[list[Packed]] = []
    for known in (HUNDRED, snapshot(many(100)), HUNDRED):
        for size in (512, 600):
            raw(responder, packet(MANY, opt(size=size)), known)
        kept.append(list(responder._answers.values()))
    assert len(kept[0]) == 2
    assert kept[0] == kept[1] == kept[2]  # the same objects


HUNDRED = snapshot(many(100), ORDERS)
THOUSANDS = snapshot(many(2_000))
MANY = question("many.ecs.internal", wire.SRV)


@pytest.mark.parametrize(
    ("octets", "known", "limit", "stream"),
    [
        (packet(MANY), HUNDRED, 512, False),
        (packet(MANY, opt(size=700)), HUNDRED, 700, False),
        (packet(MANY, opt(size=4_096)), HUNDRED, 1_232, False),
        (packet(MANY, opt((wire.COOKIE, b"c" * 8), (wire.NSID, b""))), HUNDRED, 1_232, False),
        (packet(MANY, opt((wire.COOKIE, b"c" * 8)), flags=0), THOUSANDS, 65_535, True),
    ],
    ids=["plain", "700", "4096", "with options", "stream"],
)
def test_what_does_not_fit_is_truncated_between_records(
    octets: bytes, known: Snapshot, limit: int, stream: bool
) -> None:
    """As many whole answers as fit, no additional record, TC; on TCP, too."""
    responder = made(stream)
    for _ in range(3):
        reply = raw(responder, octets, known)
        assert limit - 80 < len(reply) <= limit
        message = dns.message.from_wire(reply, one_rr_per_rrset=True)
        assert message.flags & dns.flags.TC
        assert message.answer
        assert not message.additional


def test_an_extended_error_counts_to_the_size() -> None:
    """Though the same answer was packed before for who cannot be told of it."""
    responder = made()
    addresses = question("many.ecs.internal")
    late = NOW + 100
    raw(responder, packet(addresses), HUNDRED, late)
    size = 512 + wire.OPT_SIZE
    reply = raw(responder, packet(addresses, opt(size=size)), HUNDRED, late)
    assert len(reply) <= size
    assert dns.message.from_wire(reply).extended_errors()


def test_an_extended_error_that_comes_later_counts_to_the_size() -> None:
    """What was packed without it leaves no room for it, whatever the size."""
    responder = made()
    for size in range(700, 760):
        asked = packet(MANY, opt(size=size))
        assert len(raw(responder, asked, HUNDRED)) <= size
    for size in range(700, 760):
        late = raw(responder, packet(MANY, opt(size=size)), HUNDRED, NOW + 100)
        assert len(late) <= size
        assert dns.message.from_wire(late).extended_errors()


def test_answers_between_16_and_64_kb_are_whole_on_tcp() -> None:
    """All records and all addresses; every pointer within reach."""
    known = snapshot(many(500))
    reply = raw(made(stream=True), packet(MANY), known)
    assert 16_384 < len(reply) < 65_535
    message = dns.message.from_wire(reply, one_rr_per_rrset=True)
    assert (len(message.answer), len(message.additional)) == (500, 500)
    assert not message.flags & dns.flags.TC


def test_additional_records_go_before_answers() -> None:
    """Where all answers fit and not all addresses do, nothing is said of it."""
    message = ask(made(), packet(question("many.ecs.internal", wire.SRV)), snapshot(many(8)))
    assert len(message.answer) == 8
    assert len(message.additional) < 8
    assert not message.flags & dns.flags.TC


@settings(max_examples=300)
@given(st.binary(max_size=300), st.booleans())
def test_whatever_comes_the_reply_is_well_formed(octets: bytes, stream: bool) -> None:
    """Arbitrary octets after a header are answered with something dnspython can read."""
    responder = made(stream)
    for candidate in (packet(octets), packet(SRV, octets), packet(SRV, opt() + octets)):
        reply = raw(responder, candidate)
        message = dns.message.from_wire(reply)
        assert message.id == 0x1234
        assert message.flags & dns.flags.QR


def test_what_fits_whole_is_packed_once_for_all_sizes() -> None:
    """A cookie or another size takes no memory of its own, until it matters."""
    responder = made()
    for size in range(600, 1_300, 50):
        assert len(ask(responder, packet(SRV, opt(size=size))).answer) == 3
    assert repr(responder).endswith("1 answers packed>")
    assert len(raw(responder, packet(SRV))) <= 512


def test_an_answer_that_grows_is_cut_off_as_it_should_be() -> None:
    """What fitted whole before the change, and does not any more, is packed for each size."""
    responder = made()
    for known in (snapshot(many(3)), HUNDRED, snapshot(many(3)), HUNDRED):
        for octets, limit in ((packet(MANY), 512), (packet(MANY, opt()), 1_232)):
            reply = raw(responder, octets, known)
            assert len(reply) <= limit
            assert same(reply) == same(raw(made(), octets, known))


def same(reply: bytes) -> tuple[int, int, bool]:
    """What the replies of two responders have in common where orders differ."""
    message = dns.message.from_wire(reply, one_rr_per_rrset=True)
    return len(message.answer), len(message.additional), bool(message.flags & dns.flags.TC)


@pytest.mark.parametrize("octets", FORMERRS.values(), ids=FORMERRS.keys())
def test_a_hostile_packet_costs_less_than_a_millisecond(octets: bytes) -> None:
    """The best of a few times, as others share the processor; over both transports."""
    for stream in (False, True):
        responder = made(stream)
        ask(responder, PLAIN)
        took_s = []
        for _ in range(5):
            start = time.thread_time()
            reply = raw(responder, octets)
            took_s.append(time.thread_time() - start)
        assert reply[3] & 0xF == wire.FORMERR
        assert min(took_s) < 0.001

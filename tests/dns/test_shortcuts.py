"""Shortcuts: never another reply than the long way's, and bounded."""

from dataclasses import replace

import dns.message
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.dns import shortcuts as room
from discovery.dns import wire
from discovery.dns.responder import Responder
from discovery.model import Cluster, Snapshot
from tests.dns.test_responder import made, raw
from tests.dns.world import (
    CLUSTERS,
    NOW,
    SERVICES,
    SNAPSHOT,
    many,
    opt,
    packet,
    question,
    snapshot,
)

COOKIE = (wire.COOKIE, b"c" * 8)
NAMES = [
    *("orders.ecs.internal", "orders.prod.ecs.internal", "_http._tcp.orders.ecs.internal"),
    *("nope.ecs.internal", "nope.prod.ecs.internal", "nope.late.ecs.internal"),
    *("idle.ecs.internal", "node.prod.ecs.internal"),
    *("ecs.internal", "prod.ecs.internal", "twin.prod.ecs.internal", "dns-version.ecs.internal"),
    *(
        "ns.dns.ecs.internal",
        "dns.ecs.internal",
        "_tcp.prod.ecs.internal",
        "node.prod.ecs.internal",
    ),
    *("hostmaster.ecs.internal", "late.ecs.internal", "a.nope.ecs.internal", "nope.example"),
    *("billing.ecs.internal", "billing.staging.ecs.internal", "x" * 63 + ".ecs.internal"),
]
FORMS = [
    ((), wire.RD),
    ((opt(),), wire.RD),
    ((opt(),), 0),
    ((opt(COOKIE),), wire.RD),
    ((opt((wire.NSID, b""), COOKIE),), wire.RD),
    ((opt(COOKIE, (wire.NSID, b"")),), wire.RD),
    ((opt(size=0x541),), wire.RD),
]


def same(reply: bytes) -> tuple[object, ...]:
    """What two replies to one query have in common, whatever the order of records."""
    message = dns.message.from_wire(reply, one_rr_per_rrset=True)
    sections = [sorted(str(rrset).lower() for rrset in section) for section in message.sections]
    return message.id, message.flags, message.edns, message.options, *sections


def long_way(octets: bytes, known: Snapshot = SNAPSHOT) -> bytes:
    """What a responder says that has never been asked."""
    return raw(made(), octets, known)


@pytest.fixture(scope="module")
def experienced() -> Responder:
    """A responder that was asked for everything already."""
    responder = made()
    for name in NAMES:
        for kind in (wire.A, wire.SRV, wire.TXT):
            for extra, flags in FORMS:
                raw(responder, packet(question(name, kind), *extra, flags=flags))
    return responder


@pytest.mark.parametrize(
    ("label", "name", "kind"),
    [
        ("node", "ip-10-0-1-10.node.ecs.internal", wire.A),
        ("_tcp", "_http._tcp.ecs.internal", wire.PTR),
        ("_udp", "_services._dns-sd._udp.ecs.internal", wire.PTR),
    ],
)
def test_a_cluster_called_as_a_part_of_the_zone_hides_nothing(
    label: str, name: str, kind: int
) -> None:
    """An unknown name below it does not stand for those that the zone has there, too."""
    known = snapshot(clusters=(*CLUSTERS, Cluster(label, NOW)))
    responder = made()
    assert (
        dns.message.from_wire(
            raw(responder, packet(question(f"nope.{label}.ecs.internal")), known)
        ).rcode()
        == wire.NXDOMAIN
    )
    assert dns.message.from_wire(raw(responder, packet(question(name, kind)), known)).answer


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [wire.A, wire.SRV, wire.TXT])
def test_experience_changes_no_reply(experienced: Responder, name: str, kind: int) -> None:
    """In any case of letters, with and without EDNS, cookies and other options."""
    for written in (name, name.upper(), name.title()):
        for extra, flags in FORMS:
            octets = packet(question(written, kind), *extra, flags=flags)
            reply = raw(experienced, octets)
            assert same(reply) == same(long_way(octets))
            assert reply[12:].startswith(question(written, kind))


@settings(max_examples=300)
@given(
    st.sampled_from(["ecs.internal", "prod.ecs.internal", "nope.example", "Staging.ECS.internal"]),
    st.binary(min_size=1, max_size=63),
    st.sampled_from(FORMS),
)
def test_names_that_nobody_knows_are_told_as_the_long_way_does(
    experienced: Responder, parent: str, label: bytes, form: tuple[tuple[bytes, ...], int]
) -> None:
    """Whatever octets are in them."""
    extra, flags = form
    name = bytes((len(label),)) + label + question(parent)
    octets = packet(name, *extra, flags=flags)
    reply, wanted = raw(experienced, octets), long_way(octets)
    assert reply == wanted or same(reply) == same(wanted)  # what is compressed may differ


def test_each_label_that_exists_is_found_in_spite_of_the_shortcut(experienced: Responder) -> None:
    """After unknown names of the same parent were asked for."""
    for service in SERVICES:
        for name in (f"{service.name}.{service.cluster}", service.name):
            if len(service.name) < 64:
                octets = packet(question(f"{name}.ecs.internal"))
                assert same(raw(experienced, octets)) == same(long_way(octets))


def test_a_cookie_is_the_clients_own(experienced: Responder) -> None:
    """Replies from memory carry the cookie that belongs to the client's part and address."""
    for part in (b"12345678", b"abcdefgh"):
        octets = packet(question("orders.ecs.internal"), opt((wire.COOKIE, part)))
        given = raw(experienced, octets)[-24:]
        assert given[:8] == part
        again = packet(question("orders.ecs.internal"), opt((wire.COOKIE, given)))
        assert raw(experienced, again)[-24:] == given
        forged = packet(question("orders.ecs.internal"), opt((wire.COOKIE, part + given[8:][::-1])))
        assert raw(experienced, forged)[-24:] == given


LOOKALIKES = [
    packet(question("orders.ecs.internal"), b"\0" + bytes(8) + b"\0\x0a\0\x08" + b"12345678"),
    packet(
        question("orders.ecs.internal"),
        opt((wire.COOKIE, b"12345678")),
        b"\0" + bytes(8) + b"\0\x0a\0\x08" + b"abcdefgh",
    ),
    packet(
        question("orders.ecs.internal"),
        opt((100, b"\0\x0a\0\x08" + b"12345678")),
    ),
]


@pytest.mark.parametrize("octets", LOOKALIKES, ids=["record", "record behind", "option"])
def test_what_only_looks_like_a_cookie_is_none(octets: bytes) -> None:
    """The end of some other record or option; found by the fuzzer."""
    responder = made()
    for _ in range(3):
        assert same(raw(responder, octets)) == same(long_way(octets))


def test_what_changes_is_forgotten() -> None:
    """A name that nobody knew is found as soon as there is one; and the other way round."""
    responder = made()
    octets = packet(question("orders.prod.ecs.internal"), opt())
    rest = tuple(s for s in SERVICES if s.name != "orders")
    for _ in range(2):
        for known in (snapshot(*rest), SNAPSHOT):
            for _ in range(3):
                assert same(raw(responder, octets, known)) == same(long_way(octets, known))


def test_age_ends_a_shortcut() -> None:
    """What was fresh is told stale when it is, for known names and for unknown ones."""
    for name in ("orders.ecs.internal", "nope.ecs.internal"):
        responder = made()
        octets = packet(question(name), opt())
        for _ in range(2):
            assert not dns.message.from_wire(raw(responder, octets)).extended_errors()
        late = raw(responder, octets, now=NOW + 100)
        assert dns.message.from_wire(late).extended_errors()


def test_a_read_that_changes_nothing_leaves_replies_at_hand() -> None:
    """Also when what they were made from would have grown old meanwhile."""
    responder = made()
    octets = packet(question("orders.ecs.internal"), opt())
    for n in range(9):
        now = NOW + 10 * n
        raw(responder, octets, snapshot(clusters=(Cluster("prod", now),), read_at=now), now)
        if n == 0:
            known = responder.shortcuts.ready[octets[2:].lower()]
    assert responder.shortcuts.ready[octets[2:].lower()] is known


def test_replies_stay_at_hand_while_reads_fail() -> None:
    """In an outage nothing is answered the long way but the first query for each name."""
    responder = made()
    octets = packet(question("orders.ecs.internal"), opt())
    raw(responder, octets, now=NOW + 100)
    known = responder.shortcuts.ready[octets[2:].lower()]
    for n in range(9):
        raw(responder, octets, now=NOW + 101 + 10 * n)
    assert responder.shortcuts.ready[octets[2:].lower()] is known


SECONDS = st.sampled_from([0.0, 1.0, 10.0, 29.0, 30.0, 31.0, 3_600.0, 86_399.0, 86_401.0])
READS = st.sampled_from(["no", "all", "some", "shorter", "longer", "less", "first"])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(SECONDS, READS, st.lists(st.sampled_from(NAMES), max_size=4)), max_size=8)
)
def test_whatever_was_read_and_when_experience_changes_no_reply(
    steps: list[tuple[float, str, list[str]]],
) -> None:
    """Reads that fail, change nothing, part, all, or how long data is fresh; times that go on."""
    responder, known, now = made(), SNAPSHOT, NOW
    for seconds, read, names in steps:
        now += seconds
        known = _read(known, read, now)
        for name in names:
            octets = packet(question(name), opt())
            expected = same(raw(made(), octets, known, now))
            assert same(raw(responder, octets, known, now)) == expected
            assert same(raw(responder, octets, known, now)) == expected


def _read(known: Snapshot, read: str, now: float) -> Snapshot:
    """The snapshot after a read that this became of at that time."""
    clusters = tuple(replace(c, observed_at=now) if c.observed_at else c for c in known.clusters)
    if read == "some":
        return replace(known, read_at={**known.read_at, SERVICES[0].key: now})
    if read in ("shorter", "longer"):
        return replace(known, fresh_for_s=known.fresh_for_s * (2 if read == "longer" else 0.5))
    if read == "less":
        return replace(snapshot(*SERVICES[1:], clusters=clusters, read_at=now), sequence=8)
    if read == "first":
        return replace(known, clusters=tuple(Cluster(c.label, now) for c in known.clusters))
    all_read = dict.fromkeys(known.services, now)
    return replace(known, clusters=clusters, read_at=all_read) if read == "all" else known


def test_memory_is_bounded() -> None:
    """Parents, types, sizes and flags can be varied without end, and take no more room."""
    responder = made()
    for size in range(512, 512 + room.MAX_ABSENCES + 10):
        raw(responder, packet(question("nope.ecs.internal"), opt(size=size)))
    assert len(responder.shortcuts._absences) <= room.MAX_ABSENCES


def test_the_memory_of_long_replies_is_bounded() -> None:
    """Whoever varies the size that is offered over TCP has the same long reply kept each time."""
    responder, large = made(stream=True), snapshot(many(150))
    for size in range(512, 812):
        asked = question("many.ecs.internal", wire.SRV)
        raw(responder, packet(asked, opt(size=size)), large)
    assert 0 < responder.shortcuts._octets <= room.MAX_OCTETS
    assert 0 < len(responder.shortcuts.ready) < 300


@settings(max_examples=300)
@given(
    st.sampled_from([*NAMES, "\x01.nope.ecs.internal"]),
    st.sampled_from([*FORMS, ((opt((wire.COOKIE, b"c" * 24)),), wire.RD)]),
    st.integers(1, 60),
)
def test_a_cut_packet_is_answered_as_if_nothing_were_known(
    name: str, form: tuple[tuple[bytes, ...], int], missing: int
) -> None:
    """Wherever a packet ends whose whole was answered before, in its cookie or elsewhere."""
    extra, flags = form
    octets = packet(question(name), *extra, flags=flags)
    cut = octets[: max(wire.HEADER_SIZE, len(octets) - missing)]
    responder = made()
    raw(responder, octets)
    assert raw(responder, cut) == long_way(cut)
    assert cut[2:] not in responder.shortcuts.ready


def test_a_packet_cut_where_a_cookie_seemed_to_be_is_malformed() -> None:
    """What ends like a cookie may be the data of an option that every client may send."""
    responder = made()
    octets = packet(question("orders.ecs.internal"), opt((wire.NSID, b"\0\x0a\0\x0812345678")))
    for _ in range(2):
        assert same(raw(responder, octets)) == same(long_way(octets))
        assert raw(responder, octets[:-8]) == long_way(octets[:-8])


def test_a_name_behind_the_root_is_not_an_unknown_one() -> None:
    """An empty first label ends the name; what stands behind it is no parent."""
    responder = made()
    raw(responder, packet(question("nope.ecs.internal")))
    octets = packet(b"\0" + question("ecs.internal"))
    assert raw(responder, octets) == long_way(octets)


UNUSUAL = {
    "another option": opt((100, bytes(8))),
    "padding": opt((12, bytes(400))),
    "long identifier": opt((wire.NSID, bytes(400))),
    "another record": b"\0" + bytes(8) + b"\0\2" + b"12",
    "octets behind": opt() + bytes(400),
}


@pytest.mark.parametrize("name", ["orders.ecs.internal", "nope.ecs.internal"])
@pytest.mark.parametrize("extra", UNUSUAL.values(), ids=UNUSUAL)
@pytest.mark.parametrize("before", [(), (opt(),)], ids=["alone", "behind an OPT"])
def test_unusual_queries_are_not_remembered(
    name: str, extra: bytes, before: tuple[bytes, ...]
) -> None:
    """Whoever pads queries gets answers, and no room for what the padding is."""
    responder = made()
    shortcuts = responder.shortcuts
    octets = packet(question(name), *before, extra)
    assert raw(responder, octets) == long_way(octets)
    assert not shortcuts.ready
    assert not shortcuts._absences

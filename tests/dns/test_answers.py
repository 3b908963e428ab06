"""Answers: a pure function of question, zone and time."""

import math
from itertools import permutations

import dns.message
import pytest

from discovery.dns import answers, wire
from discovery.dns.answers import Answer, answer
from discovery.dns.zone import Zone
from discovery.model import Cluster, Snapshot
from tests.dns.world import (
    APEX,
    BILLING,
    CLUSTERS,
    NOW,
    ORDERS,
    PAY,
    SNAPSHOT,
    packet,
    question,
    snapshot,
)

FRESH_FOR_S, LIMIT_S = SNAPSHOT.fresh_for_s, SNAPSHOT.stale_limit_s
ZONE = Zone(SNAPSHOT, APEX)
UNLOADED = Zone(Snapshot(clusters=(Cluster("prod"), Cluster("staging"))), APEX)


def asked(name: str, kind: int = wire.A, *, zone: Zone = ZONE, age_s: float = 0.0) -> Answer:
    """The answer when the snapshot has this age."""
    return answer(zone, question(name)[:-4].lower(), kind, NOW + age_s)


def told(got: Answer) -> tuple[int, int | None]:
    """The response code and the extended error's."""
    return got.rcode, got.extended and got.extended[0]


@pytest.mark.parametrize(
    ("name", "kind", "rcode", "extended"),
    [
        ("orders.ecs.internal", wire.A, wire.NOERROR, None),
        ("orders.ecs.internal", wire.AAAA, wire.NOERROR, None),
        ("orders.ecs.internal", 65_280, wire.NOERROR, None),
        ("idle.ecs.internal", wire.A, wire.NOERROR, None),
        ("nope.ecs.internal", wire.A, wire.NXDOMAIN, None),
        ("twin.ecs.internal", wire.A, wire.NXDOMAIN, answers.OTHER),
        ("_http._tcp.cold.ecs.internal", wire.SRV, wire.SERVFAIL, answers.NOT_READY),
        ("x.late.ecs.internal", wire.A, wire.SERVFAIL, answers.NOT_READY),
        ("late.ecs.internal", wire.A, wire.SERVFAIL, answers.NOT_READY),
        ("_tcp.late.ecs.internal", wire.A, wire.SERVFAIL, answers.NOT_READY),
        ("_services._dns-sd._udp.late.ecs.internal", wire.PTR, wire.SERVFAIL, answers.NOT_READY),
        ("_tcp.ecs.internal", wire.A, wire.NOERROR, None),
        ("_dns-sd._udp.ecs.internal", wire.PTR, wire.NOERROR, None),
        ("_nope._tcp.ecs.internal", wire.PTR, wire.SERVFAIL, answers.NOT_READY),
        ("ecs.internal", wire.AXFR, wire.REFUSED, None),
        ("orders.ecs.internal", wire.IXFR, wire.REFUSED, None),
        ("example.org", wire.A, wire.REFUSED, answers.NOT_AUTHORITATIVE),
    ],
)
def test_what_is_not_there_is_said_exactly(
    name: str, kind: int, rcode: int, extended: int | None
) -> None:
    """Absent types, names, definitions, clusters and zones are different answers."""
    got = asked(name, kind)
    assert told(got) == (rcode, extended)
    assert got.authoritative == (rcode in (wire.NOERROR, wire.NXDOMAIN))
    assert bool(got.authority) == (got.authoritative and not got.data)


@pytest.mark.parametrize(
    "name", ["orders.ecs.internal", "ecs.internal", "_tcp.ecs.internal", "orders.nope.ecs.internal"]
)
@pytest.mark.parametrize("zone", [UNLOADED, Zone(Snapshot(), APEX)], ids=["loading", "empty"])
def test_before_the_first_snapshot_nothing_is_denied(name: str, zone: Zone) -> None:
    """Never NXDOMAIN, of which clients remember that there is no such name."""
    for kind in (wire.A, wire.SOA, wire.ANY):
        assert told(asked(name, kind, zone=zone)) == (wire.SERVFAIL, answers.NOT_READY)


def test_a_clusters_name_may_be_a_services_in_a_cluster_that_is_not_read_yet() -> None:
    """`staging` has no address as a cluster; as a service of the default cluster it may have."""
    zone = Zone(snapshot(BILLING, clusters=(Cluster("prod"), Cluster("staging", NOW))), APEX)
    name = "staging.ecs.internal"
    assert told(asked(name, zone=zone)) == (wire.SERVFAIL, answers.NOT_READY)
    assert told(asked(name)) == (wire.NOERROR, None)


def test_what_does_not_depend_on_a_snapshot_is_always_there() -> None:
    """The version of the zone's layout."""
    assert asked("dns-version.ecs.internal", wire.TXT, zone=UNLOADED).data


def test_a_service_that_was_read_is_answered_though_its_cluster_was_not() -> None:
    """Where names are only read on demand, no cluster is ever read whole."""
    zone = Zone(snapshot(ORDERS, clusters=(Cluster("prod"),)), APEX)
    assert asked("orders.ecs.internal", zone=zone).data
    assert told(asked("nope.ecs.internal", zone=zone)) == (wire.SERVFAIL, answers.NOT_READY)


@pytest.mark.parametrize(
    ("name", "kind", "stale", "rcode"),
    [
        ("orders.ecs.internal", wire.A, answers.STALE, wire.NOERROR),
        ("orders.ecs.internal", wire.AAAA, answers.STALE, wire.NOERROR),
        ("nope.ecs.internal", wire.A, answers.STALE_NXDOMAIN, wire.NXDOMAIN),
        ("10.1.0.10.in-addr.arpa", wire.PTR, answers.STALE, wire.NOERROR),
        ("ip-10-0-1-10.node.prod.ecs.internal", wire.A, answers.STALE, wire.NOERROR),
    ],
)
def test_answers_grow_stale_and_expire(name: str, kind: int, stale: int, rcode: int) -> None:
    """Stale: the same data and TTL, and said so. Beyond the limit: nothing but a failure."""
    fresh = asked(name, kind, age_s=FRESH_FOR_S)
    assert told(fresh) == (rcode, None)
    for age_s in (FRESH_FOR_S + 1, LIMIT_S):
        got = asked(name, kind, age_s=age_s)
        assert told(got) == (rcode, stale)
        assert (got.data, got.ttl_s, got.authority) == (fresh.data, fresh.ttl_s, fresh.authority)
    gone = asked(name, kind, age_s=LIMIT_S + 1)
    assert told(gone) == (wire.SERVFAIL, answers.UNREACHABLE)
    assert not gone.data


def test_an_answer_knows_until_when_it_holds() -> None:
    """Up to the end of freshness, then up to the limit of age, then for good."""
    assert asked("orders.ecs.internal", age_s=10).until == NOW + FRESH_FOR_S
    assert asked("orders.ecs.internal", age_s=FRESH_FOR_S + 5).until == NOW + LIMIT_S
    assert asked("orders.ecs.internal", age_s=LIMIT_S + 5).until == math.inf
    assert asked("x.late.ecs.internal").until <= NOW


def test_any_is_one_small_record() -> None:
    """RFC 8482 §4.2, where the name has records; NODATA and NXDOMAIN stay what they are."""
    got = asked("orders.ecs.internal", wire.ANY)
    assert (got.type, got.data) == (wire.HINFO, (b"\7RFC8482\0",))
    assert told(asked("prod.ecs.internal", wire.ANY)) == (wire.NOERROR, None)
    assert not asked("prod.ecs.internal", wire.ANY).data
    assert told(asked("nope.ecs.internal", wire.ANY)) == (wire.NXDOMAIN, None)


def test_negative_answers_have_the_zones_soa() -> None:
    """With the negative TTL in both places (RFC 2308 §4); reverse names are zones of their own."""
    (soa,) = asked("nope.ecs.internal").authority
    assert (soa.owner, soa.type, soa.ttl) == (APEX.name, wire.SOA, 2)
    assert soa.data.endswith(b"\0\0\0\2")
    reverse = question("10.1.0.10.in-addr.arpa")[:-4]
    assert asked("10.1.0.10.in-addr.arpa").authority[0].owner == reverse


def test_additional_addresses_are_those_of_the_targets_in_their_order() -> None:
    """The first target's addresses come first, as the last are left out first."""
    got = asked("_http._tcp.pay.ecs.internal", wire.SRV)
    asks = packet(question("_http._tcp.pay.ecs.internal", wire.SRV))
    for order in permutations(range(len(got.data))):
        body = got.packed(wire.read(asks).name, 1_232, order)
        assert (body.answers, body.additional, body.truncated) == (3, 4, False)
        reply = dns.message.from_wire(wire.reply(wire.read(asks), 0, 0, body, b""))
        targets = [record.target for record in reply.answer[0]]
        assert list(dict.fromkeys(rrset.name for rrset in reply.additional)) == targets


def test_one_service_growing_stale_leaves_others_fresh() -> None:
    """Freshness is each service's own."""
    mixed = Snapshot(
        clusters=CLUSTERS,
        services={ORDERS.key: ORDERS, PAY.key: PAY},
        read_at={ORDERS.key: NOW - 100, PAY.key: NOW},
    )
    zone = Zone(mixed, APEX)
    assert told(asked("orders.ecs.internal", zone=zone)) == (wire.NOERROR, answers.STALE)
    assert told(asked("pay.ecs.internal", zone=zone)) == (wire.NOERROR, None)

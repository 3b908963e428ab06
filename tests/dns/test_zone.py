"""Which names there are, and what each has, from snapshots made by hand."""

from dataclasses import replace

import pytest

from discovery.dns import wire
from discovery.dns.nodes import Node
from discovery.dns.zone import Zone
from discovery.model import Cluster, Port, Service
from tests.dns.world import (
    APEX,
    BILLING,
    HTTP,
    NOW,
    ORDERS,
    PAY,
    SNAPSHOT,
    TASKS,
    as_text,
    endpoint,
    question,
    snapshot,
)

ZONE = Zone(SNAPSHOT, APEX)
SOA = f"ns.dns.ecs.internal. hostmaster.ecs.internal. {(1 << 20) + 7} 60 10 3600 2"
TEXT = (
    '"service=orders" "cluster=prod" "kind=service" "endpoints=4" '
    '"port.http=80/tcp" "port.9000=9000/tcp"'
)
EVERY_SRV = {
    "0 100 32768 ip-10-0-1-10.node.prod.ecs.internal.",
    "0 100 32769 ip-10-0-1-10.node.prod.ecs.internal.",
    "0 100 32768 ip-10-0-1-11.node.prod.ecs.internal.",
    "0 100 32770 ip-10-0-1-11.node.prod.ecs.internal.",
}
HTTP_SRV = EVERY_SRV - {"0 100 32770 ip-10-0-1-11.node.prod.ecs.internal."}
ZONE_B_SRV = {s for s in EVERY_SRV if "10-0-1-11" in s}


def node_of(name: str, zone: Zone = ZONE) -> Node | None:
    """What the zone has at a name."""
    found = zone.find(question(name)[:-4].lower())
    assert found is not None
    return found.node


def has(name: str, kind: int, zone: Zone = ZONE) -> set[str]:
    """The records of one type at a name, as text; each is there once."""
    node = node_of(name, zone)
    assert node is not None, f"no name {name}"
    data = node.sets.get(kind, ())
    assert len(set(data)) == len(data)
    return {as_text(kind, d) for d in data}


@pytest.mark.parametrize(
    ("name", "kind", "want"),
    [
        ("orders.prod.ecs.internal", wire.A, {"10.0.1.10", "10.0.1.11"}),
        ("orders.ecs.internal", wire.A, {"10.0.1.10", "10.0.1.11"}),
        ("orders.prod.ecs.internal", wire.AAAA, set()),
        ("orders.prod.ecs.internal", wire.SRV, EVERY_SRV),
        ("_http._tcp.orders.prod.ecs.internal", wire.SRV, HTTP_SRV),
        ("_80._tcp.orders.prod.ecs.internal", wire.SRV, HTTP_SRV),
        ("_http._tcp.orders.ecs.internal", wire.SRV, HTTP_SRV),
        ("_9000._tcp.orders.ecs.internal", wire.SRV, EVERY_SRV - HTTP_SRV),
        ("_http._tcp.orders.ecs.internal", wire.A, set()),
        ("billing.staging.ecs.internal", wire.A, {"10.9.0.1"}),
        ("pay.ecs.internal", wire.A, {"10.0.5.1", "10.0.5.2"}),
        ("pay.ecs.internal", wire.AAAA, {"2001:db8::2", "2001:db8::3"}),
        ("_stats._udp.pay.ecs.internal", wire.SRV, {"0 100 80 00000002.pay.prod.ecs.internal."}),
        (
            "_http._tcp.pay.ecs.internal",
            wire.SRV,
            {
                "0 100 80 00000001.pay.prod.ecs.internal.",
                "0 250 80 00000002.pay.prod.ecs.internal.",
                "0 100 80 00000004.pay.prod.ecs.internal.",
            },
        ),
        ("00000002.pay.prod.ecs.internal", wire.A, {"10.0.5.2"}),
        ("00000002.pay.prod.ecs.internal", wire.AAAA, {"2001:db8::2"}),
        (f"{TASKS[1]}.pay.prod.ecs.internal", wire.A, {"10.0.5.2"}),
        ("00000003aaa.orders.ecs.internal", wire.A, {"10.0.1.11"}),
        ("eu-west-1b.pin._zone.orders.prod.ecs.internal", wire.A, {"10.0.1.11"}),
        ("eu-west-1b.pin._zone.orders.prod.ecs.internal", wire.SRV, ZONE_B_SRV),
        ("eu-west-1c.pin._zone.orders.prod.ecs.internal", wire.A, set()),
        ("eu-west-1b.prefer._zone.orders.prod.ecs.internal", wire.A, {"10.0.1.11"}),
        ("eu-west-1c.prefer._zone.orders.ecs.internal", wire.A, {"10.0.1.10", "10.0.1.11"}),
        ("_http._tcp.eu-west-1c.prefer._zone.orders.ecs.internal", wire.SRV, HTTP_SRV),
        ("_http._tcp.eu-west-1b.pin._zone.orders.ecs.internal", wire.SRV, ZONE_B_SRV & HTTP_SRV),
        ("ip-10-0-1-10.node.prod.ecs.internal", wire.A, {"10.0.1.10"}),
        ("ip-10-0-5-2.node.prod.ecs.internal", wire.AAAA, {"2001:db8::2"}),
        (
            "ip-2001-0db8-0000-0000-0000-0000-0000-0003.node.prod.ecs.internal",
            wire.AAAA,
            {"2001:db8::3"},
        ),
        ("10.1.0.10.in-addr.arpa", wire.PTR, {"ip-10-0-1-10.node.prod.ecs.internal."}),
        ("10.1.0.10.in-addr.arpa", wire.SOA, {SOA}),
        ("10.1.0.10.in-addr.arpa", wire.NS, {"ns.dns.ecs.internal."}),
        ("1.5.0.10.in-addr.arpa", wire.PTR, {"00000001.pay.prod.ecs.internal."}),
        (
            "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
            wire.PTR,
            {"00000002.pay.prod.ecs.internal."},
        ),
        (
            "_services._dns-sd._udp.ecs.internal",
            wire.PTR,
            {
                f"{kind}.ecs.internal."
                for kind in ("_http._tcp", "_80._tcp", "_9000._tcp", "_stats._udp")
            },
        ),
        (
            "_http._tcp.ecs.internal",
            wire.PTR,
            {
                f"{instance}.ecs.internal."
                for instance in (
                    *("orders._http._tcp.prod", "pay._http._tcp.prod"),
                    *("idle._http._tcp.prod", "billing._http._tcp.staging"),
                )
            },
        ),
        ("_http._tcp.staging.ecs.internal", wire.PTR, {"billing._http._tcp.staging.ecs.internal."}),
        (
            "_services._dns-sd._udp.staging.ecs.internal",
            wire.PTR,
            {"_http._tcp.staging.ecs.internal."},
        ),
        ("orders._http._tcp.prod.ecs.internal", wire.SRV, HTTP_SRV),
        ("dns-version.ecs.internal", wire.TXT, {'"1.0.0"'}),
        ("ecs.internal", wire.NS, {"ns.dns.ecs.internal."}),
        ("ecs.internal", wire.SOA, {SOA}),
        ("ns.dns.ecs.internal", wire.A, {"127.0.0.1"}),
        (
            "orders.prod.ecs.internal",
            wire.TXT,
            {TEXT},
        ),
    ],
)  # fmt: skip
def test_names_have_their_records(name: str, kind: int, want: set[str]) -> None:
    """The records of one type, each once."""
    assert has(name, kind) == want


@pytest.mark.parametrize(
    "name",
    [
        *("prod.ecs.internal", "node.prod.ecs.internal", "dns.ecs.internal", "_tcp.ecs.internal"),
        *("_dns-sd._udp.ecs.internal", "_tcp.orders.prod.ecs.internal", "idle.prod.ecs.internal"),
        *("_zone.orders.ecs.internal", "pin._zone.orders.ecs.internal", "late.ecs.internal"),
        "_http._tcp.idle.prod.ecs.internal",
    ],
)
def test_names_without_an_address_exist(name: str) -> None:
    """Empty non-terminals, and services of which nothing runs."""
    assert not has(name, wire.A)


@pytest.mark.parametrize(
    "name",
    [
        *("nope.ecs.internal", "nope.prod.ecs.internal", "orders.staging.ecs.internal"),
        *("_grpc._tcp.orders.ecs.internal", "_http._udp.orders.ecs.internal"),
        *("http._tcp.orders.ecs.internal", "a._http._tcp.orders.ecs.internal"),
        *("a.prefer._zone.b.prefer._zone.orders.ecs.internal", "a.a._zone.orders.ecs.internal"),
        "00000001.a.prefer._zone.orders.ecs.internal",
        *("a.pin._zone.nope.ecs.internal", "a.any._zone.orders.ecs.internal"),
        *("ip-10-0-1-12.node.prod.ecs.internal", "ip-10-0-1-10.node.staging.ecs.internal"),
        *("0000000.pay.ecs.internal", "00000009.pay.ecs.internal", "_nope._tcp.ecs.internal"),
        *(f"{'x' * 63}.prod.ecs.internal", "nope._http._tcp.prod.ecs.internal"),
    ],
)
def test_other_names_do_not_exist(name: str) -> None:
    """Unknown services, ports, hosts, tasks and kinds."""
    assert node_of(name) is None


@pytest.mark.parametrize(
    "name", ["example.org", "internal", ".", "ecs.internal.org", "1.0.0.10.in-addr.arpa"]
)
def test_names_elsewhere_are_not_ours(name: str) -> None:
    """Foreign names, the root, and the reverse names of other addresses."""
    assert ZONE.find(question(name)[:-4]) is None


def test_every_target_resolves_to_its_glue() -> None:
    """What SRV and PTR point to has the addresses that came along."""
    for name in ("orders", "pay", "cold", "billing.staging"):
        node = node_of(f"{name}.ecs.internal")
        assert node is not None
        for target, glue in node.glue.items():
            there = ZONE.find(target)
            assert there is not None
            assert there.node is not None
            for kind in (wire.A, wire.AAAA):
                want = {r.data for r in glue if r.type == kind}
                assert set(there.node.sets.get(kind, ())) == want


def test_tasks_on_one_host_share_its_address_record() -> None:
    """Two tasks, one target, one additional record."""
    node = node_of("orders.ecs.internal")
    assert node is not None
    assert [len(records) for records in node.glue.values()] == [1, 1]


def test_short_ids_that_collide_give_way_to_whole_ones() -> None:
    """Both tasks are found by their whole ids; the beginning they share names neither."""
    one, two = "12345678" + "a" * 24, "12345678" + "b" * 24
    twins = Service(
        "twins",
        "prod",
        endpoints=(
            endpoint(one, "10.0.0.1", 80, service="twins"),
            endpoint(two, "10.0.0.2", 80, service="twins"),
        ),
        ports=(HTTP,),
        task_addresses=frozenset({"10.0.0.1", "10.0.0.2"}),
    )
    zone = Zone(snapshot(twins), APEX)
    assert has("twins.ecs.internal", wire.SRV, zone) == {
        f"0 100 80 {one}.twins.prod.ecs.internal.",
        f"0 100 80 {two}.twins.prod.ecs.internal.",
    }
    assert has(f"{two}.twins.ecs.internal", wire.A, zone) == {"10.0.0.2"}
    assert node_of("12345678.twins.ecs.internal", zone) is None


def test_ports_may_turn_up_while_a_definition_is_not_read() -> None:
    """What is known is answered; what may yet be there is neither denied nor promised."""
    assert has("_80._tcp.cold.ecs.internal", wire.SRV)
    pending = node_of("_http._tcp.cold.ecs.internal")
    assert pending is not None
    assert pending.pending


def test_names_that_differ_in_case_only_are_not_served() -> None:
    """The note says which they are."""
    found = ZONE.find(question("twin.prod.ecs.internal")[:-4])
    assert found is not None
    assert found.node is None
    assert found.note == "Twin and twin differ in case only"


def test_what_is_not_well_comes_in_order_of_priority() -> None:
    """The last resort, best first."""
    draining, starting, unhealthy, _ = ORDERS.endpoints
    endpoints = (
        replace(draining, health="draining"),
        replace(starting, health="starting"),
        replace(unhealthy, health="unhealthy"),
    )
    service = Service("weak", "prod", endpoints=endpoints, ports=(HTTP,))
    got = has("weak.ecs.internal", wire.SRV, Zone(snapshot(service), APEX))
    assert sorted(text.split()[0] for text in got) == ["0", "1", "2"]


def test_a_label_that_is_a_cluster_and_a_service_has_both() -> None:
    """`staging` may be a service of the default cluster, and services be below the cluster."""
    both = Service("staging", "prod", endpoints=ORDERS.endpoints[:1], ports=(HTTP,))
    zone = Zone(snapshot(both, BILLING), APEX)
    assert has("staging.ecs.internal", wire.A, zone) == {"10.0.1.10"}
    assert has("_http._tcp.staging.ecs.internal", wire.SRV, zone)
    assert has("_http._tcp.staging.ecs.internal", wire.PTR, zone)
    assert has("billing.staging.ecs.internal", wire.A, zone) == {"10.9.0.1"}
    assert has("00000001.staging.ecs.internal", wire.A, zone) == {"10.0.1.10"}
    assert not zone.children(wire.name_of(b"staging", *APEX.labels))  # tasks come and go
    assert zone.children(wire.name_of(b"prod", *APEX.labels))


def test_a_service_called_node_has_its_name_and_hosts_theirs() -> None:
    """Hosts have names below it that no task has."""
    node = Service("node", "prod", endpoints=ORDERS.endpoints, ports=(HTTP,))
    zone = Zone(snapshot(node), APEX)
    assert has("node.prod.ecs.internal", wire.A, zone) == {"10.0.1.10", "10.0.1.11"}
    assert has("ip-10-0-1-10.node.prod.ecs.internal", wire.A, zone) == {"10.0.1.10"}
    assert has("00000003.node.prod.ecs.internal", wire.A, zone) == {"10.0.1.11"}


def test_names_too_long_for_dns_are_left_out() -> None:
    """A target that does not fit gives way to the host's name, or is no record at all."""
    name = "y" * 63
    long = Service(
        name,
        "c" * 63,
        endpoints=(endpoint(TASKS[0], "10.0.5.1", 80, service=name),),
        ports=(Port(80, "tcp", "p" * 62, "web"), Port(80, "tcp", "q" * 63, "web")),
        task_addresses=frozenset({"10.0.5.1"}),
    )
    zone = Zone(snapshot(long, clusters=(Cluster("c" * 63, NOW),)), APEX)
    assert has(f"{name}.ecs.internal", wire.SRV, zone)
    assert len(has("_services._dns-sd._udp.ecs.internal", wire.PTR, zone)) == 1
    assert has(f"_{'p' * 62}._tcp.ecs.internal", wire.PTR, zone)


def test_unchanged_services_keep_what_was_made_of_them() -> None:
    """By identity: the same object is the same service."""
    before = Zone(SNAPSHOT, APEX)
    changed = Service("orders", "prod", ports=(HTTP,))
    made = node_of("pay.ecs.internal", before)
    after = Zone(snapshot(changed, PAY), APEX, before)
    assert node_of("pay.ecs.internal", after) is made
    assert not has("orders.ecs.internal", wire.A, after)
    assert not after.says_the_same_as(before)
    assert Zone(snapshot(), APEX, before).says_the_same_as(before)


def test_names_elsewhere_do_not_pay_for_the_index_of_addresses() -> None:
    """After each snapshot it is brought up to date when an address is asked for, not before."""
    zone = Zone(SNAPSHOT, APEX)
    assert zone.find(wire.name_of(b"www", b"example")) is None
    assert not zone._hosts_are_known
    assert zone.find(question("10.1.0.10.in-addr.arpa")[:-4]) is not None
    assert zone._hosts_are_known


def test_invented_parents_take_no_memory() -> None:
    """Only the zone's top and clusters have children that are worth remembering."""
    zone = Zone(SNAPSHOT, APEX)
    for n in range(1_000):
        assert not zone.children(wire.name_of(b"x%d" % n, *APEX.labels))
        assert not zone.children(wire.name_of(b"x%d" % n, b"orders", b"prod", *APEX.labels))
    assert zone.children(APEX.name)
    assert zone.children(wire.name_of(b"prod", *APEX.labels))
    assert len(zone._children) == 2


def test_invented_availability_zones_take_no_memory() -> None:
    """Whoever asks for those that nobody has gets one answer for all of them."""
    zone = Zone(SNAPSHOT, APEX)
    for n in range(1_000):
        nobody = f"x{n}.pin._zone.pay.ecs.internal"
        assert not has(nobody, wire.A, zone)
        assert not has(f"_http._tcp.{nobody}", wire.SRV, zone)
        assert has(f"x{n}.prefer._zone.pay.ecs.internal", wire.A, zone)
    assert len(zone._made[PAY.key]._nodes) <= 6


def test_a_task_without_an_availability_zone_is_in_none() -> None:
    """Not in one that nobody has."""
    nowhere = Service("app", "prod", endpoints=(endpoint(TASKS[0], "10.0.7.1", 80, zone=None),))
    zone = Zone(snapshot(nowhere), APEX)
    assert not has("eu-west-1a.pin._zone.app.ecs.internal", wire.A, zone)
    assert has("eu-west-1a.prefer._zone.app.ecs.internal", wire.A, zone) == {"10.0.7.1"}

"""Forwarding through real sockets: whom it asks, what it believes, what it remembers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from random import Random

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from discovery.dns import wire
from discovery.dns.forward import Forwarder
from discovery.dns.relay import Relayed
from discovery.dns.server import DnsServer
from discovery.dns.upstreams import Routes
from discovery.events import Event, Listeners, Noticed, QueryDropped
from tests.dns.resolvers import resolving, told
from tests.dns.talk import datagram, stream
from tests.dns.test_server import eventually
from tests.dns.world import NOW, SNAPSHOT, opt, packet, question

WWW = question("www.example.com")
PLAIN = packet(WWW)


@contextmanager
def forwarding(*upstreams: tuple[str, int], **zones: tuple[str, int]) -> Iterator[DnsServer]:
    """A server that forwards to these, and names under `NAME.example` to others."""
    routes = {"": upstreams, **{f"{name}.example": (address,) for name, address in zones.items()}}
    known = {zone: several for zone, several in routes.items() if several}
    with DnsServer(
        ("127.0.0.1", 0), lambda: SNAPSHOT, clock=lambda: NOW, random=Random(1), forward=known
    ) as server:
        yield server


def address_of(query: dns.message.Message, _: bool = False) -> list[bytes]:
    """One address with a TTL of a minute."""
    return [told(query, f"{query.question[0].name} 60 A 192.0.2.1")]


def ask(server: DnsServer, octets: bytes = PLAIN) -> dns.message.Message:
    """The reply, strictly read; the question is the client's own, letter by letter."""
    reply = datagram(server, octets)
    end = 12 + len(octets[12:].partition(b"\0")[0]) + 5
    assert reply[12:end] == octets[12:end]
    return dns.message.from_wire(reply)


def extended(message: dns.message.Message) -> list[int]:
    """The codes of its extended errors."""
    return [int(e.code) for e in message.extended_errors()]


def test_other_names_are_asked_of_a_resolver() -> None:
    """The answer is passed on: RA, not AA, the client's id and question, over UDP and TCP."""
    with resolving(address_of) as upstream, forwarding(upstream.address) as server:
        reply = ask(server, packet(question("WWW.example.com"), opt()))
        assert reply.id == 0x1234
        assert reply.flags & (dns.flags.RA | dns.flags.AA) == dns.flags.RA
        assert [str(r) for r in reply.answer] == ["WWW.example.com. 60 IN A 192.0.2.1"]
        over_tcp = dns.message.from_wire(stream(server, packet(question("other.example.com"))))
        assert len(over_tcp.answer) == 1
        assert len(upstream.asked) == 2


@pytest.mark.parametrize(
    "name",
    [
        *("nope.ecs.internal", "orders.ecs.internal", "x.y.z.prod.ECS.internal", "ecs.internal"),
        *("nope.late.ecs.internal", "10.1.0.10.in-addr.arpa"),
    ],
)
def test_no_name_of_ours_is_ever_forwarded(name: str) -> None:
    """Neither known nor unknown ones, nor those that are not loaded yet."""
    with resolving(address_of) as upstream, forwarding(upstream.address) as server:
        for kind in (wire.A, wire.SRV, wire.ANY, wire.PTR):
            ask(server, packet(question(name, kind)))
        assert not upstream.asked


@pytest.mark.parametrize(
    "octets",
    [
        packet(WWW, flags=0),
        packet(question("www.example.com", wire.AXFR)),
        packet(WWW[:-1] + b"\3"),
    ],
    ids=["no recursion desired", "transfer", "class CHAOS"],
)
def test_what_is_no_question_for_others_is_refused(octets: bytes) -> None:
    """As without forwarding."""
    with resolving(address_of) as upstream, forwarding(upstream.address) as server:
        assert ask(server, octets).rcode() == dns.rcode.REFUSED
        assert not upstream.asked


def test_ids_ports_and_cases_differ_from_query_to_query() -> None:
    """So that nobody can guess what a forged reply would have to look like."""
    with resolving(address_of) as upstream, forwarding(upstream.address) as server:
        for n in range(12):
            ask(server, packet(question(f"a-rather-long-name-{n}.example.com")))
        cases = {str(q.question[0].name).rpartition("-")[0] for q in upstream.asked}
        assert len({q.id for q in upstream.asked}) > 10
        assert len(set(upstream.ports)) > 10
        assert len(cases) > 10


def test_answers_for_something_else_are_passed_over() -> None:
    """Wrong id or name, no reply, broken: the right one counts, which is the last."""

    def says(query: dns.message.Message, _: bool) -> list[bytes]:
        right = told(query, f"{query.question[0].name} 60 A 192.0.2.1")
        evil = told(query, f"{query.question[0].name} 60 A 192.0.2.66")
        return [
            bytes((evil[0] ^ 1,)) + evil[1:],
            evil[:13] + bytes((evil[13] ^ 1,)) + evil[14:],
            evil[:2] + b"\1" + evil[3:],
            evil[:-3],
            b"",
            right,
        ]

    with resolving(says) as upstream, forwarding(upstream.address) as server:
        reply = ask(server, packet(question("www.exAmple.com")))
        assert "192.0.2.1" in str(reply.answer[0])
        assert len(upstream.asked) == 1


def test_a_resolver_that_changes_the_case_is_believed_over_tcp() -> None:
    """At once, since nobody is silent; what comes over UDP in another case could be forged."""

    def says(query: dns.message.Message, over_tcp: bool) -> list[bytes]:
        name, last = query.question[0].name, 1 if over_tcp else 66
        octets = told(query, f"{name} 60 A 192.0.2.{last}")
        end = octets.index(b"\0", 12)
        return [octets[:12] + octets[12:end].swapcase() + octets[end:]]

    with resolving(says) as upstream, forwarding(upstream.address) as server:
        reply = ask(server, packet(question("www.exAmple.com")))
        assert "192.0.2.1" in str(reply.answer[0])
        assert len(upstream.asked) == 2


def test_replies_are_remembered_and_their_ttls_count_down() -> None:
    """Whatever the case of the name; until the smallest TTL has passed."""
    now = [100.0]

    def says(query: dns.message.Message, _: bool) -> list[bytes]:
        name = query.question[0].name
        return [told(query, f"{name} 60 CNAME b.example.", "b.example. 30 A 192.0.2.1")]

    with resolving(says) as upstream, patient({"": [upstream.address]}, lambda: now[0]) as it:
        assert found(it, "www.example.com").life_s == 30
        now[0] += 29
        query = wire.read(packet(question("WWW.example.com")))
        known = it.remembered(query)
        assert known is not None
        reply = dns.message.from_wire(known[0].message(query, known[1], 512, b""))
        assert [r.ttl for r in reply.answer] == [31, 1]
        now[0] += 1.5
        assert it.remembered(query) is None


@contextmanager
def patient(routes: dict[str, list[tuple[str, int]]], clock: object = None) -> Iterator[Forwarder]:
    """A forwarder on its own."""
    listeners = Listeners()
    it = (
        Forwarder(routes, listeners, clock=clock)
        if callable(clock)
        else Forwarder(routes, listeners)
    )
    it.start()
    try:
        yield it
    finally:
        it.close()


def found(it: Forwarder, name: str) -> Relayed:
    """What somebody says of a name."""
    octets = packet(question(name))
    came: list[Relayed] = []
    done = threading.Event()

    def deliver(reply: Relayed) -> None:
        came.append(reply)
        done.set()

    it.ask(wire.read(octets), octets, deliver)
    assert done.wait(10)
    return came[0]


@pytest.mark.parametrize(
    ("records", "rcode", "life_s"),
    [
        (("example.com. 900 SOA a. b. 1 2 3 4 20",), 3, 20),
        (("example.com. 10 SOA a. b. 1 2 3 4 20",), 0, 10),
        (("example.com. 86400 SOA a. b. 1 2 3 4 86400",), 3, 900),
        ((), 3, 0),
        ((), 0, 0),
        (("www.example.com. 0 A 192.0.2.1",), 0, 0),
    ],
)
def test_negative_replies_live_as_the_soa_says(
    records: tuple[str, ...], rcode: int, life_s: int
) -> None:
    """RFC 2308 §5: the smaller of its TTL and its last field; not at all without one."""

    def says(query: dns.message.Message, _: bool) -> list[bytes]:
        name = str(query.question[0].name)
        told_records = [r.replace("www.example.com.", name) for r in records]
        return [told(query, *told_records, rcode=rcode)]

    with resolving(says) as upstream, patient({"": [upstream.address]}) as it:
        reply = found(it, "www.example.com")
        assert (reply.rcode, reply.life_s) == (rcode, life_s)


def test_identical_questions_are_asked_once() -> None:
    """Everyone who waits is answered, each with its own id."""
    go = threading.Event()

    def says(query: dns.message.Message, _: bool) -> list[bytes]:
        go.wait(5)
        return address_of(query)

    with resolving(says) as upstream, forwarding(upstream.address) as server:
        ids: list[int] = []

        def one(ident: int) -> None:
            ids.append(ask(server, packet(WWW, ident=ident)).id)

        threads = [threading.Thread(target=one, args=(n,)) for n in range(20)]
        for thread in threads:
            thread.start()
        forwarder = server._forwarder
        assert forwarder is not None
        assert eventually(lambda: sum(len(q.waiters) for q in forwarder._waiting.values()) == 20)
        go.set()
        for thread in threads:
            thread.join()
        assert sorted(ids) == list(range(20))
        assert len(upstream.asked) == 1


def test_a_reply_that_is_cut_off_is_asked_for_again_over_tcp() -> None:
    """The client gets what fits: all of it over TCP, TC over UDP."""

    def says(query: dns.message.Message, is_stream: bool) -> list[bytes]:
        name = query.question[0].name
        records = [f"{name} 60 A 192.0.2.{n}" for n in range(200)] if is_stream else []
        return [told(query, *records, cut=not is_stream)]

    with resolving(says) as upstream, forwarding(upstream.address) as server:
        assert len(dns.message.from_wire(stream(server, PLAIN)).answer[0]) == 200
        short = ask(server)
        assert short.flags & dns.flags.TC
        assert len(short.answer[0]) == 29
        assert len(upstream.asked) == 2


def test_the_next_upstream_is_asked_when_one_is_silent_or_fails() -> None:
    """And the one that failed rests, so that the next question does not wait for it."""

    def refuses(query: dns.message.Message, _: bool) -> list[bytes]:
        return [told(query, rcode=dns.rcode.REFUSED)]

    with (
        resolving(lambda *_: []) as silent,
        resolving(refuses) as refusing,
        resolving(address_of) as good,
        forwarding(silent.address, refusing.address, good.address) as server,
    ):
        for n in range(4):
            assert ask(server, packet(question(f"n{n}.example.com"))).answer
        assert len(silent.asked) == 2
        assert len(refusing.asked) == 4
        assert len(good.asked) == 4


def test_all_upstreams_dead_is_servfail_with_the_reason() -> None:
    """EDE 23; known for a second, so that nobody hammers a dead network."""
    with resolving(address_of) as gone:
        address = gone.address
    with forwarding(address) as server:
        for _ in range(2):
            reply = ask(server, packet(WWW, opt()))
            assert reply.rcode() == dns.rcode.SERVFAIL
            assert extended(reply) == [23]


def test_a_resolver_that_knows_no_edns_is_asked_without() -> None:
    """FORMERR, even a bare header, is no answer; the next questions begin without EDNS."""

    def says(query: dns.message.Message, _: bool) -> list[bytes]:
        if query.edns >= 0:
            return [query.to_wire()[:2] + bytes((0x80, 0x01)) + bytes(8)]
        return address_of(query)

    with resolving(says) as upstream, forwarding(upstream.address) as server:
        for n in range(3):
            assert ask(server, packet(question(f"n{n}.example.com"))).answer
        assert [q.edns >= 0 for q in upstream.asked] == [True, False, False, False]


def test_zones_have_resolvers_of_their_own() -> None:
    """The longest suffix decides; without a route a name is refused."""
    with resolving(address_of) as corp, resolving(address_of) as rest:
        with forwarding(rest.address, corp=corp.address) as server:
            for name in ("a.corp.example", "CORP.example", "corpse.example", "b.example"):
                ask(server, packet(question(name)))
            assert [len(r.asked) for r in (corp, rest)] == [2, 2]
        with forwarding(corp=corp.address) as server:
            reply = ask(server, packet(question("b.example"), opt()))
            assert reply.rcode() == dns.rcode.REFUSED
            assert extended(reply) == [20]


def test_a_route_that_comes_late_is_taken_for_names_that_were_refused() -> None:
    """As in a container whose resolv.conf is written after the first query."""
    routes: dict[str, list[tuple[str, int]]] = {}
    with (
        resolving(address_of) as upstream,
        DnsServer(
            ("127.0.0.1", 0), lambda: SNAPSHOT, clock=lambda: NOW, forward=lambda: routes
        ) as server,
    ):
        for _ in range(2):
            assert ask(server).rcode() == dns.rcode.REFUSED
        assert server._forwarder
        routes[""] = [upstream.address]
        server._forwarder._routes = Routes(routes)
        assert ask(server).answer


@pytest.mark.parametrize(
    ("name", "kind", "rcode", "told_of"),
    [
        ("localhost", wire.A, 0, ["127.0.0.1"]),
        ("x.LOCALHOST", wire.AAAA, 0, ["::1"]),
        ("localhost", wire.TXT, 0, []),
        ("invalid", wire.A, dns.rcode.NXDOMAIN, []),
        ("x.y.invalid", wire.A, dns.rcode.NXDOMAIN, []),
        ("x.onion", wire.A, dns.rcode.NXDOMAIN, []),
        ("x.alt", wire.A, dns.rcode.NXDOMAIN, []),
        ("_dns.resolver.arpa", 64, 0, []),
    ],
)
def test_special_use_names_are_asked_of_nobody(
    name: str, kind: int, rcode: int, told_of: list[str]
) -> None:
    """RFC 6761 §6.3 and §6.4, RFC 7686, RFC 9462, RFC 9476; denials can be remembered."""
    with resolving(address_of) as upstream, forwarding(upstream.address) as server:
        for extra in ((), (opt(),)):
            reply = ask(server, packet(question(name, kind), *extra))
            assert reply.rcode() == rcode
            assert [str(r) for rrset in reply.answer for r in rrset] == told_of
            assert bool(reply.authority) is not bool(told_of)
        assert not upstream.asked


@pytest.mark.parametrize(
    "name",
    ["printer.local", "x.test", "nas.home.arpa", "10.in-addr.arpa", "xinvalid"],
)
def test_names_that_may_be_somebodys_own_are_asked_for(name: str) -> None:
    """Private zones are called so; whoever is asked knows them or denies them."""
    with resolving(address_of) as upstream, forwarding(upstream.address) as server:
        assert ask(server, packet(question(name))).answer


def test_a_special_use_name_takes_a_route_of_its_own() -> None:
    """Whoever wrote it means it; a wider one does not lead there."""
    routes = Routes({"": [("a", 53)], "arpa": [("b", 53)], "x.invalid": [("c", 53)]})
    want = {"y.x.invalid": "c", "invalid": "", "_dns.resolver.arpa": "", "ip6.arpa": "b", "alt": ""}
    for name, host in want.items():
        found = routes.to(wire.name_of(*name.encode().split(b".")))
        assert [upstream.address[0] for upstream in found] == [host] * bool(host)


def test_records_that_nobody_asked_for_answer_no_other_question() -> None:
    """Whatever comes along with an answer, or under an alias: each question is asked itself."""

    def says(query: dns.message.Message, _: bool) -> list[bytes]:
        name = query.question[0].name
        evil = [f"{victim} 60 A 192.0.2.66" for victim in VICTIMS]
        alias = f"{name} 60 CNAME {VICTIMS[0]}"
        asks_for_itself = name.to_text().lower() in VICTIMS
        return [told(query, *([f"{name} 60 A 192.0.2.1"] if asks_for_itself else [alias, *evil]))]

    with resolving(says) as upstream, forwarding(upstream.address) as server:
        ask(server)
        for name in VICTIMS[:2]:
            assert str(ask(server, packet(question(name))).answer[0][0]) == "192.0.2.1"
        ours = ask(server, packet(question(VICTIMS[2])))
        assert {str(r) for r in ours.answer[0]} == {"10.0.1.10", "10.0.1.11"}


VICTIMS = ("bank.example.", "com.", "orders.prod.ecs.internal.")


def test_a_loop_ends_at_once_and_is_told_of() -> None:
    """An upstream that is ourselves: SERVFAIL for all, no storm."""
    heard: list[Event] = []
    routes: dict[str, list[tuple[str, int]]] = {"": []}
    server = DnsServer(
        *(("127.0.0.1", 0), lambda: SNAPSHOT),
        clock=lambda: NOW,
        forward=routes,
        listeners=Listeners(heard.append),
    )
    with server:
        free = server.address
    routes[""] = [free]
    looped = DnsServer(
        *(free, lambda: SNAPSHOT),
        clock=lambda: NOW,
        forward=routes,
        listeners=Listeners(heard.append),
    )
    with looped:
        assert ask(looped, packet(WWW, opt())).rcode() == dns.rcode.SERVFAIL
    notices = [e for e in heard if isinstance(e, Noticed)]
    assert notices == [Noticed("an upstream resolver sends our own queries back to us")]


def test_what_waits_is_bounded_and_the_oldest_gives_way() -> None:
    """It gets SERVFAIL, and the event says so."""
    heard: list[Event] = []
    with resolving(lambda *_: []) as silent:
        routes = {"": [silent.address]}
        it = Forwarder(routes, Listeners(heard.append), max_waiting=2)
        it.start()
        try:
            came: dict[str, Relayed] = {}
            for name in ("one.example", "two.example", "three.example"):
                octets = packet(question(name))
                it.ask(wire.read(octets), octets, lambda reply, n=name: came.update({n: reply}))  # type: ignore[misc]
            assert eventually(lambda: bool(came))
            assert came.keys() == {"one.example"}
            assert came["one.example"].rcode == wire.SERVFAIL
            dropped = QueryDropped("too many forwarded queries: the oldest is given up")
            assert heard == [dropped]
        finally:
            it.close()


def test_closing_ends_whatever_waits() -> None:
    """No thread and no socket is left, and closing does not wait for a silent upstream."""
    with resolving(lambda *_: []) as silent:
        with forwarding(silent.address) as server, suppress(TimeoutError):
            datagram(server, PLAIN, 0.1)
        assert "dns-forward" not in {thread.name for thread in threading.enumerate()}

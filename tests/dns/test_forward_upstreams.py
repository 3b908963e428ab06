"""Upstream resolvers that are slow, broken, hostile or ourselves, through real sockets."""

import asyncio
import socket
from random import Random

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from discovery.dns import exchange, wire
from discovery.dns.forward import Forwarder
from discovery.dns.server import DnsServer
from discovery.events import Event, Listeners, Noticed
from tests.dns.resolvers import resolving, told, until
from tests.dns.talk import datagram, stream
from tests.dns.test_forward import address_of, ask, extended, forwarding, found, patient
from tests.dns.world import NOW, SNAPSHOT, opt, packet, question

WWW = question("www.example.com")
PLAIN = packet(WWW)


def refuses(query: dns.message.Message, _: bool) -> list[bytes]:
    """SERVFAIL, whatever the question."""
    return [told(query, rcode=dns.rcode.SERVFAIL)]


def test_a_failure_that_was_told_is_remembered() -> None:
    """RFC 9520: nobody who said so is asked again, neither now nor by the next client."""
    with (
        resolving(refuses) as one,
        resolving(refuses) as two,
        forwarding(one.address, two.address) as server,
    ):
        for _ in range(3):
            assert ask(server).rcode() == dns.rcode.SERVFAIL
        assert (len(one.asked), len(two.asked)) == (1, 1)


def test_failures_that_persist_are_remembered_longer() -> None:
    """1, 2, 4 seconds; one answer ends it."""
    now = [100.0]
    is_well = [False]

    def says(query: dns.message.Message, stream: bool) -> list[bytes]:
        return address_of(query) if is_well[0] else refuses(query, stream)

    def life() -> int:
        life_s = found(it, "www.example.com").life_s
        now[0] += 70
        return life_s

    with resolving(says) as upstream, patient({"": [upstream.address]}, lambda: now[0]) as it:
        assert [life(), life(), life()] == [1, 2, 4]
        is_well[0] = True
        assert life() == 60
        is_well[0] = False
        assert life() == 1


def test_a_stream_that_breaks_leads_to_the_next_resolver() -> None:
    """Cut off over UDP and closed over TCP is no answer."""

    def breaks(query: dns.message.Message, is_stream: bool) -> list[bytes]:
        return [] if is_stream else [told(query, cut=True)]

    with resolving(breaks) as broken, resolving(address_of) as good:
        with forwarding(broken.address, good.address) as server:
            assert dns.message.from_wire(stream(server, PLAIN)).answer
        with forwarding(broken.address) as server:
            reply = dns.message.from_wire(stream(server, packet(WWW, opt())))
            assert reply.rcode() == dns.rcode.SERVFAIL
            assert not reply.flags & dns.flags.TC
            assert extended(reply) == [23]


def test_what_a_resolver_had_to_cut_over_tcp_is_passed_on() -> None:
    """With its records, and TC: there may be more than 64 KB."""

    def cuts(query: dns.message.Message, is_stream: bool) -> list[bytes]:
        name = query.question[0].name
        records = [f"{name} 60 A 192.0.2.{n}" for n in range(3)]
        return [told(query, *records if is_stream else (), cut=True)]

    with resolving(cuts) as upstream, forwarding(upstream.address) as server:
        reply = dns.message.from_wire(stream(server, PLAIN))
        assert len(reply.answer[0]) == 3
        assert reply.flags & dns.flags.TC


def test_answers_that_fit_come_without_what_does_not() -> None:
    """A long authority section costs the client no second question."""

    def says(query: dns.message.Message, _: bool) -> list[bytes]:
        soas = (f"n{n}.example. 60 SOA a. b. {n} 2 3 4 5" for n in range(20))
        return [told(query, f"{query.question[0].name} 60 A 192.0.2.1", *soas)]

    with resolving(says) as upstream, forwarding(upstream.address) as server:
        reply = ask(server)
        assert (len(reply.answer), len(reply.authority)) == (1, 0)
        assert not reply.flags & dns.flags.TC


def test_a_resolver_that_answers_only_streams_is_asked_so() -> None:
    """After its silence on UDP."""
    with (
        resolving(lambda query, is_stream: address_of(query) if is_stream else []) as upstream,
        forwarding(upstream.address) as server,
    ):
        assert ask(server).answer


def test_a_resolver_that_is_not_there_is_passed_by() -> None:
    """The system tells of the refusal; the next one answers."""
    with resolving(address_of) as gone:
        address = gone.address
    with resolving(address_of) as good, forwarding(address, good.address) as server:
        assert ask(server).answer
        assert len(good.asked) == 1


def test_an_extended_code_is_no_success() -> None:
    """BADCOOKIE's low bits are YXRRSET's, BADVERS' are NOERROR's: the client gets SERVFAIL."""

    def says(query: dns.message.Message, _: bool) -> list[bytes]:
        reply = dns.message.make_response(query)
        reply.use_edns(0)
        reply.set_rcode(dns.rcode.BADVERS)
        return [reply.to_wire()]

    with resolving(says) as upstream, forwarding(upstream.address) as server:
        assert ask(server).rcode() == dns.rcode.SERVFAIL
        assert ask(server, packet(WWW, opt())).rcode() == dns.rcode.SERVFAIL


def test_options_of_a_resolver_are_not_the_clients() -> None:
    """Neither padding nor anything else; without EDNS there is no OPT at all."""

    def says(query: dns.message.Message, _: bool) -> list[bytes]:
        reply = dns.message.from_wire(address_of(query)[0])
        reply.use_edns(0, options=[dns.edns.GenericOption("PADDING", bytes(400))])
        return [reply.to_wire()]

    with resolving(says) as upstream, forwarding(upstream.address) as server:
        assert ask(server).edns == -1
        padded = ask(server, packet(WWW, opt((12, bytes(100)))))
        assert (padded.edns, padded.options) == (0, ())
        assert all(not query.options for query in upstream.asked)


def test_a_ttl_of_zero_is_passed_on_and_not_remembered() -> None:
    """Each client has it asked for."""

    def says(query: dns.message.Message, _: bool) -> list[bytes]:
        return [told(query, f"{query.question[0].name} 0 A 192.0.2.1")]

    with resolving(says) as upstream, forwarding(upstream.address) as server:
        assert [ask(server).answer[0].ttl for _ in range(2)] == [0, 0]
        assert len(upstream.asked) == 2


def test_private_reverse_names_go_to_the_resolver() -> None:
    """Only addresses that we know are ours."""

    def says(query: dns.message.Message, _: bool) -> list[bytes]:
        return [told(query, f"{query.question[0].name} 60 PTR host.corp.example.")]

    with resolving(says) as upstream, forwarding(upstream.address) as server:
        for name in ("9.9.9.10.in-addr.arpa", "1.0.0.127.in-addr.arpa", "10.in-addr.arpa"):
            assert ask(server, packet(question(name, wire.PTR))).answer
        ours = ask(server, packet(question("10.1.0.10.in-addr.arpa", wire.PTR)))
        assert "ecs.internal" in str(ours.answer[0])
        assert len(upstream.asked) == 3


def test_a_loop_costs_one_question_and_the_next_resolver_answers() -> None:
    """We listen on every address, and one of ours is listed: it rests after two loops."""
    heard: list[Event] = []
    with resolving(address_of) as good:
        server = DnsServer(
            *(("0.0.0.0", 0), lambda: SNAPSHOT),
            clock=lambda: NOW,
            random=Random(1),
            forward=lambda: {"": [("127.0.0.2", server.address[1]), good.address]},
            listeners=Listeners(heard.append),
        )
        with server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(30.0)
            port = server.address[1]
            client.connect(("127.0.0.1", port))
            for n in range(4):
                client.send(packet(question(f"n{n}.example.com")))
                assert dns.message.from_wire(client.recv(512)).answer
            assert server._forwarder
            loop = server._forwarder._routes.known["127.0.0.2", port]
            assert "0 failures" not in repr(loop)
        assert len(good.asked) == 4
    assert heard == [Noticed("an upstream resolver sends our own queries back to us")]


def test_a_loop_through_another_resolver_does_not_grow() -> None:
    """With a new id and case it looks like another client: it waits for the same question."""
    servers: list[DnsServer] = []

    def leads_back(query: dns.message.Message, _: bool) -> list[bytes]:
        query.id ^= 1
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back:
            back.sendto(query.to_wire(), servers[0].address)
        return []

    with resolving(leads_back) as upstream, forwarding(upstream.address) as server:
        servers.append(server)
        assert ask(server).rcode() == dns.rcode.SERVFAIL
        assert len(upstream.asked) == 3


def test_a_list_of_resolvers_that_changes_is_followed() -> None:
    """Without a restart."""
    with resolving(address_of) as old, resolving(address_of) as new:
        routes = {"": [old.address]}
        it = Forwarder(lambda: routes, Listeners(), look_s=0.01)
        it.start()
        try:
            found(it, "one.example")
            routes = {"": [new.address]}

            def is_followed() -> bool:
                found(it, f"n{len(old.asked)}.example")
                return bool(new.asked)

            until(is_followed)
        finally:
            it.close()


def test_a_list_that_cannot_be_looked_up_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The former resolvers are asked on."""
    with resolving(address_of) as upstream:
        looks: list[int] = []

        def look() -> dict[str, list[tuple[str, int]]]:
            looks.append(1)
            if len(looks) > 1:
                raise RuntimeError("no list")
            return {"": [upstream.address]}

        it = Forwarder(look, Listeners(), look_s=0.01)
        it.start()
        try:
            until(lambda: len(looks) > 3)
            assert found(it, "one.example").counts == (1, 0, 0)
        finally:
            it.close()
    assert "could not be looked up again" in caplog.text


SCOPES = pytest.mark.parametrize("scope", ["none0", "4294967297", "9" * 5_000, "a\0b"])


@SCOPES
def test_an_interface_that_is_not_there_is_the_resolvers_failure(
    scope: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An address with a scope that this machine does not have: the next one is asked."""
    with (
        resolving(address_of) as good,
        forwarding((f"fe80::1%{scope}", 53), good.address) as server,
    ):
        assert ask(server).answer
    assert not caplog.records


@SCOPES
@pytest.mark.parametrize("over_tcp", [False, True], ids=["udp", "tcp"])
def test_a_scope_is_not_taken_for_another(scope: str, over_tcp: bool) -> None:
    """One over 32 bits has no interface, though its low bits may be those of one."""

    async def exchanged() -> None:
        async with asyncio.timeout(10.0):
            await exchange.exchanged((f"fe80::1%{scope}", 53), PLAIN, over_tcp)

    with pytest.raises(OSError, match="interface"):
        asyncio.run(exchanged())


def test_a_reply_for_a_client_that_has_gone_harms_nobody() -> None:
    """The next one is answered."""
    with resolving(address_of) as upstream, forwarding(upstream.address) as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(PLAIN, server.address)
        assert datagram(server, packet(question("other.example.com")))

"""What forwarding is bounded by, what happens at each bound, and that it leaves nothing behind."""

import os
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import dns.message
import pytest

from discovery.dns import exchange, wire
from discovery.dns.forward import LOOPED, OVERLOADED, SHORT, UNANSWERED, Forwarder
from discovery.dns.relay import Relayed
from discovery.events import Event, Listeners, QueryDropped
from tests.dns.resolvers import Resolver, open_to, resolving, until
from tests.dns.test_forward import address_of
from tests.dns.world import packet, question


@contextmanager
def silent() -> Iterator[Resolver]:
    """A resolver that never says anything."""
    with resolving(lambda *_: []) as resolver:
        yield resolver


class Asking:
    """A forwarder to some resolvers, with what it said of each name and what it told of."""

    def __init__(self, *upstreams: Resolver, **limits: int) -> None:
        self.heard: list[Event] = []
        self.came: dict[str, list[Relayed]] = {}
        routes = {"": [upstream.address for upstream in upstreams]}
        self.forwarder = Forwarder(routes, Listeners(self.heard.append), **limits)  # type: ignore[arg-type]

    def __enter__(self) -> "Asking":
        self.forwarder.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.forwarder.close()

    def ask(self, name: str) -> None:
        """Ask, as a client that waits."""
        octets = packet(question(name))
        self.forwarder.ask(wire.read(octets), octets, self.came.setdefault(name, []).append)

    def answer(self, name: str) -> Relayed:
        """The reply to a question of its own."""
        self.ask(name)
        until(lambda: bool(self.came[name]))
        return self.came[name].pop()

    @property
    def dropped(self) -> list[str]:
        """The reasons told of."""
        return [event.reason for event in self.heard if isinstance(event, QueryDropped)]


@contextmanager
def no_descriptor_to_spare() -> Iterator[None]:
    """The process may open nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_each_failure_has_a_reason_of_its_own() -> None:
    """Whoever looks with `dig` sees which it was."""
    failures = (UNANSWERED, LOOPED, OVERLOADED, SHORT)
    assert len({failure.extended for failure in failures}) == len(failures)
    assert {failure.rcode for failure in failures} == {wire.SERVFAIL}


@pytest.mark.parametrize(
    ("soft", "sockets"), [(64, 8), (1_024, 128), (8_192, 1_024), (20_000, 1_024), (4, 1)]
)
def test_sockets_are_a_part_of_what_the_process_may_open(soft: int, sockets: int) -> None:
    """The servers, the API's clients and files need descriptors, too."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        found = exchange.sockets_to_spare()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert found == sockets


def test_no_more_sockets_are_open_than_allowed() -> None:
    """However many names are asked for; the others wait."""
    with silent() as upstream, Asking(upstream, max_sockets=4) as asking:
        for n in range(50):
            asking.ask(f"n{n}.example")
        until(lambda: open_to(upstream.address) == 4)
        most = 0

        def all_asked() -> bool:
            nonlocal most
            most = max(most, open_to(upstream.address))
            return len(upstream.asked) >= 8

        until(all_asked)
        assert most == 4


def test_who_never_got_a_socket_is_told_of_overload() -> None:
    """And the resolver is not blamed: it was not asked."""
    with silent() as upstream, Asking(upstream, max_sockets=1) as asking:
        for n in range(10):
            asking.ask(f"n{n}.example")
        until(lambda: all(asking.came.values()))
        assert asking.came["n0.example"] == [UNANSWERED]
        assert asking.came["n9.example"] == [OVERLOADED]
        assert "no socket for a forwarded query in time" in asking.dropped


def test_a_silent_resolver_costs_little_under_load() -> None:
    """As soon as it rests, the questions that waited for a socket go to the next one."""
    with silent() as first, resolving(address_of) as second:
        with Asking(first, second, max_sockets=8) as asking:
            for n in range(400):
                asking.ask(f"n{n}.example")
            until(lambda: all(asking.came.values()))
            answered = [r for (r,) in asking.came.values() if r.rcode == wire.NOERROR]
        assert len(answered) > 300
        assert len(first.asked) < 40


def test_a_lack_of_descriptors_is_nobodys_failure() -> None:
    """It is said, not remembered, and the resolver that was not asked goes on being the first."""
    with resolving(address_of) as first, resolving(address_of) as second:
        with Asking(first, second) as asking:
            with no_descriptor_to_spare():
                for n in range(4):
                    assert asking.answer(f"n{n}.example") is SHORT
            assert len(asking.dropped) == 4
            assert asking.answer("n0.example").counts == (1, 0, 0)
        assert (len(first.asked), len(second.asked)) == (1, 0)


def test_hundreds_of_clients_may_wait_for_one_name() -> None:
    """All of them are answered, by one query."""
    go = threading.Event()

    def says(query: dns.message.Message, _: bool) -> list[bytes]:
        go.wait(30)
        return address_of(query)

    with resolving(says) as upstream, Asking(upstream) as asking:
        try:
            for _ in range(500):
                asking.ask("www.example")
            until(lambda: bool(upstream.asked))
        finally:
            go.set()
        until(lambda: len(asking.came["www.example"]) == 500)
        assert {reply.rcode for reply in asking.came["www.example"]} == {wire.NOERROR}
        assert not asking.dropped


def test_waiting_clients_are_bounded_in_total() -> None:
    """One more for the same name gives way; for another name the oldest question does."""
    with silent() as upstream, Asking(upstream, max_waiters=3) as asking:
        asking.ask("one.example")
        for _ in range(3):
            until(lambda: bool(upstream.asked))
            asking.ask("two.example")
        until(lambda: bool(asking.came["two.example"]))
        assert asking.came == {"one.example": [], "two.example": [OVERLOADED]}
        asking.ask("three.example")
        until(lambda: bool(asking.came["one.example"]))
        assert asking.came["one.example"] == [OVERLOADED]
        assert asking.dropped == [
            "too many clients wait for forwarded names: one more is refused",
            "too many forwarded queries: the oldest is given up",
        ]


def test_what_is_on_its_way_to_the_forwarder_is_bounded() -> None:
    """A thread that cannot keep up does not fill the memory."""
    with silent() as upstream:
        asking = Asking(upstream, max_waiters=5)
        try:
            for n in range(6):
                asking.ask(f"n{n}.example")
            assert [len(replies) for replies in asking.came.values()] == [0, 0, 0, 0, 0, 1]
            assert asking.dropped == ["too many forwarded queries: one more is refused"]
        finally:
            asking.forwarder.close()


def test_a_client_that_cannot_be_reached_is_told_of() -> None:
    """As an event; the others are answered all the same."""

    def gone(_: Relayed) -> None:
        raise OSError(1, "Operation not permitted")

    octets = packet(question("www.example"))
    with resolving(address_of) as upstream, Asking(upstream) as asking:
        asking.forwarder.ask(wire.read(octets), octets, gone)
        assert asking.answer("other.example").rcode == wire.NOERROR
        until(lambda: bool(asking.dropped))
        assert asking.dropped == ["cannot be sent: Operation not permitted"]


def test_a_thousand_in_flight_leave_nothing_behind() -> None:
    """Closing ends the thread, and every socket with it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        address = deaf.getsockname()
        before = len(os.listdir("/proc/self/fd"))
        it = Forwarder({"": [address]}, Listeners(), max_sockets=1_000)
        it.start()
        try:
            for n in range(1_000):
                octets = packet(question(f"n{n}.example"))
                it.ask(wire.read(octets), octets, lambda _: None)
            all_of_them = "<Forwarder 1000 questions waiting>"
            until(lambda: repr(it) == all_of_them and open_to(address) > 100)
        finally:
            it.close()
        assert open_to(address) == 0
        assert len(os.listdir("/proc/self/fd")) == before
        assert "dns-forward" not in {thread.name for thread in threading.enumerate()}

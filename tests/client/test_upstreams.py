"""The listeners that lead to services, against real sockets."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from discovery import Resolver
from discovery.balancing.round_robin import RoundRobin
from discovery.client.upstreams import UpstreamLimits, Upstreams
from discovery.errors import AddressUnusable
from discovery.model import Endpoint, Port, Service
from discovery.settings import Address, Settings, Upstream
from discovery.sidecar.supervisor import Sidecar
from discovery.sources.base import FixedSource
from tests.made import FakeClock, observed, reading

TIMEOUT_S = 5.0


class Echo:
    """A server that says its number and then repeats what it hears, in capitals, until it ends.

    A deaf one accepts, says its number, and reads nothing.
    """

    def __init__(self, number: int, deaf: bool = False) -> None:
        self.number = number
        self.deaf = deaf
        self.ended: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                taken, _ = self._listener.accept()
                self._open.append(taken)
                with contextlib.suppress(OSError):  # it may have left already
                    taken.sendall(b"%d" % self.number)
                    if not self.deaf:
                        self._start(self._repeat, taken)

    def _repeat(self, taken: socket.socket) -> None:
        heard = b""
        with contextlib.suppress(OSError), taken:
            while data := taken.recv(65_536):
                heard += data
                taken.sendall(data.upper())
            taken.sendall(b"!")
        self.ended.append(heard)

    def refuse(self) -> None:
        """Listen no more; what is open stays."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def close(self) -> None:
        """End everything."""
        self.refuse()
        self._threads[0].join(TIMEOUT_S)  # whoever was accepted last is known afterwards
        for taken in self._open:
            with contextlib.suppress(OSError):
                taken.shutdown(socket.SHUT_RDWR)
            taken.close()
        for thread in self._threads:
            thread.join(TIMEOUT_S)

    @property
    def endpoint(self) -> Endpoint:
        """Where it is."""
        task = f"task/{self.number}"
        return Endpoint("127.0.0.1", self.port, container_port=7, task_arn=task, service="echo")


def observation(*echoes: Echo) -> Any:
    endpoints = tuple(e.endpoint for e in echoes)
    known = Service("echo", "demo", endpoints=endpoints, ports=(Port(7),), default_port=Port(7))
    return observed(reading(known))


class World:
    """Echo servers behind one listener."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self.source: FixedSource
        self.resolver: Resolver
        self.upstreams: Upstreams

    def echoes(self, count: int, **options: Any) -> list[Echo]:
        """So many servers."""
        made = [Echo(n, **options) for n in range(count)]
        for echo in made:
            self._stack.callback(echo.close)
        return made

    def listen(self, *echoes: Echo, **limits: Any) -> None:
        """Open the port that leads to them."""
        self.source = FixedSource(observation(*echoes))
        self.resolver = self._stack.enter_context(
            Resolver(source=self.source, clock=FakeClock(), policy=RoundRobin)
        )
        upstream = Upstream("echo", Address("127.0.0.1", 0))
        given = UpstreamLimits(**({"sweep_s": 0.02} | limits))
        self.upstreams = Upstreams(self.resolver, [upstream], given, Random(7))
        self._stack.callback(self.upstreams.close)
        self.upstreams.start()

    def connect(self) -> socket.socket:
        """A client's connection, before the server's first byte."""
        (address,) = self.upstreams.addresses
        made = socket.create_connection((address.host, address.port), TIMEOUT_S)
        self._stack.callback(made.close)
        return made

    def in_flight(self) -> int:
        """Connections under way, as the balancer counts them."""
        return sum(m.in_flight for p in self.resolver._balancer.pools for m in p.members)

    def until(self, holds: Callable[[], bool]) -> bool:
        """Whether it comes to hold in time."""
        ends_at = time.monotonic() + TIMEOUT_S
        while not holds() and time.monotonic() < ends_at:
            threading.Event().wait(0.01)
        return holds()


@pytest.fixture
def world() -> Iterator[World]:
    """Everything it starts is gone afterwards."""
    with contextlib.ExitStack() as stack:
        yield World(stack)


def read(connection: socket.socket, count: int) -> bytes:
    """Exactly so many bytes, or fewer at the end."""
    got = b""
    while len(got) < count and (data := connection.recv(count - len(got))):
        got += data
    return got


def test_connections_are_balanced_and_counted(world: World) -> None:
    """Each in its turn, in flight until it is closed."""
    world.listen(*world.echoes(3))
    connections = [world.connect() for _ in range(6)]
    assert sorted(read(c, 1) for c in connections) == [b"0", b"0", b"1", b"1", b"2", b"2"]
    assert world.in_flight() == 6
    for connection in connections:
        connection.close()
    assert world.until(lambda: world.in_flight() == 0)
    assert world.until(lambda: world.upstreams.connections == 0)


def test_bytes_pass_in_both_directions(world: World) -> None:
    """As many as there are, in order."""
    world.listen(*world.echoes(1))
    connection = world.connect()
    sent = b"".join(b"%08d" % n for n in range(250_000)) + b"end"
    writer = threading.Thread(target=connection.sendall, args=(sent,))
    writer.start()
    got = read(connection, len(sent) + 1)
    writer.join(TIMEOUT_S)
    assert got == b"0" + sent.upper()


def test_a_half_closed_connection_goes_on_the_other_way(world: World) -> None:
    """Who has said everything still hears the rest."""
    (echo,) = world.echoes(1)
    world.listen(echo)
    connection = world.connect()
    connection.sendall(b"last words")
    connection.shutdown(socket.SHUT_WR)
    assert read(connection, 100) == b"0LAST WORDS!"
    assert world.until(lambda: echo.ended == [b"last words"])
    assert world.until(lambda: world.in_flight() == 0)


def test_a_slow_reader_slows_its_writer_down(world: World) -> None:
    """What nobody reads is not gathered in our memory."""
    world.listen(*world.echoes(1, deaf=True))
    connection = world.connect()
    connection.settimeout(0.3)
    sent = 0
    with contextlib.suppress(TimeoutError):
        for _ in range(1_000):
            sent += connection.send(b"x" * 1_000_000)
    assert sent < 100_000_000


def test_connecting_is_tried_elsewhere(world: World) -> None:
    """A client notices nothing of an endpoint that refuses."""
    good, bad = world.echoes(2)
    world.listen(good, bad)
    bad.refuse()
    assert [read(world.connect(), 1) for _ in range(6)] == [b"0"] * 6
    assert "ejected: 2 refusals in a row" in repr(world.resolver)


def test_with_nowhere_to_go_the_connection_ends(world: World) -> None:
    """At once, and nothing stays behind."""
    (bad,) = world.echoes(1)
    world.listen(bad)
    bad.refuse()
    with contextlib.suppress(ConnectionResetError):
        assert read(world.connect(), 1) == b""
    assert world.until(lambda: world.upstreams.connections == 0)
    assert world.in_flight() == 0


def test_new_connections_avoid_a_task_that_stops_and_old_ones_end_when_quiet(world: World) -> None:
    """A connection in use goes on until its next quiet moment."""
    old, new = world.echoes(2)
    world.listen(old, quiet_s=0.3)
    used, quiet = world.connect(), world.connect()
    assert read(used, 1) == read(quiet, 1) == b"0"
    world.source.say(observation(new))
    world.resolver.refresh()
    ends_at = time.monotonic() + 0.8
    while time.monotonic() < ends_at:
        used.sendall(b"a")
        assert read(used, 1) == b"A"
        threading.Event().wait(0.02)
    assert read(quiet, 1) == b""
    assert read(world.connect(), 1) == b"1"
    assert read(used, 1) == b""


def test_a_busy_connection_ends_after_the_grace_time(world: World) -> None:
    """However much passes on it."""
    old, new = world.echoes(2)
    world.listen(old, quiet_s=0.3, grace_s=0.3)
    used = world.connect()
    assert read(used, 1) == b"0"
    world.source.say(observation(new))
    world.resolver.refresh()
    ends_at = time.monotonic() + TIMEOUT_S
    with contextlib.suppress(ConnectionError):
        while time.monotonic() < ends_at:
            used.sendall(b"a")
            if not read(used, 1):
                break
    assert time.monotonic() < ends_at


@pytest.mark.parametrize("limits", [{"idle_s": 0.1}, {"age_s": 0.1, "quiet_s": 0.05}])
def test_idle_and_old_connections_end(world: World, limits: dict[str, float]) -> None:
    """So that a long one does not stay with one task for ever."""
    world.listen(*world.echoes(1), **limits)
    connection = world.connect()
    assert read(connection, 1) == b"0"
    assert read(connection, 1) == b""


def test_the_number_of_connections_is_bounded(world: World) -> None:
    """One more is closed at once, and those that are open go on."""
    world.listen(*world.echoes(1), connections=2)
    first, second = world.connect(), world.connect()
    assert read(first, 1) == read(second, 1) == b"0"
    with contextlib.suppress(ConnectionResetError):
        assert read(world.connect(), 1) == b""
    first.sendall(b"a")
    assert read(first, 1) == b"A"


def test_a_client_that_leaves_while_it_waits_leaves_nothing(world: World) -> None:
    """Nor does closing with connections open."""
    world.listen(*world.echoes(2))
    for _ in range(20):
        world.connect().close()
    assert world.until(lambda: world.upstreams.connections == 0)
    assert world.in_flight() == 0
    for _ in range(5):
        world.connect()
    world.upstreams.close()
    assert world.upstreams.connections == 0
    assert world.in_flight() == 0


def test_the_sidecar_opens_them(world: World) -> None:
    """As its settings say; a port that is taken is said with its flag."""
    (echo,) = world.echoes(1)
    loopback = Address("127.0.0.1", 0)
    settings = Settings(
        dns=loopback, http=loopback, upstreams=(Upstream("echo.demo", loopback),), lame_duck_s=0
    )
    source = FixedSource(observation(echo))
    with Sidecar(settings, source=source, clock=FakeClock()) as sidecar:
        (address,) = sidecar.upstream_addresses
        with socket.create_connection((address.host, address.port), TIMEOUT_S) as connection:
            assert read(connection, 1) == b"0"
        taken = replace(settings, upstreams=(Upstream("echo", address),))
        with pytest.raises(AddressUnusable, match="--upstream"):
            Sidecar(taken, source=FixedSource(observation(echo))).start()

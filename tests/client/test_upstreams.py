"""The listeners that lead to services, against real sockets."""

import contextlib
import errno
import os
import resource
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from discovery import Resolver
from discovery.balancing.round_robin import RoundRobin
from discovery.client.lifetime import UpstreamLimits
from discovery.client.upstreams import Upstreams
from discovery.errors import AddressUnusable
from discovery.events import Event, Listeners, Noticed
from discovery.model import Endpoint, Port, Service
from discovery.settings import Settings
from discovery.sidecar.supervisor import Sidecar
from discovery.sources.base import FixedSource
from discovery.written import Address, Upstream
from tests.made import FakeClock, observed, reading

TIMEOUT_S = 30.0
RESET = struct.pack("ii", 1, 0)  # struct linger: closing resets
FLOOD = 100_000_000


class Echo:
    """A server that says its number and then repeats what it hears, in capitals, until it ends.

    A deaf one reads nothing, a flooding one sends `FLOOD` bytes more at once and ends, a parting
    one ends for writing at once and goes on to listen. `heard` is what came on a connection that
    has ended, `sent` what went, and `resets` counts those that broke off.
    """

    def __init__(
        self, number: int, deaf: bool = False, flooding: bool = False, parting: bool = False
    ) -> None:
        self.number = number
        self.deaf = deaf
        self.flooding = flooding
        self.parting = parting
        self.heard: list[bytes] = []
        self.sent = 0
        self.resets = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                taken, _ = self._listener.accept()
            except OSError as error:
                if error.errno != errno.EMFILE:  # the test takes files away, and gives them back
                    return
                continue
            self.open.append(taken)
            with contextlib.suppress(OSError):  # it may have left already
                taken.sendall(b"%d" % self.number)
                if not self.deaf:
                    self._start(self._flood if self.flooding else self._repeat, taken)

    def _flood(self, taken: socket.socket) -> None:
        block = b"x" * 100_000
        with contextlib.suppress(OSError), taken:
            while self.sent < FLOOD:
                self.sent += taken.send(block)

    def _repeat(self, taken: socket.socket) -> None:
        heard = b""
        if self.parting:
            taken.shutdown(socket.SHUT_WR)
        try:
            with taken:
                while data := taken.recv(65_536):
                    heard += data
                    if not self.parting:
                        taken.sendall(data.upper())
                if not self.parting:
                    taken.sendall(b"!")
        except ConnectionResetError:
            self.resets += 1
        except OSError:
            pass  # closed by the test's end
        self.heard.append(heard)

    def refuse(self) -> None:
        """Listen no more; what is open stays."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def close(self) -> None:
        """End everything."""
        self.refuse()
        self._threads[0].join(TIMEOUT_S)  # whoever was accepted last is known afterwards
        for taken in self.open:
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


class Full:
    """A server whose queue is full: nobody is refused, and nobody gets in."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._listener = stack.enter_context(socket.socket())
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(self._listener.getsockname())

    @property
    def endpoint(self) -> Endpoint:
        """Where it is."""
        port = self._listener.getsockname()[1]
        return Endpoint("127.0.0.1", port, container_port=7, task_arn="task/full", service="echo")


def observation(*echoes: Echo | Full) -> Any:
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
        self.clock = FakeClock(0.0)
        self.name = "echo"  # that leads to them
        self.events: list[Event] = []

    def echoes(self, count: int, **options: Any) -> list[Echo]:
        """So many servers."""
        made = [Echo(n, **options) for n in range(count)]
        for echo in made:
            self._stack.callback(echo.close)
        return made

    def listen(self, *echoes: Echo | Full, **limits: Any) -> None:
        """Open the port that leads to them."""
        self.source = FixedSource(observation(*echoes))
        listeners = Listeners(self.events.append)
        self.resolver = self._stack.enter_context(
            Resolver(source=self.source, clock=FakeClock(), policy=RoundRobin, listeners=listeners)
        )
        upstream = Upstream(self.name, Address("127.0.0.1", 0))
        given = UpstreamLimits(**({"sweep_s": 3_600.0} | limits))
        self.upstreams = Upstreams(self.resolver, [upstream], given, Random(7), self.clock)
        self._stack.callback(self.upstreams.close)
        self.upstreams.start()

    def afterwards(self, act: Callable[[], object]) -> None:
        """Do this when the test is over."""
        self._stack.callback(act)

    def connect(self) -> socket.socket:
        """A client's connection, before the server's first byte."""
        (address,) = self.upstreams.addresses
        made = socket.create_connection((address.host, address.port), TIMEOUT_S)
        self._stack.callback(made.close)
        return made

    def goes(self, *echoes: Echo) -> None:
        """Only these are there from now on."""
        self.source.say(observation(*echoes))
        self.resolver.refresh()

    def after(self, seconds: float) -> None:
        """So much later, the listener looks what should end."""
        self.clock.now += seconds
        looked = threading.Event()

        def look() -> None:
            self.upstreams._listeners[0].sweep()
            looked.set()

        assert self.upstreams._loop is not None
        self.upstreams._loop.call_soon_threadsafe(look)
        assert looked.wait(TIMEOUT_S)

    def busy_s(self, seconds: float) -> float:
        """How long the listener's thread used the CPU in so many real seconds."""
        clock = time.pthread_getcpuclockid(self.upstreams._thread.ident or 0)
        began = time.clock_gettime(clock)
        threading.Event().wait(seconds)
        return time.clock_gettime(clock) - began

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
    assert world.until(lambda: echo.heard == [b"last words"])
    assert world.until(lambda: world.in_flight() == 0)


def settled(value: Callable[[], int]) -> int:
    """A number that grows, once it has not grown for a while."""
    last, since, ends_at = value(), time.monotonic(), time.monotonic() + TIMEOUT_S
    while time.monotonic() < min(ends_at, since + 0.5):
        if value() != last:
            last, since = value(), time.monotonic()
        threading.Event().wait(0.02)
    return last


def test_a_slow_server_slows_its_client_down(world: World) -> None:
    """What it does not read is not gathered in our memory."""
    world.listen(*world.echoes(1, deaf=True))
    connection = world.connect()
    connection.settimeout(0.5)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < FLOOD:
            sent += connection.send(b"x" * 1_000_000)
    assert sent < FLOOD / 2


def test_a_slow_client_slows_its_server_down(world: World) -> None:
    """What it does not read is not gathered in our memory, and all of it comes once it reads."""
    (echo,) = world.echoes(1, flooding=True)
    world.listen(echo)
    connection = world.connect()
    assert world.until(lambda: echo.sent > 0)
    assert settled(lambda: echo.sent) < FLOOD / 2
    assert len(read(connection, 2 * FLOOD)) == 1 + FLOOD


def test_a_client_that_does_not_read_counts_until_it_leaves(world: World) -> None:
    """Though its server has long gone: it takes a place, and the memory of what is held back."""
    (echo,) = world.echoes(1, flooding=True)
    world.listen(echo, connections=1)
    connection = world.connect()
    assert world.until(lambda: echo.sent > 0)
    settled(lambda: echo.sent)
    echo.open[0].shutdown(socket.SHUT_RDWR)
    settled(lambda: echo.sent)
    world.after(1.0)
    assert world.upstreams.connections == world.in_flight() == 1
    connection.close()
    assert world.until(lambda: world.upstreams.connections == world.in_flight() == 0)


def test_a_server_may_end_first(world: World) -> None:
    """It still hears what its client says."""
    (echo,) = world.echoes(1, parting=True)
    world.listen(echo)
    connection = world.connect()
    assert read(connection, 100) == b"0"
    connection.sendall(b"last words")
    connection.close()
    assert world.until(lambda: echo.heard == [b"last words"])
    assert world.until(lambda: world.upstreams.connections == world.in_flight() == 0)


def test_a_server_that_breaks_off_breaks_its_client_off(world: World) -> None:
    """The client is reset, not told that all is complete, and the endpoint is blamed."""
    (echo,) = world.echoes(1, deaf=True)
    world.listen(echo)
    connection = world.connect()
    assert read(connection, 1) == b"0"
    ((member,),) = (pool.members for pool in world.resolver._balancer.pools)
    assert member.standing.failures == 0
    echo.open[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    echo.open[0].close()
    with pytest.raises(ConnectionResetError):
        read(connection, 1)
    assert member.standing.failures == 1
    assert world.until(lambda: world.upstreams.connections == world.in_flight() == 0)


def test_a_client_that_breaks_off_breaks_its_server_off(world: World) -> None:
    """So that it does not take a part for the whole; the endpoint is not blamed."""
    (echo,) = world.echoes(1)
    world.listen(echo)
    connection = world.connect()
    assert read(connection, 1) == b"0"
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()
    assert world.until(lambda: echo.resets == 1)
    ((member,),) = (pool.members for pool in world.resolver._balancer.pools)
    assert member.standing.failures == 0
    assert world.until(lambda: world.upstreams.connections == world.in_flight() == 0)


def test_a_client_that_breaks_off_is_noticed_while_nothing_is_read(world: World) -> None:
    """Its server is deaf, so that what it sent is held back."""
    world.listen(*world.echoes(1, deaf=True))
    connection = world.connect()
    connection.settimeout(0.5)
    with contextlib.suppress(TimeoutError):
        while True:
            connection.send(b"x" * 1_000_000)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()
    assert world.until(lambda: world.upstreams.connections == world.in_flight() == 0)


@pytest.mark.parametrize("way", ["held back", "ended"])
def test_waiting_costs_no_cpu(world: World, way: str) -> None:
    """Neither for a slow reader, nor for what was left by both and is still to be read."""
    (echo,) = world.echoes(1, deaf=True)
    world.listen(echo)
    connection = world.connect()
    connection.settimeout(0.5)
    with contextlib.suppress(TimeoutError):
        while True:
            connection.send(b"x" * 1_000_000)
    if way == "ended":
        echo.open[0].shutdown(socket.SHUT_WR)
        connection.shutdown(socket.SHUT_WR)
        assert read(connection, 2) == b"0"
    assert world.busy_s(1.0) < 0.3


def test_connecting_is_tried_elsewhere(world: World) -> None:
    """A client notices nothing of an endpoint that refuses."""
    good, bad = world.echoes(2)
    world.listen(good, bad)
    bad.refuse()
    assert [read(world.connect(), 1) for _ in range(6)] == [b"0"] * 6


def test_with_nowhere_to_go_the_connection_ends(world: World) -> None:
    """At once, and nothing stays behind."""
    (bad,) = world.echoes(1)
    world.listen(bad)
    bad.refuse()
    with contextlib.suppress(ConnectionResetError):
        assert read(world.connect(), 1) == b""
    assert world.until(lambda: world.upstreams.connections == 0)
    assert world.in_flight() == 0


def test_a_name_that_leads_nowhere_is_said_once(world: World) -> None:
    """A client sees a reset only, whatever is wrong."""
    world.name = "ehco"
    world.listen(*world.echoes(1))
    for _ in range(3):
        with contextlib.suppress(ConnectionError):
            assert read(world.connect(), 1) == b""
    assert world.until(lambda: world.upstreams.taken[0].failed == 3)
    (notice,) = [event.message for event in world.events if isinstance(event, Noticed)]
    assert "upstream ehco leads nowhere: no service 'ehco'" in notice
    assert "echo.demo" in notice


def test_an_endpoint_that_does_not_accept_is_left_in_time(world: World) -> None:
    """Its queue is full, so that connecting would take minutes."""
    (good,) = world.echoes(1)
    with contextlib.ExitStack() as stack:
        full = Full(stack)
        world.listen(good, full, connect_s=0.5)
        assert [read(world.connect(), 1) for _ in range(6)] == [b"0"] * 6
        assert "ejected: 3 connect timeouts in a row" in repr(world.resolver)


def test_new_connections_avoid_a_task_that_stops_and_old_ones_end_when_quiet(world: World) -> None:
    """A connection in use goes on until its next quiet moment, and then ends cleanly."""
    old, new = world.echoes(2)
    world.listen(old)
    used, quiet = world.connect(), world.connect()
    assert read(used, 1) == read(quiet, 1) == b"0"
    world.goes(new)
    world.after(0.9)
    used.sendall(b"a")
    assert read(used, 1) == b"A"
    world.after(0.9)
    assert read(quiet, 1) == b""
    assert read(world.connect(), 1) == b"1"
    used.sendall(b"b")
    assert read(used, 1) == b"B"
    world.after(1.1)
    assert read(used, 1) == b""


def test_a_task_that_stops_may_answer_what_it_was_asked(world: World) -> None:
    """Who waits for an answer is not quiet, however long it takes within the grace time."""
    old, new = world.echoes(2, deaf=True)
    world.listen(old)
    connection = world.connect()
    assert read(connection, 1) == b"0"
    connection.sendall(b"question")
    assert read(old.open[0], 8) == b"question"
    world.goes(new)
    world.after(15.0)
    old.open[0].sendall(b"answer")
    assert read(connection, 6) == b"answer"
    world.after(1.1)
    assert read(connection, 1) == b""


def test_a_task_that_stops_may_send_all_to_a_slow_client(world: World) -> None:
    """Bytes that are held back are not a quiet moment."""
    (old,), (new,) = world.echoes(1, flooding=True), world.echoes(1)
    world.listen(old)
    connection = world.connect()
    assert world.until(lambda: old.sent > 0)
    settled(lambda: old.sent)
    world.goes(new)
    world.after(10.0)
    world.after(5.0)
    assert len(read(connection, 2 * FLOOD)) == 1 + FLOOD


def test_what_has_not_ended_after_the_grace_time_is_reset(world: World) -> None:
    """Nobody takes it for complete."""
    old, new = world.echoes(2, deaf=True)
    world.listen(old)
    connection = world.connect()
    assert read(connection, 1) == b"0"
    connection.sendall(b"question")
    assert read(old.open[0], 8) == b"question"
    world.goes(new)
    world.after(0.0)
    world.after(20.0)
    with pytest.raises(ConnectionResetError):
        read(connection, 1)
    assert world.upstreams.connections == world.in_flight() == 0


@pytest.mark.parametrize("limits", [{"idle_s": 10.0}, {"age_s": 10.0}])
def test_idle_and_old_connections_end(world: World, limits: dict[str, float]) -> None:
    """So that a long one does not stay with one task for ever."""
    world.listen(*world.echoes(1), **limits)
    connection = world.connect()
    assert read(connection, 1) == b"0"
    world.after(7.9)
    assert world.upstreams.connections == 1
    world.after(2.1)
    assert read(connection, 1) == b""


def test_ages_differ(world: World) -> None:
    """So that connections that began together do not all come back together."""
    world.listen(*world.echoes(1), age_s=100.0)
    connections = [world.connect() for _ in range(20)]
    assert [read(c, 1) for c in connections] == [b"0"] * 20
    world.after(90.0)
    assert 0 < world.upstreams.connections < 20


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
    assert world.until(lambda: world.upstreams.connections == 0 and world.in_flight() == 0)
    for _ in range(5):
        world.connect()
    world.upstreams.close()
    assert world.upstreams.connections == 0
    assert world.in_flight() == 0


def test_closing_ends_cleanly_what_is_quiet_and_resets_the_rest(world: World) -> None:
    """Nobody takes a part for the whole."""
    (echo,) = world.echoes(1, deaf=True)
    world.listen(echo)
    quiet = world.connect()
    assert read(quiet, 1) == b"0"
    waiting = world.connect()
    assert read(waiting, 1) == b"0"
    waiting.sendall(b"question")
    assert read(echo.open[1], 8) == b"question"
    world.clock.now += 1.0
    world.upstreams.close()
    assert read(quiet, 1) == b""
    with pytest.raises(ConnectionResetError):
        read(waiting, 1)


@contextlib.contextmanager
def files_left(count: int) -> Iterator[None]:
    """Let the process open no more than so many files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    taken: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(count):
            os.close(taken.pop())
        yield
    finally:
        for each in taken:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_endpoint_is_blamed_for_what_we_lack(world: World) -> None:
    """Without a file for the second socket the client is reset."""
    world.listen(*world.echoes(1))
    assert read(world.connect(), 1) == b"0"
    assert world.until(lambda: world.upstreams.connections == 1)
    with socket.socket() as connection:
        connection.settimeout(TIMEOUT_S)
        (address,) = world.upstreams.addresses
        with files_left(1):
            connection.connect((address.host, address.port))
            with pytest.raises(ConnectionResetError):
                read(connection, 1)
    ((member,),) = (pool.members for pool in world.resolver._balancer.pools)
    assert member.standing.failures == 0
    assert read(world.connect(), 1) == b"0"


def test_who_comes_while_no_file_can_be_opened_waits(world: World) -> None:
    """And is served when one can be."""
    world.listen(*world.echoes(1))
    with socket.socket() as connection:
        connection.settimeout(TIMEOUT_S)
        (address,) = world.upstreams.addresses
        with files_left(0):
            connection.connect((address.host, address.port))
            assert world.busy_s(1.0) < 0.3
            assert world.upstreams.connections == 0
        assert read(connection, 1) == b"0"


def test_a_start_without_enough_files_fails_and_leaves_nothing(world: World) -> None:
    """Rather than to wait for what will never run."""
    world.listen(*world.echoes(1))
    upstreams = Upstreams(world.resolver, [Upstream("echo", Address("127.0.0.1", 0))])
    world.afterwards(upstreams.close)
    failed: list[OSError] = []

    def start() -> None:
        try:
            upstreams.start()
        except OSError as error:
            failed.append(error)

    starting = threading.Thread(target=start, daemon=True)
    open_before = len(os.listdir("/proc/self/fd"))
    with files_left(1):  # for the port, and none for the rest
        starting.start()
        starting.join(TIMEOUT_S)
    assert [(error.errno, error.filename) for error in failed] == [(errno.EMFILE, "127.0.0.1:0")]
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_whoever_watches_sees_that_the_thread_has_ended(world: World) -> None:
    """Its ports would take connections that nobody serves."""
    world.listen(*world.echoes(1))
    assert world.upstreams.is_alive
    world.upstreams.close()
    assert not world.upstreams.is_alive


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
        assert sidecar.is_alive
        sidecar._upstreams.close()
        assert not sidecar.is_alive

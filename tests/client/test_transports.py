"""The transports, against real servers: with httpx and httpx2, in threads and event loops."""

import asyncio
import contextlib
import gc
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest

from discovery import AsyncDiscoveryTransport, DiscoveryTransport, Resolver
from discovery.balancing.latency import Latency
from discovery.balancing.member import Member
from discovery.balancing.round_robin import RoundRobin
from discovery.client.kits import Kit
from discovery.client.pace import Hedging
from discovery.errors import (
    AttemptsFailed,
    DeadlinePassed,
    DiscoveryError,
    NoEndpoints,
    NotReady,
    UnknownService,
)
from discovery.model import Observation
from discovery.sources.base import FixedSource
from tests.client.servers import Dripping, Server, blackhole, service_of, source_of
from tests.made import FakeClock, HeldSource, OwnClock, observed, reading, service

pytestmark = pytest.mark.filterwarnings("ignore:.*httpx.*:DeprecationWarning")


class Caller:
    """A client of either module, called in either way."""

    def __init__(self, module: ModuleType, is_async: bool) -> None:
        self.module: Any = module
        self.is_async = is_async
        self._runner = asyncio.Runner() if is_async else None
        self.transport: Any = None
        self._client: Any = None

    def use(self, resolver: Resolver, **options: Any) -> None:
        """Make the client."""
        kind = AsyncDiscoveryTransport if self.is_async else DiscoveryTransport
        self.transport = kind(resolver, **options)
        make = self.module.AsyncClient if self.is_async else self.module.Client
        self._client = make(transport=self.transport, timeout=3.0)

    def __call__(self, method: str, url: str, **options: Any) -> Any:
        """Send a request and read the answer."""
        return self.run(lambda: self._client.request(method, url, **options))

    def open(self, url: str) -> Any:
        """Send a request and leave the answer's body unread."""
        request = self._client.build_request("GET", url)
        return self.run(lambda: self._client.send(request, stream=True))

    def finish(self, response: Any) -> None:
        """Close an answer."""
        self.run(response.aclose if self.is_async else response.close)

    def run(self, act: Callable[[], Any]) -> Any:
        """Do it here, or in the event loop."""
        if self._runner is None:
            return act()

        async def wait() -> Any:
            return await act()

        return self._runner.run(wait())

    def close(self) -> None:
        """Close client and loop."""
        if self._client is not None:
            self.run(self._client.aclose if self.is_async else self._client.close)
        if self._runner is not None:
            self._runner.close()


WAYS = [(module, way) for module in (httpx, httpx2) for way in (False, True)]


@pytest.fixture(params=WAYS, ids=["httpx", "httpx-async", "httpx2", "httpx2-async"])
def caller(request: pytest.FixtureRequest) -> Iterator[Caller]:
    """A client of each kind in turn."""
    made = Caller(*request.param)
    yield made
    made.close()


@pytest.fixture
def servers() -> Iterator[Callable[[int], list[Server]]]:
    """Starts servers that are stopped afterwards."""
    with contextlib.ExitStack() as stack:
        yield lambda count: [stack.enter_context(Server(n)) for n in range(count)]


@pytest.fixture
def resolve() -> Iterator[Callable[..., Resolver]]:
    """Makes resolvers that are closed afterwards."""
    with contextlib.ExitStack() as stack:

        def make(source: Any, **options: Any) -> Resolver:
            given: dict[str, Any] = {
                "policy": RoundRobin,
                "clock": FakeClock(),
                "monotonic": OwnClock(),
            }
            return stack.enter_context(Resolver(source=source, **(given | options)))

        yield make


Servers = Callable[[int], list[Server]]
Resolve = Callable[..., Resolver]


def members(resolver: Resolver) -> list[Member]:
    return [m for pool in resolver._balancer.pools for m in pool.members]


def in_flight(resolver: Resolver) -> int:
    return sum(m.in_flight for m in members(resolver))


def inners(transport: Any) -> list[Any]:
    return [inner for use in transport._uses.values() for inner in use.inners]


def active(transport: Any) -> list[Any]:
    """The connections to endpoints that are taken for something."""
    pools = [inner._pool for inner in inners(transport)]
    return [c for pool in pools for c in pool.connections if not (c.is_idle() or c.is_closed())]


def following(
    caller: Caller, act: Callable[[], object], aimed: list[Any] | None = None
) -> Callable[[], Any]:
    """Makes inner transports that act between an answer's headers and the next attempt."""
    base: Any = caller.module.AsyncHTTPTransport if caller.is_async else caller.module.HTTPTransport

    seen = [] if aimed is None else aimed

    class Following(base):  # type: ignore[misc]  # the base is only known here
        def handle_request(self, request: Any) -> Any:
            answer = super().handle_request(request)
            seen.append(request)
            act()
            return answer

        async def handle_async_request(self, request: Any) -> Any:
            answer = await super().handle_async_request(request)
            seen.append(request)
            await asyncio.to_thread(act)
            return answer

    return Following


def vanish(source: FixedSource, resolver: Resolver, empty: Observation) -> None:
    source.say(empty)
    resolver.refresh()


class TestWhatIsSent:
    """Where requests go and what they look like there."""

    def test_requests_are_balanced_and_keep_their_host(
        self, caller: Caller, servers: Servers, resolve: Resolve
    ) -> None:
        """Each of three gets its turn, under the service's name."""
        three = servers(3)
        caller.use(resolve(source_of(*three)))
        bodies = [caller("GET", f"http://web/{n}?q=1").text for n in range(6)]
        assert sorted(bodies) == ["0", "0", "1", "1", "2", "2"]
        assert {got.host for s in three for got in s.got} == {"web"}
        assert {got.path for s in three for got in s.got} == {f"/{n}?q=1" for n in range(6)}

    @pytest.mark.parametrize(
        ("url", "host"),
        [
            ("http://web.demo/", "web.demo"),
            ("http://web.demo.ecs.internal/", "web.demo.ecs.internal"),
            ("http://_80._tcp.web/", "_80._tcp.web"),
        ],
    )
    def test_names_in_every_form(
        self, caller: Caller, servers: Servers, resolve: Resolve, url: str, host: str
    ) -> None:
        """As DNS has them."""
        (one,) = servers(1)
        resolver = resolve(source_of(one))
        resolver.endpoints("web")
        caller.use(resolver)
        assert caller("GET", url).status_code == 200
        assert one.got[0].host == host

    def test_other_hosts_are_the_worlds(
        self, caller: Caller, servers: Servers, resolve: Resolve
    ) -> None:
        """An address passes to a plain transport."""
        one, stranger = servers(2)
        caller.use(resolve(source_of(one)))
        assert caller("GET", f"http://127.0.0.1:{stranger.port}/").text == "1"
        assert one.got == []

    def test_connections_are_kept(self, caller: Caller, servers: Servers, resolve: Resolve) -> None:
        """One for each endpoint, however many requests one after the other."""
        three = servers(3)
        caller.use(resolve(source_of(*three)))
        for _ in range(30):
            caller("GET", "http://web/")
        assert [s.connections for s in three] == [1, 1, 1]


class TestFailures:
    """What a caller sees of an endpoint that fails."""

    def test_a_refusal_goes_elsewhere_whatever_the_method(
        self, caller: Caller, servers: Servers, resolve: Resolve
    ) -> None:
        """Nothing was sent, so that a POST may be, too."""
        good, bad = servers(2)
        caller.use(resolve(source_of(good, bad)))
        bad.refuse()
        answers = [caller("POST", "http://web/", content=b"body") for _ in range(6)]
        assert [a.text for a in answers] == ["0"] * 6
        assert [got.body for got in good.got] == [b"body"] * 6

    @pytest.mark.parametrize("status", [500, 503])
    def test_an_error_is_retried_elsewhere(
        self, caller: Caller, servers: Servers, resolve: Resolve, status: int
    ) -> None:
        """Idempotent requests only."""
        good, bad = servers(2)
        bad.status = status
        caller.use(resolve(source_of(good, bad)))
        assert {caller("GET", "http://web/").status_code for _ in range(4)} == {200}
        assert {caller("POST", "http://web/").status_code for _ in range(4)} == {200, status}

    def test_a_post_is_never_sent_twice_once_bytes_went_out(
        self, caller: Caller, servers: Servers, resolve: Resolve
    ) -> None:
        """Each body arrives once, wherever the connection breaks."""
        good, bad = servers(2)
        bad.mute = True
        caller.use(resolve(source_of(good, bad)))
        failed = 0
        for n in range(8):
            try:
                caller("POST", "http://web/", content=b"%d" % n)
            except caller.module.TransportError:
                failed += 1
        arrived = [got.body for got in good.got + bad.got]
        assert sorted(arrived) == [b"%d" % n for n in range(8)]
        assert failed == len(bad.got) > 0

    def test_a_get_is_sent_elsewhere_when_the_connection_breaks(
        self, caller: Caller, servers: Servers, resolve: Resolve
    ) -> None:
        """No request fails."""
        good, bad = servers(2)
        bad.mute = True
        caller.use(resolve(source_of(good, bad)))
        assert [caller("GET", "http://web/").text for _ in range(6)] == ["0"] * 6

    def test_a_hung_endpoint_costs_its_timeout_and_no_more(
        self, caller: Caller, servers: Servers, resolve: Resolve
    ) -> None:
        """Then the request goes elsewhere, and so do the next."""
        good, bad = servers(2)
        bad.hung = True
        caller.use(resolve(source_of(good, bad), policy=Latency))
        assert [caller("GET", "http://web/", timeout=0.2).text for _ in range(6)] == ["0"] * 6
        assert len(bad.got) == 1

    def test_connecting_takes_half_a_second_at_most(
        self, caller: Caller, servers: Servers, resolve: Resolve
    ) -> None:
        """Where nothing answers at all, a client's own long timeout is not waited for."""
        (good,) = servers(1)
        with blackhole() as port:
            silent = replace(good.endpoint, port=port, task_arn="task/silent")
            both = replace(service_of(good), endpoints=(good.endpoint, silent))
            caller.use(resolve(FixedSource(observed(reading(both)))), connect_s=0.1)
            assert [caller("GET", "http://web/", timeout=30).text for _ in range(3)] == ["0"] * 3

    def test_five_failures_eject(self, caller: Caller, servers: Servers, resolve: Resolve) -> None:
        """And the resolver says so."""
        *good, bad = servers(3)
        resolver = resolve(source_of(*good, bad))
        caller.use(resolver)
        bad.status = 500
        while len(bad.got) < 5:
            assert caller("GET", "http://web/").status_code == 200
        assert f"127.0.0.1:{bad.port}: 0 in flight" in repr(resolver)
        assert "ejected: 5 failures in a row" in repr(resolver)

    def test_when_all_fail_the_error_is_the_clients_own_and_carries_ours(
        self, caller: Caller, servers: Servers, resolve: Resolve
    ) -> None:
        """With every attempt by address."""
        two = servers(2)
        caller.use(resolve(source_of(*two)))
        for server in two:
            server.refuse()
        with pytest.raises(caller.module.ConnectError, match="refused") as caught:
            caller("GET", "http://web/")
        cause = caught.value.__cause__
        assert isinstance(cause, AttemptsFailed)
        assert len(cause.attempts) == 3
        assert str(caught.value.request.url) == "http://web/"

    def test_the_last_answer_is_handed_on_when_all_fail(
        self, caller: Caller, servers: Servers, resolve: Resolve
    ) -> None:
        """A 503 of everybody is an answer."""
        two = servers(2)
        for server in two:
            server.status = 503
        caller.use(resolve(source_of(*two)))
        answer = caller("GET", "http://web/")
        assert (answer.status_code, answer.text in "01") == (503, True)
        assert sum(len(s.got) for s in two) == 3
        assert active(caller.transport) == []

    def test_a_request_that_cannot_be_sent_is_nobodys_failure(
        self, caller: Caller, servers: Servers, resolve: Resolve
    ) -> None:
        """Its own fault is tried once, and ejects nobody."""
        two = servers(2)
        resolver = resolve(source_of(*two))
        caller.use(resolver)
        for _ in range(6):
            with pytest.raises(caller.module.LocalProtocolError) as caught:
                caller("GET", "http://web/", headers={"x-bad": "a\nb"})
            assert isinstance(caught.value.__cause__, AttemptsFailed)
            assert len(caught.value.__cause__.attempts) == 1
        assert [m.standing.failures for m in members(resolver)] == [0, 0]
        assert (in_flight(resolver), active(caller.transport)) == (0, [])

    def test_where_no_connection_is_free_nothing_was_sent(
        self, caller: Caller, servers: Servers, resolve: Resolve
    ) -> None:
        """So that even a POST may go elsewhere, and the endpoint is not to blame."""
        two = servers(2)
        for server in two:
            server.size = 1_000_000
        resolver = resolve(source_of(*two))
        module = caller.module
        kind = module.AsyncHTTPTransport if caller.is_async else module.HTTPTransport
        caller.use(resolver, inner=lambda: kind(limits=module.Limits(max_connections=1)))
        response = caller.open("http://web/")
        timeout = module.Timeout(3.0, pool=0.05)
        for _ in range(2):
            assert caller("POST", "http://web/", timeout=timeout).status_code == 200
        assert sorted(len(s.got) for s in two) == [1, 2]
        assert [m.standing.failures for m in members(resolver)] == [0, 0]
        caller.finish(response)
        assert active(caller.transport) == []

    def test_an_error_is_an_answer_where_the_service_went_to_zero(
        self, caller: Caller, servers: Servers, resolve: Resolve
    ) -> None:
        """There is nobody else to ask, and it is not lost."""
        (one,) = servers(1)
        one.status = 503
        source = source_of(one)
        resolver = resolve(source)
        resolver.endpoints("web")
        empty = observed(reading(replace(service_of(one), endpoints=()), explained=True))
        caller.use(resolver, inner=following(caller, lambda: vanish(source, resolver, empty)))
        answer = caller("GET", "http://web/")
        assert (answer.status_code, answer.text) == (503, "0")
        assert len(one.got) == 1
        assert (in_flight(resolver), active(caller.transport)) == (0, [])

    def test_an_answer_that_is_not_handed_on_is_closed(
        self, caller: Caller, servers: Servers, resolve: Resolve
    ) -> None:
        """Whatever goes wrong between its headers and the caller."""
        (one,) = servers(1)
        resolver = resolve(source_of(one))

        def broken_clock() -> float:
            raise ZeroDivisionError

        caller.use(resolver, clock=broken_clock)
        with pytest.raises(ZeroDivisionError):
            caller("GET", "http://web/")
        assert (in_flight(resolver), active(caller.transport)) == (0, [])

    @pytest.mark.parametrize("deadline_s", [0, -1.0])
    def test_without_time_nothing_is_sent(
        self, caller: Caller, servers: Servers, resolve: Resolve, deadline_s: float
    ) -> None:
        """No time is not the same as any time."""
        (one,) = servers(1)
        caller.use(resolve(source_of(one)))
        caller("GET", "http://web/")
        with pytest.raises(caller.module.ConnectTimeout) as caught:
            caller("GET", "http://web/", extensions={"deadline_s": deadline_s})
        assert isinstance(caught.value.__cause__, DeadlinePassed)
        assert len(one.got) == 1

    def test_a_deadline_does_not_cut_the_body(
        self, caller: Caller, servers: Servers, resolve: Resolve
    ) -> None:
        """From the headers on, timeouts are the caller's own."""
        clock = FakeClock(100.0)
        aimed: list[Any] = []
        resolver = resolve(source_of(*servers(1)), monotonic=clock)
        caller.use(resolver, inner=following(caller, lambda: None, aimed))
        caller("GET", "http://web/", extensions={"deadline_s": 2.0, "timeout": {"read": 3.0}})
        clock.now += 100.0
        assert aimed[0].extensions["timeout"].get("read", None) == 3.0

    def test_a_deadline_includes_the_look_up(self, caller: Caller, resolve: Resolve) -> None:
        """A first load may take longer than a request has."""
        source = HeldSource(observed(reading(service("web", 1))))
        caller.use(resolve(source))
        with pytest.raises(caller.module.ConnectTimeout) as caught:
            caller("GET", "http://web/", extensions={"deadline_s": 0.05})
        assert isinstance(caught.value.__cause__, NotReady)

    @pytest.mark.parametrize(
        ("url", "cause"), [("http://wbe/", UnknownService), ("http://empty/", NoEndpoints)]
    )
    def test_what_cannot_be_resolved_is_a_connect_error(
        self, caller: Caller, resolve: Resolve, url: str, cause: type[DiscoveryError]
    ) -> None:
        """Whose cause says what is wrong."""
        caller.use(resolve(FixedSource(observed(reading(service("web", 1), service("empty"))))))
        with pytest.raises(caller.module.ConnectError) as caught:
            caller("GET", url)
        assert isinstance(caught.value.__cause__, cause)


class TestInFlight:
    """What counts as under way, and until when."""

    def test_an_open_body_counts_until_it_is_closed(
        self, caller: Caller, servers: Servers, resolve: Resolve
    ) -> None:
        """Reading the headers is not the end."""
        (one,) = servers(1)
        one.size = 1_000_000
        resolver = resolve(source_of(one))
        caller.use(resolver)
        response = caller.open("http://web/")
        assert (in_flight(resolver), len(active(caller.transport))) == (1, 1)
        caller.finish(response)
        assert (in_flight(resolver), active(caller.transport)) == (0, [])

    def test_a_body_that_is_lost_unread_does_not_count(
        self, caller: Caller, servers: Servers, resolve: Resolve
    ) -> None:
        """Nobody can close it any more."""
        (one,) = servers(1)
        one.size = 1_000_000
        resolver = resolve(source_of(one))
        caller.use(resolver)
        caller.open("http://web/")
        gc.collect()
        assert in_flight(resolver) == 0

    def test_the_connection_of_a_lost_body_is_closed_by_a_later_request(
        self, caller: Caller, servers: Servers, resolve: Resolve
    ) -> None:
        """Else they add up until there is none to be had."""
        (one,) = servers(1)
        one.size = 1_000_000
        caller.use(resolve(source_of(one)))
        caller.open("http://web/")
        gc.collect()
        assert len(active(caller.transport)) == 1
        caller("GET", "http://web/")
        assert active(caller.transport) == []

    @pytest.mark.parametrize("fault", ["mute", "broken_body"])
    def test_errors_leave_nothing_under_way(
        self, caller: Caller, servers: Servers, resolve: Resolve, fault: str
    ) -> None:
        """Before the headers, and in the middle of the body."""
        (one,) = servers(1)
        setattr(one, fault, True)
        resolver = resolve(source_of(one))
        caller.use(resolver)
        with pytest.raises(caller.module.RemoteProtocolError):
            caller("POST", "http://web/")
        assert (in_flight(resolver), active(caller.transport)) == (0, [])

    def test_what_an_endpoint_leaves_behind_is_closed(
        self, caller: Caller, servers: Servers, resolve: Resolve
    ) -> None:
        """Its inner transport goes once nothing is under way on it."""
        old, new = servers(2)
        old.size = 1_000_000
        source = source_of(old)
        resolver = resolve(source)
        caller.use(resolver)
        response = caller.open("http://web/")
        source.say(observed(reading(service_of(new))))
        resolver.refresh()
        assert caller("GET", "http://web/").text == "1"
        assert len(inners(caller.transport)) == 2
        caller.finish(response)
        assert len(inners(caller.transport)) == 1

    def test_what_nothing_is_under_way_on_is_closed_by_a_later_request(
        self, caller: Caller, servers: Servers, resolve: Resolve
    ) -> None:
        """An endpoint that left takes its connections along."""
        old, new = servers(2)
        source = source_of(old)
        resolver = resolve(source)
        caller.use(resolver)
        caller("GET", "http://web/")
        (inner,) = inners(caller.transport)
        assert len(inner._pool.connections) == 1
        source.say(observed(reading(service_of(new))))
        resolver.refresh()
        for _ in range(2):  # the first has the pool know
            caller("GET", "http://web/")
        assert inner not in inners(caller.transport)
        assert inner._pool.connections == []

    def test_a_body_that_breaks_off_is_a_failure(
        self, caller: Caller, servers: Servers, resolve: Resolve
    ) -> None:
        """However well its headers looked."""
        (one,) = servers(1)
        one.broken_body = True
        resolver = resolve(source_of(one))
        caller.use(resolver)
        with pytest.raises(caller.module.RemoteProtocolError):
            caller("GET", "http://web/")
        assert members(resolver)[0].standing.failures == 1


def test_cancelling_ends_the_flight(servers: Servers, resolve: Resolve) -> None:
    """A timeout around the call is no verdict on the endpoint, and leaves nothing under way."""
    (one,) = servers(1)
    one.hung = True
    resolver = resolve(source_of(one))

    async def ask() -> None:
        async with httpx.AsyncClient(transport=AsyncDiscoveryTransport(resolver)) as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.get("http://web/"), 0.2)

    asyncio.run(ask())
    assert in_flight(resolver) == 0
    assert members(resolver)[0].standing.failures == 0


def test_cancelling_does_not_stop_what_is_being_closed(servers: Servers, resolve: Resolve) -> None:
    """A request that is broken off while it tidies up leaves nothing half closed."""
    old, new = servers(2)
    source = source_of(old)
    resolver = resolve(source)

    async def run() -> None:
        began, go, closed = asyncio.Event(), asyncio.Event(), list[Any]()

        class Slow(httpx.AsyncHTTPTransport):
            async def aclose(self) -> None:
                began.set()
                await go.wait()
                await super().aclose()
                closed.append(self)

        transport = AsyncDiscoveryTransport(resolver, inner=Slow)
        async with httpx.AsyncClient(transport=transport) as client:
            await client.get("http://web/")
            (left,) = inners(transport)
            source.say(observed(reading(service_of(new))))
            await resolver.arefresh()
            await client.get("http://web/")  # has the pool know
            asking = asyncio.create_task(client.get("http://web/"))
            await asyncio.wait_for(began.wait(), 30)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            go.set()
        assert left in closed

    asyncio.run(run())


def test_a_deadline_is_kept_in_an_event_loop_whatever_the_server_does(resolve: Resolve) -> None:
    """Each octet of a head that comes one by one is in time, and all of them are not."""
    with Dripping() as server:
        known = replace(service_of(), endpoints=(server.endpoint,))
        resolver = resolve(FixedSource(observed(reading(known))))

        async def ask() -> None:
            transport = AsyncDiscoveryTransport(resolver, deadline_s=0.3)
            async with httpx.AsyncClient(transport=transport, timeout=30.0) as client:
                with pytest.raises(httpx.ReadTimeout, match="deadline") as caught:
                    await client.get("http://web/")
                assert isinstance(caught.value.__cause__, AttemptsFailed)
                assert active(transport) == []

        asyncio.run(ask())
        assert in_flight(resolver) == 0


def test_what_is_late_is_asked_elsewhere_too(servers: Servers, resolve: Resolve) -> None:
    """The first answer is taken, and whoever lost is charged with nothing."""
    two = servers(2)
    resolver = resolve(source_of(*two))

    async def ask() -> None:
        transport = AsyncDiscoveryTransport(resolver, hedging=Hedging(least=4))
        async with httpx.AsyncClient(transport=transport, timeout=30.0) as client:
            for _ in range(4):
                await client.get("http://web/")
            two[0].hung = True
            assert {(await client.get("http://web/")).text for _ in range(2)} == {"1"}
            assert active(transport) == []
            assert two[0].hanging  # who lost was not waited for

    asyncio.run(ask())
    assert len(two[0].got) > 2
    assert in_flight(resolver) == 0
    assert [m.standing.failures for m in members(resolver)] == [0, 0]


def test_of_two_that_race_a_failure_waits_for_the_other(servers: Servers, resolve: Resolve) -> None:
    """A late answer is better than a quick error."""
    two = servers(2)
    resolver = resolve(source_of(*two))

    async def ask() -> None:
        transport = AsyncDiscoveryTransport(resolver, hedging=Hedging(least=4))
        async with httpx.AsyncClient(transport=transport, timeout=30.0) as client:
            for _ in range(4):
                await client.get("http://web/")
            two[0].hung, two[1].status = True, 503
            asking = asyncio.create_task(client.get("http://web/"))
            await asyncio.to_thread(two[1].arrived, 3)
            two[0].hung = False
            two[0].let_go()
            assert (await asking).text == "0"
            assert active(transport) == []

    asyncio.run(ask())
    assert len(two[0].got) == 3
    assert in_flight(resolver) == 0


def test_breaking_off_a_race_ends_both(servers: Servers, resolve: Resolve) -> None:
    """Neither stays under way."""
    two = servers(2)
    resolver = resolve(source_of(*two))

    async def ask() -> None:
        transport = AsyncDiscoveryTransport(resolver, hedging=Hedging(least=4))
        async with httpx.AsyncClient(transport=transport, timeout=30.0) as client:
            for _ in range(4):
                await client.get("http://web/")
            for server in two:
                server.hung = True
            asking = asyncio.create_task(client.get("http://web/"))
            for server in two:
                await asyncio.to_thread(server.arrived, 3)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert active(transport) == []

    asyncio.run(ask())
    assert in_flight(resolver) == 0


def test_who_comes_first_at_once_shares_what_is_made(servers: Servers, resolve: Resolve) -> None:
    """Two threads' first requests end up with the same inner transports."""
    transport = DiscoveryTransport(resolve(source_of(*servers(1))))
    request = httpx.Request("GET", "http://web/")
    others = []

    def make(kit: Kit) -> Any:
        others.append(transport._use(request, transport._made))
        return transport._made(kit)

    assert transport._use(request, make) is others[0]
    transport.close()


def test_one_transport_serves_both_modules(servers: Servers, resolve: Resolve) -> None:
    """Each client gets answers of its own kind."""
    transport = DiscoveryTransport(resolve(source_of(*servers(1))))
    one, other = httpx.Client(transport=transport), httpx2.Client(transport=transport)  # type: ignore[arg-type]  # what it asks for is there
    with one, other:
        assert isinstance(one.get("http://web/"), httpx.Response)
        assert isinstance(other.get("http://web/"), httpx2.Response)


def test_threads_may_share_a_transport(servers: Servers, resolve: Resolve) -> None:
    """No request fails, and nothing stays under way."""
    resolver = resolve(source_of(*servers(4)))
    failed: list[Exception] = []

    with httpx.Client(transport=DiscoveryTransport(resolver)) as client:

        def work() -> None:
            for _ in range(40):
                try:
                    client.get("http://web/").raise_for_status()
                except httpx.HTTPError as error:
                    failed.append(error)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failed == []
    assert in_flight(resolver) == 0


def test_a_first_refusal_hurries_a_refresh(servers: Servers, resolve: Resolve) -> None:
    """So that a replacement is known long before the next one is due."""
    old, new = servers(2)
    source = source_of(old)
    resolver = resolve(source)
    with httpx.Client(transport=DiscoveryTransport(resolver)) as client:
        assert client.get("http://web/", headers={"connection": "close"}).text == "0"
        old.refuse()
        source.say(observed(reading(service_of(new))))
        index = resolver.snapshot.index
        with contextlib.suppress(httpx.ConnectError):
            client.get("http://web/")
        resolver.wait(index, 8.0)
        assert client.get("http://web/").text == "1"

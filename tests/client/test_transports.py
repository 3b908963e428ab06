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
from discovery.balancing.round_robin import RoundRobin
from discovery.errors import AttemptsFailed, DiscoveryError, NoEndpoints, UnknownService
from discovery.sources.base import FixedSource
from tests.client.servers import Server, blackhole, service_of, source_of
from tests.made import FakeClock, observed, reading, service

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
            given: dict[str, Any] = {"policy": RoundRobin, "clock": FakeClock()}
            return stack.enter_context(Resolver(source=source, **(given | options)))

        yield make


Servers = Callable[[int], list[Server]]
Resolve = Callable[..., Resolver]


def in_flight(resolver: Resolver) -> int:
    return sum(m.in_flight for pool in resolver._balancer.pools for m in pool.members)


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

    def test_two_refusals_eject(self, caller: Caller, servers: Servers, resolve: Resolve) -> None:
        """And the resolver says so."""
        *good, bad = servers(3)
        resolver = resolve(source_of(*good, bad))
        caller.use(resolver)
        bad.refuse()
        for _ in range(8):
            caller("GET", "http://web/")
        assert f"127.0.0.1:{bad.port}: 0 in flight" in repr(resolver)
        assert "ejected: 2 refusals in a row" in repr(resolver)

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
        assert in_flight(resolver) == 1
        caller.finish(response)
        assert in_flight(resolver) == 0

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
        assert in_flight(resolver) == 0

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
        assert len(caller.transport._inners) == 2
        caller.finish(response)
        assert len(caller.transport._inners) == 1


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
    (member,) = resolver._balancer.pools[0].members
    assert member.standing.failures == 0


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

"""What listeners are told of a transport's attempts."""

import asyncio
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import httpx
import httpx2
import pytest

from discovery import AsyncDiscoveryTransport, Attempted, DiscoveryTransport, Listeners, Resolver
from discovery.balancing.round_robin import RoundRobin
from discovery.client.attempts import Answered, Ask, Failed, Retrying, attempts
from discovery.events import Event
from discovery.model import Endpoint
from tests.client.servers import Server, source_of
from tests.client.test_attempts import Line
from tests.made import FakeClock, OwnClock


class Heard:
    """A listener that keeps attempts."""

    def __init__(self) -> None:
        self.events: list[Attempted] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, Attempted):
            self.events.append(event)


@pytest.fixture
def heard() -> Heard:
    """One that listens."""
    return Heard()


@pytest.fixture
def resolver(heard: Heard) -> Iterator[tuple[Resolver, Server, Server]]:
    """Of two servers, one of which nobody can connect to."""
    options: dict[str, Any] = {"policy": RoundRobin, "random": Random(0)}
    options |= {"clock": FakeClock(), "monotonic": OwnClock()}
    with Server(0) as gone, Server(1) as there:
        gone.refuse()
        source = source_of(gone, there)
        with Resolver(source=source, listeners=Listeners(heard), **options) as made:
            yield made, gone, there


def in_a_thread(module: Any, resolver: Resolver, url: str) -> None:
    with module.Client(transport=DiscoveryTransport(resolver)) as client:
        client.get(url)


def in_a_loop(module: Any, resolver: Resolver, url: str) -> None:
    async def call() -> None:
        transport = AsyncDiscoveryTransport(resolver)
        async with module.AsyncClient(transport=transport) as client:
            await client.get(url)

    asyncio.run(call())


Call = Callable[[Any, Resolver, str], None]


@pytest.mark.parametrize("call", [in_a_thread, in_a_loop])
@pytest.mark.parametrize("module", [httpx, httpx2])
def test_each_attempt_is_told(
    heard: Heard, resolver: tuple[Resolver, Server, Server], module: Any, call: Call
) -> None:
    """What was asked for, where it went, how it ended; no secret of the URL."""
    it, gone, there = resolver
    while not any(event.error for event in heard.events):  # whose turn it is, is chance's
        heard.events.clear()
        call(module, it, "http://me:secret@web/a?token=secret")
    first, second = heard.events
    assert (first.host, first.port, first.error, first.status) == (
        "127.0.0.1",
        gone.port,
        "refused",
        None,
    )
    assert (second.port, second.error, second.status) == (there.port, None, 200)
    assert [event.resend for event in heard.events] == [0, 1]
    assert {(event.method, event.url, event.service) for event in heard.events} == {
        ("GET", "http://web/a", "web.demo")
    }
    assert all(event.seconds >= 0 for event in heard.events)


def test_what_is_broken_off_is_told_too() -> None:
    """Nothing came of it."""
    told: list[tuple[str, object]] = []

    def tell(endpoint: Endpoint, result: object, seconds: float) -> None:
        told.append((endpoint.host, result))

    line = Line()
    flow = attempts(line.route, Ask(idempotent=True), Retrying(), tell=tell)
    next(flow)
    flow.close()
    assert [result for _, result in told] == [None]


def test_every_result_is_told_with_its_time() -> None:
    """From boarding to the end."""
    told: list[tuple[object, float]] = []
    line = Line()
    refused = Failed("refused", sent=False)
    flow = attempts(
        line.route,
        Ask(idempotent=True),
        Retrying(),
        tell=lambda endpoint, result, seconds: told.append((result, seconds)),
    )
    next(flow)
    line.clock.now += 0.5
    flow.send(refused)
    line.clock.now += 0.25
    with pytest.raises(StopIteration):
        flow.send(Answered(200))
    assert told == [(refused, 0.5), (Answered(200), 0.25)]

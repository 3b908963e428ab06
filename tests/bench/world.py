"""A simulated world: servers with a few workers, clients with a balancer each, one clock.

A server's queue is first come, first served, so that a request's end is known when it begins to
wait; only ends are events. Ours is the real code: pools, ejection, the attempts' conversation.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush, heapreplace
from itertools import count
from math import inf
from random import Random
from typing import Protocol

from discovery.balancing.budget import RetryBudget
from discovery.balancing.policy import MakePolicy
from discovery.balancing.pool import Balancing, Pool
from discovery.client.attempts import (
    Answered,
    Ask,
    Attempting,
    Pause,
    Retrying,
    Route,
    Send,
    attempts,
)
from discovery.model import Endpoint
from tests.bench.peers import Peer

WORKERS = 4
SERVICE_S = 0.010
Speed = Callable[[float], float]
Failing = Callable[[float, Random], bool]


@dataclass(slots=True)
class Server:
    """`slower` is the factor on its service time by the time, `fails` whether it fails at once."""

    slower: Speed = lambda now: 1.0
    fails: Failing | None = None
    fails_in_s: float = 0.0005
    workers: list[float] = field(default_factory=lambda: [0.0] * WORKERS)

    def serve(self, now: float, random: Random) -> tuple[float, bool]:
        """When a request that comes now ends, and whether it succeeds."""
        if self.fails is not None and self.fails(now, random):
            return now + self.fails_in_s, False
        begins = max(now, self.workers[0])
        ends = begins + random.expovariate(1.0 / (SERVICE_S * self.slower(begins)))
        heapreplace(self.workers, ends)
        return ends, True


@dataclass(slots=True)
class Tally:
    """What came of the requests that began after the warm-up."""

    latencies_s: list[float] = field(default_factory=list)
    picks: Counter[int] = field(default_factory=Counter)
    sent: int = 0
    errors: int = 0
    timeline: list[tuple[float, int, int, bool]] = field(default_factory=list)

    def quantile_ms(self, part: float) -> float:
        """The latency that this part of the requests stays under, in milliseconds."""
        ordered = sorted(self.latencies_s)
        return 1e3 * ordered[min(len(ordered) - 1, int(part * len(ordered)))]

    @property
    def error_part(self) -> float:
        """The part of the requests that failed in the end."""
        return self.errors / max(1, self.errors + len(self.latencies_s))

    def spread(self, servers: Sequence[int]) -> float:
        """The most picked server's picks over the mean of these servers."""
        return max(self.picks[n] for n in servers) * len(servers) / self.total(servers)

    def total(self, servers: Sequence[int]) -> int:
        """The picks of these servers."""
        return sum(self.picks[n] for n in servers)


class World:
    """Runs one kind of client against servers. `now` is simulated seconds."""

    def __init__(self, servers: list[Server], seed: int, warm_s: float = 5.0) -> None:
        self.servers = servers
        self.active: Sequence[int] = tuple(range(len(servers)))
        self.random = Random(seed)
        self.warm_s = warm_s
        self.now = 0.0
        self.tally = Tally()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Have something done at that time."""
        heappush(self._events, (when, next(self._order), act))

    def run(self, seconds: float, rate: float, clients: Sequence["Client"]) -> Tally:
        """Let requests come at random, `rate` a second over all clients, for so long."""
        for arrival in self._arrivals(seconds, rate):
            self._until(arrival)
            clients[int(self.random.random() * len(clients))].request()
        self._until(inf)  # whoever still waits counts, too
        return self.tally

    def send(self, number: int, server: int) -> tuple[float, bool]:
        """Put a request of client `number` to a server; when it ends and how."""
        ends, ok = self.servers[server].serve(self.now, self.random)
        if self.now >= self.warm_s:
            self.tally.picks[server] += 1
            self.tally.sent += 1
            self.tally.timeline.append((self.now, number, server, ok))
        return ends, ok

    def done(self, began: float, ok: bool) -> None:
        """A request ended for its client."""
        if began < self.warm_s:
            return
        if ok:
            self.tally.latencies_s.append(self.now - began)
        else:
            self.tally.errors += 1

    def _arrivals(self, seconds: float, rate: float) -> Iterator[float]:
        arrival = self.random.expovariate(rate)
        while arrival < seconds:
            yield arrival
            arrival += self.random.expovariate(rate)

    def _until(self, when: float) -> None:
        while self._events and self._events[0][0] <= when:
            self.now, _, act = heappop(self._events)
            act()
        if when < inf:
            self.now = when


class Client(Protocol):
    """Whoever sends requests."""

    def request(self) -> None:
        """Begin one."""
        ...


class PeerClient:
    """A client with another balancer's algorithm, without retries."""

    def __init__(self, world: World, number: int, peer: Peer) -> None:
        self._world = world
        self._number = number
        self._peer = peer

    def request(self) -> None:
        """See `Client`."""
        world, began = self._world, self._world.now
        server = self._peer.choose(world.active, began)
        ends, ok = world.send(self._number, server)

        def end() -> None:
            self._peer.ended(server, world.now - began, ok, world.now)
            world.done(began, ok)

        world.at(ends, end)


class OptimalClient:
    """Knows every queue and every server's speed, as nobody can."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        self._number = number

    def request(self) -> None:
        """See `Client`."""
        world, began = self._world, self._world.now

        def cost(server: Server) -> float:
            return max(began, server.workers[0]) + SERVICE_S * server.slower(began)

        best = min(world.active, key=lambda n: cost(world.servers[n]))
        ends, ok = world.send(self._number, best)
        world.at(ends, lambda: world.done(began, ok))


class OurClient:
    """A client with our pool; `most` retries."""

    def __init__(
        self,
        world: World,
        number: int,
        policy: MakePolicy,
        *,
        balancing: Balancing | None = None,
        most: int = 0,
    ) -> None:
        self._world = world
        self._number = number
        self._random = Random(f"{number} of {world.random.random()}")
        self._budget = RetryBudget()
        self._retrying = Retrying(most=most)
        self.endpoints = numbered(world.active)
        self.pool = Pool(policy, self._random, lambda: world.now, balancing)
        self._route = Route(
            self.pool,
            lambda: self.endpoints,
            self._budget.take,
            lambda endpoint, outcome: None,
            lambda: world.now,
            self._random,
        )

    def request(self) -> None:
        """See `Client`."""
        self._budget.count(self._world.now)
        flow = attempts(self._route, Ask(idempotent=True), self._retrying)
        self._go(flow, next(flow), self._world.now)

    def _go(self, flow: Attempting, step: Send | Pause, began: float) -> None:
        world = self._world
        if isinstance(step, Pause):
            world.at(world.now + step.seconds, lambda: self._on(flow, None, None, began))
            return
        server = int(step.flight.member.endpoint.labels["number"])
        ends, ok = world.send(self._number, server)
        world.at(ends, lambda: self._on(flow, Answered(200 if ok else 500), step, began))

    def _on(
        self, flow: Attempting, result: Answered | None, sent: Send | None, began: float
    ) -> None:
        try:
            step = flow.send(result)
        except StopIteration:
            assert sent is not None
            assert result is not None
            sent.flight.close()
            self._world.done(began, result.status == 200)
        else:
            self._go(flow, step, began)


def numbered(servers: Sequence[int], zones: Sequence[str] = ()) -> tuple[Endpoint, ...]:
    """Endpoints of these servers, whose number is in a label."""
    return tuple(
        Endpoint(
            "10.0.0.1",
            n,
            task_arn=f"task/{n}",
            zone=zones[n] if zones else None,
            labels={"number": str(n)},
        )
        for n in servers
    )

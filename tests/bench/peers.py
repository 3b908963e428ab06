"""Other balancers' algorithms, as published, to be compared in the same simulated run.

* Round robin, and two choices by requests in flight (Envoy's and gRPC's least request).
* Finagle's peak EWMA: com.twitter.finagle.loadbalancer.PeakEwma, τ 10 s, two choices.
* Linkerd's: tower's `load::PeakEwma`, τ 10 s, 30 ms before the first answer, two choices.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from math import exp
from random import Random
from typing import Protocol

TAU_S = 10.0


class Peer(Protocol):
    """A client's balancer over servers that are known by number."""

    def choose(self, servers: Sequence[int], now: float) -> int:
        """The server for the next request."""
        ...

    def ended(self, server: int, took_s: float, ok: bool, now: float) -> None:
        """A request to this server ended."""
        ...


MakePeer = Callable[[Random], Peer]


class RoundRobinPeer:
    """One after the other."""

    def __init__(self, random: Random) -> None:
        self._turns = count(random.randrange(1_000_000))

    def choose(self, servers: Sequence[int], now: float) -> int:
        """See `Peer`."""
        return servers[next(self._turns) % len(servers)]

    def ended(self, server: int, took_s: float, ok: bool, now: float) -> None:
        """See `Peer`."""


@dataclass(slots=True)
class _Node:
    pending: int = 0
    cost_s: float = 0.0
    stamp: float = 0.0


class TwoChoices:
    """Two at random, the one with fewer requests pending."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._nodes: dict[int, _Node] = {}

    def choose(self, servers: Sequence[int], now: float) -> int:
        """See `Peer`."""
        at = int(self._random.random() * len(servers))
        apart = 1 + int(self._random.random() * (len(servers) - 1))
        first, second = servers[at], servers[(at + apart) % len(servers)]
        one, other = self._node(first, now), self._node(second, now)
        chosen = second if self._load(other, now) < self._load(one, now) else first
        self._nodes[chosen].pending += 1
        return chosen

    def ended(self, server: int, took_s: float, ok: bool, now: float) -> None:
        """See `Peer`."""
        node = self._nodes[server]
        node.pending -= 1
        self._observe(node, took_s, now)

    def _node(self, server: int, now: float) -> _Node:
        node = self._nodes.get(server)
        if node is None:
            node = self._nodes[server] = self._new(now)
        return node

    def _new(self, now: float) -> _Node:
        return _Node(stamp=now)

    def _load(self, node: _Node, now: float) -> float:
        return node.pending

    def _observe(self, node: _Node, took_s: float, now: float) -> None:
        pass


class FinaglePeer(TwoChoices):
    """Up at once to a new peak, down by an EWMA; looking at the cost lets it decay, too."""

    _PENALTY_S = 1e6

    def _load(self, node: _Node, now: float) -> float:
        self._observe(node, 0.0, now)
        if node.cost_s == 0.0 and node.pending:
            return self._PENALTY_S + node.pending
        return node.cost_s * (node.pending + 1)

    def _observe(self, node: _Node, took_s: float, now: float) -> None:
        fade = exp(-max(0.0, now - node.stamp) / TAU_S)
        node.stamp = now
        if took_s > node.cost_s:
            node.cost_s = took_s
        else:
            node.cost_s = node.cost_s * fade + took_s * (1.0 - fade)


class LinkerdPeer(TwoChoices):
    """The same peaks, a guess of 30 ms at first, and reading lets decay without being kept."""

    _FIRST_S = 0.03

    def _new(self, now: float) -> _Node:
        return _Node(cost_s=self._FIRST_S, stamp=now)

    def _load(self, node: _Node, now: float) -> float:
        fade = exp(-max(0.0, now - node.stamp) / TAU_S)
        return node.cost_s * fade * (node.pending + 1)

    def _observe(self, node: _Node, took_s: float, now: float) -> None:
        fade = exp(-max(0.0, now - node.stamp) / TAU_S)
        node.stamp = now
        if took_s > node.cost_s:
            node.cost_s = took_s
        else:
            node.cost_s = node.cost_s * fade + took_s * (1.0 - fade)


PEERS: dict[str, MakePeer] = {
    "round robin": RoundRobinPeer,
    "P2C least request": TwoChoices,
    "Finagle peak EWMA": FinaglePeer,
    "Linkerd peak EWMA": LinkerdPeer,
}

"""What balancing costs: `python -m tests.bench.balancing` writes its sections of RESULTS.md.

Everything is measured in one run on one machine, our ways beside the bare ones.
"""

import asyncio
import contextlib
import os
import random
import resource
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator

import httpx

from discovery import AsyncDiscoveryTransport, DiscoveryTransport, Resolver
from tests.bench import proxies
from tests.bench.echo import resolver_of, servers
from tests.bench.results import Row, write_section

ROUNDS = 7


def per_call_us(call: Callable[[], object], times: int) -> float:
    """The best of a few rounds, in microseconds a call."""

    def one_round() -> float:
        began = time.perf_counter()
        for _ in range(times):
            call()
        return 1e6 * (time.perf_counter() - began) / times

    return min(one_round() for _ in range(ROUNDS))


def picks() -> Iterator[Row]:
    """`resolver.pick`, name to endpoint, with the default policy and known latencies."""
    for count in (10, 1_000):
        with resolver_of(*range(1, count + 1)) as resolver:
            resolver.pick("web")
            for pool in resolver._balancer.pools:
                for member in pool.members:
                    member.sample(0.01 + 0.001 * random.random(), time.monotonic())
            took_us = per_call_us(lambda: resolver.pick("web"), 20_000)
        yield Row(f"a pick of {count:,} endpoints", f"{took_us:.2f} µs", "≤ 2.5", took_us <= 2.5)


def requests() -> Iterator[Row]:
    """A request through the transport beside bare httpx, in turns, to one endpoint."""
    with (
        servers(1) as ((port,), _),
        resolver_of(port) as resolver,
        httpx.Client(trust_env=False) as bare,
        httpx.Client(transport=DiscoveryTransport(resolver), trust_env=False) as ours,
    ):
        here, there = f"http://127.0.0.1:{port}/", "http://web/"
        plain, added = [], []
        for _ in range(200):
            bare.get(here), ours.get(there)
        for _ in range(15):
            one = per_round(lambda: bare.get(here))
            plain.append(one)
            added.append(per_round(lambda: ours.get(there)) - one)
    base, more = statistics.median(plain), statistics.median(added)
    value = f"{more:+.0f} µs on {base:.0f} µs ({100 * more / base:+.1f} %)"
    yield Row("a request over bare httpx", value, "≤ 5 % or 30 µs", more <= max(30.0, 0.05 * base))


def per_round(call: Callable[[], object], times: int = 200) -> float:
    """The median time of a call, in microseconds."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return 1e6 * statistics.median(took)


def connections() -> Iterator[Row]:
    """New connections for 1,000 requests, one after the other, over 50 endpoints, once warm."""
    with servers(50) as (ports, taken), resolver_of(*ports) as resolver:
        turns = iter(range(10**9))
        with httpx.Client(trust_env=False) as bare:
            new = _new_connections(
                lambda: bare.get(f"http://127.0.0.1:{ports[next(turns) % 50]}/"), taken
            )
        yield Row("new connections in 1,000 requests over 50 endpoints, bare httpx", f"{new}")
        transport = DiscoveryTransport(resolver)
        with httpx.Client(transport=transport, trust_env=False) as ours:
            new = _new_connections(lambda: ours.get("http://web/"), taken)
        yield Row("the same, ours", f"{new}", "≤ 1", new <= 1)


def _new_connections(call: Callable[[], object], taken: Callable[[], int]) -> int:
    for _ in range(300):
        call()
    before = taken()
    for _ in range(1_000):
        call()
    return taken() - before


def in_flight() -> Iterator[Row]:
    """What is left in flight after 10,000 requests that end in every way there is."""
    with servers(4) as (ports, _), socket.create_server(("127.0.0.1", 0)) as closed:
        refusing = closed.getsockname()[1]
        closed.close()
        for title, act in (("threads", _abuse_threads), ("event loop", _abuse_loop)):
            with resolver_of(*ports, refusing) as resolver:
                act(resolver, 5_000)
                left = sum(m.in_flight for p in resolver._balancer.pools for m in p.members)
            name = f"in flight after 5,000 cancels, errors and unread bodies, {title}"
            yield Row(name, f"{left}", "0", left == 0)


def _abuse_threads(resolver: Resolver, count: int) -> None:
    with httpx.Client(transport=DiscoveryTransport(resolver), trust_env=False) as client:

        def work(seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(count // 5):
                with contextlib.suppress(httpx.HTTPError):
                    _abuse(client, chance)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _abuse(client: httpx.Client, chance: random.Random) -> None:
    way = chance.choice(["read", "unread", "break", "timeout"])
    path = {"break": "break", "timeout": "slow"}.get(way, "large")
    timeout = 0.001 if way == "timeout" else 5.0
    with client.stream("POST", f"http://web/{path}", timeout=timeout) as response:
        if way != "unread":
            response.read()


def _abuse_loop(resolver: Resolver, count: int) -> None:
    chance = random.Random(7)

    async def one(client: httpx.AsyncClient) -> None:
        way = chance.choice(["read", "unread", "break", "cancel"])
        path = {"break": "break", "cancel": "slow"}.get(way, "large")

        async def ask() -> None:
            async with client.stream("POST", f"http://web/{path}") as response:
                if way != "unread":
                    await response.aread()

        with contextlib.suppress(httpx.HTTPError, TimeoutError):
            await asyncio.wait_for(ask(), chance.random() / 100 if way == "cancel" else 5.0)

    async def work(client: httpx.AsyncClient) -> None:
        for _ in range(count // 10):
            await one(client)

    async def all_of_it() -> None:
        transport = AsyncDiscoveryTransport(resolver)
        async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
            await asyncio.gather(*(work(client) for _ in range(10)))

    asyncio.run(all_of_it())


def main() -> None:
    """Everything, or with the argument `listeners` only what concerns those."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4_096)), hard))
    note = f"Python {sys.version.split()[0]}, httpx {httpx.__version__}, {os.cpu_count()} cores."
    if sys.argv[1:] != ["listeners"]:
        _write("Balancing: costs", note, picks, requests, connections, in_flight)
    one = f"{note} One thread each, the median of {proxies.ROUNDS} rounds in turn."
    _write("Balancing: listeners", one, proxies.listeners)


def _write(title: str, note: str, *measures: Callable[[], Iterator[Row]]) -> None:
    rows = []
    for measure in measures:
        for row in measure():
            print(row, flush=True)
            rows.append(row)
    head = ["| what | measured | goal | |", "|---|---|---|---|"]
    write_section(title, [note, "", *head, *map(str, rows)])


if __name__ == "__main__":
    main()

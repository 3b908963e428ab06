"""Balancing goals, measured in a simulated world with fixed seeds, beside other balancers.

20 endpoints of 4 workers, exponential service times of 10 ms, load 0.6. `python -m
tests.bench.simulation` runs five seeds at full length and writes its section of RESULTS.md; the
tests run one seed and shorter.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from random import Random
from statistics import mean

from discovery.balancing.latency import Latency
from discovery.balancing.policy import MakePolicy
from discovery.balancing.pool import Balancing, Pool
from discovery.balancing.ring import Ring
from discovery.balancing.round_robin import RoundRobin
from discovery.model import Endpoint
from tests.bench.peers import PEERS
from tests.bench.results import write_section
from tests.bench.world import (
    SERVICE_S,
    WORKERS,
    Client,
    OptimalClient,
    OurClient,
    PeerClient,
    Server,
    Tally,
    World,
    numbered,
)

SERVERS = 20
RATE = 0.6 * SERVERS * WORKERS / SERVICE_S
WARM_S = 5.0
OURS = "ours"
OPTIMAL = "optimal"
SEEDS = (1, 2, 3, 4, 5)


@dataclass(frozen=True, slots=True)
class Measured:
    """One property's value; `goal` is the most, or the least, that it may be, if there is one."""

    name: str
    value: float
    unit: str = ""
    most: float | None = None
    least: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the goal, where there is one, is reached."""
        return (self.most is None or self.value <= self.most) and (
            self.least is None or self.value >= self.least
        )


Scenario = Callable[[int, float], Iterator[Measured]]


def made(
    kind: str, world: World, clients: int, policy: MakePolicy = Latency, most: int = 0
) -> list[Client]:
    """So many clients of a kind: ours, the optimal one, or a peer's."""
    if kind == OURS:
        return [OurClient(world, n, policy, most=most) for n in range(clients)]
    if kind == OPTIMAL:
        return [OptimalClient(world, n) for n in range(clients)]
    return [
        PeerClient(world, n, PEERS[kind](Random(f"{kind} {n} {world.random.random()}")))
        for n in range(clients)
    ]


def one_slow(seed: int, seconds: float) -> Iterator[Measured]:
    """One of 20 is ten times slower; ten clients, then fifty that send as much together."""
    for clients in (10, 50):
        for kind in (*PEERS, OURS):
            world = World([Server() for _ in range(SERVERS)], seed, WARM_S)
            world.servers[0].slower = lambda now: 10.0
            tally = world.run(seconds, RATE, made(kind, world, clients))
            goals = (51.0, 78.0) if kind == OURS else (None, None)
            title = f"1 of 20 ten times slower, {clients} clients, {kind}"
            yield Measured(f"{title}: p99", tally.quantile_ms(0.99), "ms", goals[0])
            yield Measured(f"{title}: p99.9", tally.quantile_ms(0.999), "ms", goals[1])


def recovery(seed: int, seconds: float) -> Iterator[Measured]:
    """One of 20 is ten times slower, and recovers half a minute before the end."""
    for clients in (10, 50):
        until = seconds - 30.0
        world = World([Server() for _ in range(SERVERS)], seed, WARM_S)
        world.servers[0].slower = partial(_slow_until, until)
        timeline = world.run(seconds, RATE, made(OURS, world, clients)).timeline
        slow = [server == 0 for at, _, server, _ in timeline if at < until]
        last = [server == 0 for at, _, server, _ in timeline if at > seconds - 5.0]
        title = f"the slow one, {clients} clients"
        yield Measured(f"{title}: its share", 100 * mean(slow), "%", 0.05)
        share = SERVERS * mean(last)
        yield Measured(
            f"{title}: of its fair share 25-30 s after it recovered", share, "", None, 0.8
        )


def _slow_until(until: float, now: float) -> float:
    return 10.0 if now < until else 1.0


def some_slow(seed: int, seconds: float) -> Iterator[Measured]:
    """5 of 20 are twice as slow."""
    for kind in (*PEERS, OURS):
        world = World([Server() for _ in range(SERVERS)], seed, WARM_S)
        for server in world.servers[:5]:
            server.slower = lambda now: 2.0
        tally = world.run(seconds, RATE, made(kind, world, 10))
        goal = 60.0 if kind == OURS else None
        yield Measured(f"5 of 20 twice as slow, {kind}: p99", tally.quantile_ms(0.99), "ms", goal)


def all_equal(seed: int, seconds: float) -> Iterator[Measured]:
    """Equal endpoints get equally much."""
    policies: dict[str, tuple[MakePolicy, float]] = {
        OURS: (Latency, 1.08),
        "ours, round robin": (RoundRobin, 1.001),
    }
    for kind in (*PEERS, *policies):
        policy, goal = policies.get(kind, (Latency, None))
        world = World([Server() for _ in range(SERVERS)], seed, 0.0)
        clients = made(OURS if kind in policies else kind, world, 10, policy)
        tally = world.run(seconds, RATE, clients)
        spread = tally.spread(range(SERVERS))
        yield Measured(f"equal endpoints, {kind}: max/mean picks", spread, "", goal)


def one_failing(seed: int, seconds: float) -> Iterator[Measured]:
    """One endpoint answers with an error in 0.5 ms."""
    for kind, most in ((k, 0) for k in (*PEERS, OURS)):
        tally = _one_failing(seed, seconds, kind, most)
        goal = 0.05 if kind == OURS else None
        yield Measured(f"1 of 20 failing fast, {kind}: errors", 100 * tally.error_part, "%", goal)
    tally = _one_failing(seed, seconds, OURS, 2)
    yield Measured("1 of 20 failing fast, ours with retries: errors", tally.errors, "", 0)


def _one_failing(seed: int, seconds: float, kind: str, most: int) -> Tally:
    world = World([Server() for _ in range(SERVERS)], seed, 0.0)
    world.servers[0].fails = lambda now, random: now > WARM_S
    return world.run(seconds, RATE, made(kind, world, 10, most=most))


def ejecting(seed: int, seconds: float) -> Iterator[Measured]:
    """How long it takes until a client ejects an endpoint that begins to fail."""
    for title, part, goal in (("every", 1.0, 0.6), ("every other", 0.5, 4.0)):
        world = World([Server() for _ in range(SERVERS)], seed, 0.0)
        world.servers[0].fails = partial(_fails_in_part, part)
        clients = [OurClient(world, n, Latency) for n in range(10)]
        ejected: dict[int, float] = {}
        for step in range(int(100 * (seconds - WARM_S))):
            world.at(WARM_S + step / 100, partial(_note_ejected, world, clients, ejected))
        world.run(seconds, RATE, clients)
        took = [ejected.get(n, seconds) - WARM_S for n in range(10)]
        yield Measured(f"{title} request fails: ejected after, mean", mean(took), "s", goal)
        yield Measured(f"{title} request fails: ejected after, slowest client", max(took), "s")


def _fails_in_part(part: float, now: float, random: Random) -> bool:
    return now > WARM_S and random.random() < part


def _note_ejected(world: World, clients: list[OurClient], ejected: dict[int, float]) -> None:
    for number, client in enumerate(clients):
        first = next(m for m in client.pool.members if m.endpoint.port == 0)
        if first.standing.cause is not None:
            ejected.setdefault(number, world.now)


def outage(seed: int, seconds: float) -> Iterator[Measured]:
    """Everything fails; how many times more is sent than was asked for."""
    world = World([Server() for _ in range(SERVERS)], seed, 0.0)
    for server in world.servers:
        server.fails = lambda now, random: True
    tally = world.run(seconds, RATE, made(OURS, world, 10, most=2))
    reserve = 10 * (seconds + 10.0) / (RATE * seconds)  # each client's own, while it fills first
    sent = tally.sent / (tally.errors + len(tally.latencies_s))
    yield Measured("total outage: requests sent for each that was asked", sent, "", 1.21 + reserve)


def ring(seed: int, seconds: float) -> Iterator[Measured]:
    """Keys on the ring, when an endpoint comes or goes."""
    random = Random(seed)
    keys = [f"key {random.random()}" for _ in range(20_000)]
    first = random.randrange(1_000_000)
    before, after = numbered(range(first, first + 20)), numbered(range(first, first + 21))
    owners, later = _owners(before, keys), _owners(after, keys)
    new = after[-1].port
    moved = sum(a != b and b != new for a, b in zip(owners, later, strict=True))
    yield Measured("ring, one more or less: keys moved needlessly", moved, "", 0)
    counts = [owners.count(e.port) for e in before]
    yield Measured("ring: max/mean keys", max(counts) / mean(counts), "", 1.20)


def _owners(endpoints: tuple[Endpoint, ...], keys: list[str]) -> list[int]:
    pool = Pool(Ring, Random(0), lambda: 0.0)
    return [pool.choose(endpoints, 0.0, key).endpoint.port for key in keys]


def rolling(seed: int, seconds: float) -> Iterator[Measured]:
    """Every endpoint is replaced, one after the other, by one that starts five times slower."""
    best = 0.0
    for kind in (OPTIMAL, *PEERS, OURS):
        world = World([Server() for _ in range(SERVERS)], seed, WARM_S)
        clients = made(kind, world, 10)
        pause = (seconds - 2 * WARM_S) / SERVERS
        for turn in range(SERVERS):
            world.at(WARM_S + turn * pause, partial(_replace, world, clients, turn))
        p99 = world.run(seconds, RATE, clients).quantile_ms(0.99)
        best = best or p99
        goal = 1.3 if kind == OURS else None
        yield Measured(f"rolling deployment, {kind}: p99 / optimal", p99 / best, "", goal)


def _replace(world: World, clients: list[Client], turn: int) -> None:
    born = world.now
    world.servers.append(Server(lambda now: max(1.0, 5.0 - 4.0 * (now - born) / 10.0)))
    number = len(world.servers) - 1
    _publish(world, clients, [number if n == turn else n for n in world.active])


def _publish(world: World, clients: list[Client], active: list[int]) -> None:
    world.active = tuple(active)
    for client in clients:
        if isinstance(client, OurClient):
            client.endpoints = numbered(world.active)


def newcomer(seed: int, seconds: float) -> Iterator[Measured]:
    """One endpoint more; its picks in the first second."""
    for kind in ("P2C least request", "Finagle peak EWMA", OURS):
        world = World([Server() for _ in range(SERVERS)], seed, WARM_S)
        clients = made(kind, world, 20)
        world.at(WARM_S, partial(_join, world, clients))
        tally = world.run(WARM_S + 1.0, RATE, clients)
        fair = tally.sent / (SERVERS + 1)
        goal = 1.3 if kind == OURS else None
        yield Measured(
            f"a new endpoint, {kind}: first second / fair", tally.picks[SERVERS] / fair, "", goal
        )


def _join(world: World, clients: list[Client]) -> None:
    world.servers.append(Server())
    _publish(world, clients, [*world.active, len(world.servers) - 1])


def zones(seed: int, seconds: float) -> Iterator[Measured]:
    """Own zone first, with zones of equal and of unequal size, clients in equal parts."""
    for title, sizes in (("equal", (7, 7, 7)), ("unequal", (12, 5, 4))):
        names = [zone for zone, size in zip("abc", sizes, strict=True) for _ in range(size)]
        world = World([Server() for _ in names], seed, WARM_S)
        clients = [
            OurClient(world, n, Latency, balancing=Balancing(zone="abc"[n % 3])) for n in range(12)
        ]
        for client in clients:
            client.endpoints = numbered(world.active, names)
        tally = world.run(seconds, RATE, clients)
        crossed = mean(names[server] != "abc"[n % 3] for _, n, server, _ in tally.timeline)
        goal = 0.0 if title == "equal" else None
        yield Measured(f"{title} zones: requests to another zone", 100 * crossed, "%", goal)
        spread = tally.spread(range(len(names)))
        yield Measured(f"{title} zones: max/mean picks of a task", spread, "", 1.10)


# Seconds of simulated time: in full, and in the tests.
SCENARIOS: dict[str, tuple[Scenario, float, float]] = {
    "one slow": (one_slow, 60.0, 25.0),
    "recovery": (recovery, 120.0, 75.0),
    "some slow": (some_slow, 60.0, 25.0),
    "all equal": (all_equal, 60.0, 15.0),
    "one failing": (one_failing, 65.0, 45.0),
    "ejecting": (ejecting, 15.0, 12.0),
    "outage": (outage, 30.0, 15.0),
    "ring": (ring, 0.0, 0.0),
    "rolling deployment": (rolling, 90.0, 50.0),
    "new endpoint": (newcomer, 0.0, 0.0),
    "zones": (zones, 30.0, 12.0),
}


def table(runs: list[list[Measured]]) -> list[str]:
    """Lines of a table: each property with its values' range over the seeds, and its goal."""
    lines = ["| property | measured, least to most over the seeds | goal | |", "|---|---|---|---|"]
    for values in zip(*runs, strict=True):
        low, high = min(m.value for m in values), max(m.value for m in values)
        goal = _goal(values[0])
        verdict = ("holds" if all(m.holds for m in values) else "missed") if goal else ""
        unit = f" {values[0].unit}" if values[0].unit else ""
        lines.append(f"| {values[0].name} | {low:.4g} – {high:.4g}{unit} | {goal} | {verdict} |")
    return lines


def _goal(measured: Measured) -> str:
    if measured.most is not None:
        return f"≤ {measured.most:.4g}"
    return "" if measured.least is None else f"≥ {measured.least:.4g}"


def run(name: str, seed: int) -> list[Measured]:
    """One scenario at full length."""
    scenario, seconds, _ = SCENARIOS[name]
    return list(scenario(seed, seconds))


def main() -> None:
    """All scenarios, five seeds, at full length."""
    lines: list[str] = []
    with ProcessPoolExecutor() as workers:
        runs = {name: [workers.submit(run, name, seed) for seed in SEEDS] for name in SCENARIOS}
        for futures in runs.values():
            rows = table([future.result() for future in futures])
            print("\n".join(rows[2:]), flush=True)
            lines.extend(rows if not lines else rows[2:])
    note = (
        f"{SERVERS} endpoints of {WORKERS} workers, exponential service times of"
        f" {1e3 * SERVICE_S:.0f} ms, load 0.6 ({RATE:.0f} requests a second), seeds"
        f" {SEEDS[0]} to {SEEDS[-1]}. All balancers ran in the same simulated world."
    )
    write_section("Balancing: simulation", [note, "", *lines])


if __name__ == "__main__":
    main()

"""Calls of a whole fleet in simulated time: led by one reader, without a leader, and all direct.

Run as `python -m tests.bench.fleet [--write]`. 1,000 tasks, in bridge mode; the calls are those of
the plan within its budget, and the account refuses what is over its quota. A bystander (a console,
a deployment) makes two calls a second in every throttle group beside the fleet.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from discovery.ecs.calls import CLUSTER_RESOURCES, DEFINITIONS
from discovery.sources.fallback import Fleet
from tests.bench.results import Row, write_section
from tests.made import NOW, FakeClock
from tests.scale.world import Made, Reader, SimulatedEcs, cluster, throttled

TASKS = 1_000
SIZES = (10, 100, 1_000)
INTERVAL_S = 10.0
BYSTANDER = 2.0
WARM_S, LASTS_S = 120.0, 300.0
TURNS, APART_S = 6, 300.0


@dataclass(frozen=True, slots=True)
class Watched:
    """The calls of one reader from a time of zero: its first read, what is steady, and its turns.

    Turns are reads that are far apart, with the definitions that each takes along.
    """

    first: tuple[Made, ...]
    first_s: float
    steady: tuple[Made, ...]
    turns: tuple[tuple[Made, ...], ...]


def watched() -> Watched:
    """Simulate one reader of the whole cluster."""
    clock = FakeClock()
    source = SimulatedEcs(cluster(TASKS), clock)
    reader = Reader(source, clock)
    reader.step()
    first, first_s = tuple(source.made), clock.now - NOW
    reader.run(NOW + WARM_S)
    source.made.clear()
    reader.run(NOW + WARM_S + LASTS_S)
    steady = _from(source.made, NOW + WARM_S)
    return Watched(_from(first, NOW), first_s, steady, _turns())


def _turns() -> tuple[tuple[Made, ...], ...]:
    clock = FakeClock()
    source = SimulatedEcs(cluster(TASKS), clock)
    found = []
    for turn in range(TURNS):
        clock.now = began = NOW + turn * APART_S
        source.made.clear()
        source.load(None)
        found.append(_from(source.made, began))
    return tuple(found)


def _from(made: Iterable[Made], began: float) -> tuple[Made, ...]:
    return tuple(Made(each.at - began, each.group) for each in made)


def direct(one: Watched, readers: int) -> list[Made]:
    """So many that read by themselves, out of step; their calls if none were refused."""
    chance = Random(1)
    shifts = [chance.uniform(0, INTERVAL_S) for _ in range(readers)]
    return [Made(each.at + shift, each.group) for shift in shifts for each in one.steady]


def unled(one: Watched, readers: int) -> list[Made]:
    """So many that have lost their leader: each reads in its turn, at the fleet's pace."""
    scarce = sum(each.group == CLUSTER_RESOURCES for each in one.first)
    pause_s = Fleet(readers, scarce).pause_s(INTERVAL_S)
    chance = Random(1)
    made = []
    for _ in range(readers):
        at = pause_s * chance.random()
        for number, turn in enumerate(one.turns):
            made += [Made(at + number * pause_s + each.at, each.group) for each in turn]
    return made


def rate(made: list[Made], group: str) -> float:
    """Calls a second of one group."""
    at = [each.at for each in made if each.group == group]
    return len(at) / max(1.0, max(at) - min(at))


def rows() -> list[Row]:
    """All that is measured."""
    one = watched()
    led = list(one.steady)
    calls = len(led) / LASTS_S
    found = [
        Row("one hub or lease holder: calls/s of all groups", f"{calls:.2f}", "≤ 2", calls <= 2),
        Row("its first read takes", f"{one.first_s:.0f} s", "≤ 60 s", one.first_s <= 60),
        _refused("a bystander of any number of followers", led, 0),
    ]
    for readers in SIZES:
        made = unled(one, readers)
        scarce = rate(made, CLUSTER_RESOURCES)
        name = f"{readers:,} without a leader"
        found.append(Row(f"{name}: scarce calls/s", f"{scarce:.1f}", "≤ 10.5", scarce <= 10.5))
        named = rate(made, DEFINITIONS)
        found.append(Row(f"{name}: calls/s of definitions, all to be read", f"{named:.1f}"))
        found.append(_refused(name, made, None))
    for readers in SIZES[:-1]:
        made = direct(one, readers)
        name = f"{readers:,} that read by themselves"
        found.append(Row(f"{name}: scarce calls/s", f"{rate(made, CLUSTER_RESOURCES):.0f}"))
        found.append(_refused(name, made, None))
    return found


def _refused(name: str, made: list[Made], goal: int | None) -> Row:
    share = throttled(made, BYSTANDER) / len(made)
    holds = None if goal is None else share <= goal
    return Row(f"{name}: calls refused", f"{share:.1%}", "" if goal is None else "0", holds)


def main() -> None:
    """Simulate, print, and write the results where that is asked for."""
    head = f"{TASKS:,} tasks, simulated; a bystander makes {BYSTANDER:.0f} calls a second."
    table = ["| what | measured | goal | |", "|---|---|---|---|", *map(str, rows())]
    lines = [head, "Calls are replayed: what is refused here slows nobody down.", "", *table]
    print("\n".join(lines))
    if "--write" in sys.argv:
        write_section("A fleet's calls (`python -m tests.bench.fleet`)", lines)


if __name__ == "__main__":
    main()

"""Calls of a whole fleet in simulated time: led by one reader, without a leader, and all direct.

Run as `python -m tests.bench.fleet [--write]`. 1,000 tasks, in bridge mode; the calls are those of
the plan within its budget, and the account refuses what is over its quota. A bystander (a console,
a deployment) makes two calls a second in every throttle group beside the fleet.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from random import Random

from discovery.ecs.calls import CLUSTER_RESOURCES, DEFINITIONS
from discovery.sources.fallback import Fleet
from tests.bench.results import Row, write_section
from tests.ecs.fixed import SCOPE
from tests.made import NOW, FakeClock
from tests.scale.world import Made, Reader, SimulatedEcs, cluster, throttled

TASKS = 1_000
SIZES = (10, 100, 1_000)
INTERVAL_S = 10.0
BYSTANDER = 2.0
WARM_S, LASTS_S = 120.0, 300.0
TURNS = 6


@dataclass(frozen=True, slots=True)
class Watched:
    """The calls of one reader from a time of zero: its first read, and what is steady."""

    first: tuple[Made, ...]
    first_s: float
    steady: tuple[Made, ...]


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
    return Watched(_from(first, NOW), first_s, steady)


def _turns(fleet: Fleet) -> list[Made]:
    """The calls of one of a fleet without a leader: direct reads, and definitions between them."""
    clock = FakeClock()
    source = SimulatedEcs(cluster(TASKS), clock, replace(SCOPE, names_later=True))
    pause_s, lot_s = fleet.pause_s(INTERVAL_S), fleet.lot_s
    reads = [(n * pause_s, partial(source.load, None)) for n in range(TURNS)]
    lots = [(n * lot_s, source.load_pending) for n in range(1, int(TURNS * pause_s / lot_s) + 1)]
    for at, read in sorted(reads + lots, key=lambda each: each[0]):
        clock.now = max(clock.now, NOW + at)
        read()
    return [Made(each.at - NOW, each.group) for each in source.made]


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
    fleet = Fleet(readers, scarce)
    turns = _turns(fleet)
    chance = Random(1)
    shifts = [fleet.pause_s(INTERVAL_S) * chance.random() for _ in range(readers)]
    return [Made(each.at + shift, each.group) for shift in shifts for each in turns]


def rate(made: list[Made], group: str) -> float:
    """Calls a second of one group."""
    at = [each.at for each in _of(made, group)]
    return len(at) / max(1.0, max(at) - min(at))


def _of(made: list[Made], group: str) -> list[Made]:
    return [each for each in made if each.group == group]


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
        name, calls = f"{readers:,} without a leader", rate(made, CLUSTER_RESOURCES)
        found.append(Row(f"{name}: scarce calls a second", f"{calls:.1f}", "≤ 10.5", calls <= 10.5))
        found.append(_refused(f"{name}: scarce calls", _of(made, CLUSTER_RESOURCES), None))
        named = f"{rate(made, DEFINITIONS):.1f}"
        found.append(Row(f"{name}: definitions a second, until all are read", named))
        found.append(_refused(f"{name}: definitions", _of(made, DEFINITIONS), None))
    for readers in SIZES[:-1]:
        made = direct(one, readers)
        name = f"{readers:,} that read by themselves"
        found.append(Row(f"{name}: scarce calls/s", f"{rate(made, CLUSTER_RESOURCES):.0f}"))
        found.append(_refused(name, made, None))
    return found


def _refused(name: str, made: list[Made], goal: int | None) -> Row:
    share = throttled(made, BYSTANDER) / len(made)
    holds = None if goal is None else share <= goal
    return Row(f"{name}, refused", f"{share:.1%}", "" if goal is None else "0", holds)


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

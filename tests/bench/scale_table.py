"""The tables of `scale`: a row a reader, kept from run to run, and what the goals come to."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from discovery.local.throttle import GROUPS
from tests.bench.results import Row

# In the order of the table.
DIRECT, EVENTS = "ecs-discovery", "with events"
FOLLOWER, SECOND = "follower of a hub", "second one by Redis"
TRAEFIK, DISCOVERER = "Traefik", "prometheus-ecs-discoverer"
READERS = (DIRECT, EVENTS, FOLLOWER, SECOND, TRAEFIK, DISCOVERER)
HEAD = (
    "reader",
    "calls until all tasks are served",
    "calls until nothing is left to read",
    "of these",
    "CPU s",
    "calls an hour",
    "in the window",
    "CPU then",
    "MB",
    "task start → visible, s: p50, most",
    "load",
)
_SERVED, _KNOWN, _HOUR, _RSS, _VISIBLE = 1, 2, 5, 8, 9


@dataclass(slots=True)
class Cost:
    """One reader's row: calls by operation, seconds and memory; `load` of the machine then."""

    name: str
    window_s: float
    served: Counter[str] = field(default_factory=Counter)
    served_s: float = 0.0
    known: Counter[str] = field(default_factory=Counter)
    known_s: float = 0.0
    cpu_s: float = 0.0
    steady: Counter[str] = field(default_factory=Counter)
    steady_cpu: float = 0.0
    rss: float = 0.0
    visible_s: list[float] = field(default_factory=list)
    load: float = 0.0

    def __str__(self) -> str:
        hour = self.steady.total() * 3_600 / self.window_s
        seen = sorted(self.visible_s)
        cells = (
            self.name,
            f"{self.served.total():,} ({self.served_s:.0f} s)",
            f"{self.known.total():,} ({self.known_s:.0f} s)",
            _groups(self.known),
            f"{self.cpu_s:.1f}",
            f"{hour:,.0f}",
            _groups(self.steady),
            f"{self.steady_cpu:.1%}",
            f"{self.rss:.0f}",
            f"{median(seen):.1f}, {seen[-1]:.1f}" if seen else "–",
            f"{self.load:.0f}",
        )
        return f"| {' | '.join(cells)} |"


def table(rows: Iterable[str], before: Iterable[str]) -> list[str]:
    """These rows, and those of other readers as they stood in the table before."""
    found = {_cells(line)[0]: line for line in (*before, *rows) if line.startswith("| ")}
    lines = [found[name] for name in READERS if name in found]
    return [f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|", *lines]


def verdicts(lines: Sequence[str], tasks: int) -> list[str]:
    """What the goals come to, of those whose rows are there."""
    cells = {row[0]: row for line in lines if (row := _cells(line))[0] in READERS}
    found = [*_against_traefik(cells), *_own(cells, tasks)]
    return ["| goal | measured | limit | |", "|---|---|---|---|", *map(str, found)]


def _against_traefik(cells: dict[str, list[str]]) -> Iterable[Row]:
    if TRAEFIK not in cells:
        return
    asked = (
        ("until all tasks are served", _SERVED, 10),
        ("until nothing is left to read", _KNOWN, 10),
        ("an hour", _HOUR, 50),
    )
    for name in (DIRECT, EVENTS):
        for title, column, limit in asked if name in cells else ():
            ours, theirs = (_number(cells[each][column]) for each in (name, TRAEFIK))
            times = theirs / max(1.0, ours)
            title = f"Traefik's calls ÷ ours, {title}: {name}"
            yield Row(title, f"{times:.1f}", f"≥ {limit}", times >= limit)


def _own(cells: dict[str, list[str]], tasks: int) -> Iterable[Row]:
    limit = 100 if tasks <= 1_000 else 170
    for name, limit_s in ((DIRECT, 12 if tasks <= 1_000 else None), (EVENTS, 2)):
        if name not in cells:
            continue
        most = float(cells[name][_VISIBLE].partition(", ")[2] or "inf")
        holds = most <= limit_s if limit_s else None
        wanted = f"≤ {limit_s} s" if limit_s else "reported"
        yield Row(f"a started task is visible after: {name}", f"{most:.1f} s", wanted, holds)
        memory = _number(cells[name][_RSS])
        yield Row(f"memory: {name}", f"{memory:.0f} MB", f"≤ {limit} MB", memory <= limit)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def _number(cell: str) -> float:
    found = re.match(r"[\d,]+", cell)
    return float(found[0].replace(",", "")) if found else 0.0


def _groups(calls: Counter[str]) -> str:
    found: Counter[str] = Counter()
    for operation, count in calls.items():
        found[GROUPS[operation].name if operation in GROUPS else "others"] += count
    return ", ".join(f"{name} {count:,}" for name, count in found.most_common())

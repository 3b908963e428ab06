"""`watch` on a terminal: a table that follows, and tables that fit."""

import os
import pty
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from discovery.cli import output
from discovery.cli.live import Screen
from discovery.model import Cluster, Snapshot
from tests.cli.programs import PROGRAM, TIMEOUT_S, environment
from tests.made import FakeClock, endpoint

WIDTH = 80
TASK = "arn:aws:ecs:eu-west-1:1:task/prod/0123456789abcdef0123456789abcdef"


def lines(shown: RenderableType) -> list[str]:
    """What a terminal of 80 columns shows."""
    console = Console(width=WIDTH, force_terminal=True, color_system=None, highlight=False)
    with console.capture() as captured:
        console.print(shown)
    return [line.rstrip() for line in captured.get().splitlines()]


class Watched:
    """A screen whose snapshot, clock and height are made up."""

    def __init__(self) -> None:
        self.clock = FakeClock(1_000.0)
        self.snapshot = Snapshot(observed_at=997.0)
        self.height = 24
        self.screen = Screen(
            "web", lambda: self.snapshot, lambda: "it is said why", lambda: self.height, self.clock
        )

    @property
    def lines(self) -> list[str]:
        return lines(self.screen.shown())


ONE = endpoint(host="10.0.0.1", port=1, task_arn=TASK, zone="eu-west-1a")
TWO = endpoint(host="10.0.0.2", port=2, task_arn=TASK.replace("0", "f"), zone="eu-west-1b")


def test_the_endpoints_stand_under_how_many_and_how_old() -> None:
    """The age grows, without anything new."""
    watched = Watched()
    watched.screen.take((ONE, TWO))
    head, names, *rows = watched.lines
    assert head == "web  2 endpoints, read 3 s ago"
    assert names.split()[:2] == ["HOST", "PORT"]
    assert [row.split()[:2] for row in rows] == [["10.0.0.1", "1"], ["10.0.0.2", "2"]]
    watched.clock.now += 2
    assert watched.lines[0] == "web  2 endpoints, read 5 s ago"


def test_changes_are_listed_below() -> None:
    """With the time of each, the last ones only."""
    watched = Watched()
    watched.screen.take((ONE,))
    watched.screen.take((TWO,))
    *_, gone, came = watched.lines
    assert gone[10:].startswith("- ")
    assert "10.0.0.1:1" in gone
    assert came[10:].startswith("+ ")
    assert "10.0.0.2:2" in came
    for _ in range(30):
        watched.screen.take((ONE,))
        watched.screen.take((TWO,))
    assert len(watched.lines) < watched.height


def test_where_there_is_none_it_is_said_why() -> None:
    """In the place of the table."""
    watched = Watched()
    watched.screen.take(())
    assert watched.lines == ["web  0 endpoints, read 3 s ago", "it is said why"]


def test_what_does_not_fit_is_counted() -> None:
    """The screen never scrolls."""
    watched = Watched()
    watched.screen.take(tuple(replace(ONE, port=n) for n in range(1, 101)))
    assert len(watched.lines) < watched.height
    assert watched.lines[-1] == "and 81 more"


def test_a_source_that_fails_is_said_in_the_head() -> None:
    """The endpoints stay, and grow old."""
    watched = Watched()
    watched.screen.take((ONE,))
    failing = Cluster("prod", error="nobody answers")
    watched.snapshot = Snapshot(observed_at=997.0, clusters=(failing,))
    assert watched.lines[0].endswith("; cluster prod cannot be read: nobody answers")


def test_addresses_stay_whole_where_tasks_are_cut() -> None:
    """Prose is folded between words."""
    columns = ("TIME", "TASK", "ADDRESS", "REASON")
    address = "255.255.255.255:65535"
    row = ("2026-01-01 00:00:00", "a" * 32, address, "one reason after the other " * 3)
    shown = lines(output.laid_out(columns, [row]))
    assert max(map(len, shown)) <= WIDTH
    assert address in shown[1]
    assert "2026-01-01 00:00:00" in shown[1]
    assert "…" in shown[1]
    assert "".join(shown).count("reason") == 3


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, *words: str, env: dict[str, str]) -> None:
        self._screen, theirs = pty.openpty()
        size = {"COLUMNS": "80", "LINES": "24", "TERM": "xterm"}
        self.process = subprocess.Popen(
            [*PROGRAM, *words], stdout=theirs, stderr=theirs, env=environment(env | size)
        )
        os.close(theirs)
        self.said = ""

    def until(self, text: str) -> None:
        """Read until that was shown."""
        until = time.monotonic() + TIMEOUT_S
        while text not in self.said:
            assert time.monotonic() < until, self.said
            self.said += os.read(self._screen, 65_536).decode()

    def close(self) -> None:
        """End it, whatever happens."""
        self.process.kill()
        self.process.wait(TIMEOUT_S)
        os.close(self._screen)


@pytest.fixture
def terminal(static: Path) -> Iterator[Terminal]:
    """`watch` of the static file's service."""
    source = {"ECS_DISCOVERY_SOURCE": f"file:{static}"}
    made = Terminal("watch", "web", "--interval", "200ms", env=source)
    yield made
    made.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_terminal_has_the_table_until_it_is_interrupted(
    terminal: Terminal, static: Path, number: int
) -> None:
    """It follows what changes, and leaves the terminal as it was: exit code 0, cursor shown."""
    terminal.until("2 endpoints")
    static.write_text(static.read_text().replace("49154", "49999"))
    terminal.until("127.0.0.3:49999")
    terminal.process.send_signal(number)
    terminal.until("\x1b[?25h")
    assert terminal.process.wait(TIMEOUT_S) == 0

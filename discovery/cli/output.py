"""What commands print: tables for people, JSON for machines, one sentence for what went wrong.

Colours appear on a terminal only; elsewhere tables have neither frames nor a bound on their width,
so that nothing is cut off on its way to another program. On a terminal that is too narrow prose is
folded and what stands for a task cut, while addresses stay whole.
"""

import sys
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import click
import msgspec
from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from discovery.cli.program import PROGRAM

_UNBOUNDED = 100_000
_FOLDED = ("SERVICE", "CLUSTER", "CONTAINER", "PORTS", "REASON", "CHECK", "WHAT", "VALUE", "FROM")
_CUT = ("TASK",)
_COLOURS = {
    "healthy": "green",
    "unknown": "green",
    "kept": "green",
    "ok": "green",
    "skipped": "dim",
    "warning": "yellow",
    "failed": "red",
    "starting": "yellow",
    "draining": "yellow",
    "last resort": "yellow",
    "unhealthy": "red",
    "excluded": "red",
}


def as_json(document: Any, *, indented: bool = True) -> None:
    """One JSON document on standard output; on one line unless `indented`."""
    encoded = msgspec.json.encode(document)
    click.echo(msgspec.json.format(encoded, indent=2) if indented else encoded)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows under a head, on standard output. `None` is shown as a dash."""
    out = console()
    with out.capture() as captured:
        out.print(laid_out(columns, rows))
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def laid_out(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """The same as something that rich can show."""
    shown = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        may_shrink = column in (*_FOLDED, *_CUT)
        overflow: Literal["fold", "ellipsis"] = "ellipsis" if column in _CUT else "fold"
        shown.add_column(column, overflow=overflow, no_wrap=not may_shrink, min_width=4)
    for row in rows:
        shown.add_row(*(_cell(value) for value in row))
    return shown


def progress(what: str) -> Status:
    """Says on a terminal's standard error what is waited for, in a `with` block."""
    return Console(stderr=True, quiet=not sys.stderr.isatty()).status(what)


def say(sentence: str) -> None:
    """One sentence on standard error, after the program's name."""
    click.echo(f"{PROGRAM}: {sentence}", err=True)


def task_id(arn: str | None) -> str | None:
    """The last part of a task's ARN, which is what a person looks for."""
    return arn.rpartition("/")[2] if arn else None


def console() -> Console:
    """Standard output; as wide as its terminal, else unbounded."""
    terminal = sys.stdout.isatty()
    return Console(width=None if terminal else _UNBOUNDED, highlight=False, soft_wrap=False)


def _cell(value: object) -> Text:
    text = "-" if value is None else str(value)
    return Text(text, style=_COLOURS.get(text, ""))

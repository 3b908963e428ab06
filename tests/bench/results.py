"""RESULTS.md: one section a benchmark, each written by its benchmark only."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
_HEAD = "# What was measured\n\nEach section is written by the benchmark that it names.\n"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    value: str
    goal: str = ""
    holds: bool | None = None

    def __str__(self) -> str:
        verdict = "" if self.holds is None else ("holds" if self.holds else "missed")
        return f"| {self.name} | {self.value} | {self.goal} | {verdict} |"


def read_section(title: str, path: Path = RESULTS) -> list[str]:
    """The lines of this section as it stands; none where there is none."""
    found = _section(title).search(path.read_text() if path.exists() else "")
    return found[0].splitlines() if found else []


def write_section(title: str, lines: Sequence[str], path: Path = RESULTS) -> None:
    """Write this section anew, and leave the others as they are."""
    text = path.read_text() if path.exists() else _HEAD
    section = f"## {title}\n\n" + "\n".join(lines).strip() + "\n"
    pattern = _section(title)
    if pattern.search(text):
        text = pattern.sub(lambda _: section + "\n", text)
    else:
        text = text.rstrip() + "\n\n" + section
    path.write_text(text.rstrip() + "\n")


def _section(title: str) -> re.Pattern[str]:
    return re.compile(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)

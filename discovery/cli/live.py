"""What `watch` shows on a terminal: a table that stays in its place, and the last changes below."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from discovery.cli import output, resolve
from discovery.cli.changes import changes
from discovery.client.resolver import Resolver
from discovery.model import Cluster, Endpoint, Snapshot

_REST = 5  # lines of the screen that are not the table's rows: two heads, a gap, the prompt
_MOST_CHANGES = 8
_COLOURS = {"+": "green", "-": "red", "~": "yellow"}


@dataclass(eq=False)
class Screen:
    """The screen of one name. `take` is for one thread, `shown` for any.

    `snapshot` says how old the data is, `why` what there is to say where there is no endpoint;
    `clock` is seconds since the epoch, `height` the lines of the terminal.
    """

    name: str
    snapshot: Callable[[], Snapshot]
    why: Callable[[], str | None]
    height: Callable[[], int]
    clock: Callable[[], float] = time.time
    _endpoints: tuple[Endpoint, ...] | None = None
    _changes: tuple[str, ...] = ()

    def take(self, endpoints: tuple[Endpoint, ...]) -> None:
        """These are the endpoints from now on."""
        if self._endpoints is not None:
            at = time.strftime("%H:%M:%S", time.localtime(self.clock()))
            new = (f"{at}  {line}" for line in changes(self._endpoints, endpoints))
            self._changes = (*self._changes, *new)[-_MOST_CHANGES:]
        self._endpoints = endpoints

    def shown(self) -> RenderableType:
        """The screen as it is now."""
        endpoints, changed = self._endpoints or (), self._changes
        room = max(1, self.height() - _REST - len(changed))
        rows = [resolve.row(endpoint) for endpoint in endpoints[:room]]
        parts: list[RenderableType] = [self._head(len(endpoints))]
        if rows:
            parts.append(output.laid_out(resolve.COLUMNS, rows))
        elif why := self.why():
            parts.append(Text(why, style="yellow"))
        if len(endpoints) > room:
            parts.append(Text(f"and {len(endpoints) - room} more", style="dim"))
        if changed:
            parts += [Text(""), *map(_line, changed)]
        return Group(*parts)

    def _head(self, count: int) -> Text:
        head = Text.assemble((self.name, "bold"), f"  {count} endpoint{'s' * (count != 1)}")
        snapshot = self.snapshot()
        if snapshot.observed_at:
            head.append(f", read {max(0.0, self.clock() - snapshot.observed_at):.0f} s ago")
        for failing in filter(_error, snapshot.clusters):
            head.append(f"; cluster {failing.label} cannot be read: {failing.error}", "red")
        return head


def watch(resolver: Resolver, name: str, console: Console) -> None:
    """Show that name's endpoints until interrupted. Raises as `Resolver.watch` does, at first."""
    why = partial(resolve.why_none, resolver, name)
    screen = Screen(name, lambda: resolver.snapshot, why, lambda: console.height)
    updates = resolver.watch(name)
    with output.progress("reading …"):
        first = next(updates, None)
    if first is None:
        return
    screen.take(first)
    with Live(get_renderable=screen.shown, console=console, refresh_per_second=2):
        for endpoints in updates:
            screen.take(endpoints)


def _error(cluster: Cluster) -> str | None:
    return cluster.error


def _line(change: str) -> Text:
    return Text(change, style=_COLOURS.get(change[10:11], ""), no_wrap=True, overflow="ellipsis")

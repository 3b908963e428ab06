"""What changed of each service, when and why: the difference of two snapshots, bounded.

Rule: one writer (the catalog, as it publishes); readers get whole tuples from any thread.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping

from discovery.model import Change, Endpoint, Exclusion, Happening, Service, Snapshot

Key = tuple[str, str]

PER_SERVICE = 50
IN_ALL = 20_000  # about 10 MB
_COMPARED = ("weight", "zone", "port_name", "task_definition", "labels")
_NOT_LISTED = "its task is not listed any more"
_RUNS = "it runs"


class History:
    """The last changes of each service, the oldest first; a service forgotten is gone whole.

    Where all together are more than `in_all`, those of the services that have been quiet for the
    longest time are forgotten.
    """

    def __init__(self, per_service: int = PER_SERVICE, in_all: int = IN_ALL) -> None:
        self._per_service = per_service
        self._in_all = in_all
        self._size = 0
        self._by: dict[Key, tuple[Change, ...]] = {}
        self._quiet: OrderedDict[Key, None] = OrderedDict()  # the quietest service first

    def of(self, key: Key) -> tuple[Change, ...]:
        """The changes of the service of that `(cluster label, name)`; may be gone itself."""
        return self._by.get(key, ())

    def named(self, cluster: str, name: str) -> tuple[Key, ...]:
        """The keys of services with a history whose names differ from these in case only."""
        wanted = cluster.lower(), name.lower()
        return tuple(k for k in list(self._by) if (k[0].lower(), k[1].lower()) == wanted)

    def note(self, before: Snapshot, after: Snapshot, at: float) -> None:
        """Remember what differs; `at` is seconds since the epoch. For the writer only."""
        for key in dict.fromkeys([*after.services, *before.services]):
            old, new = before.services.get(key), after.services.get(key)
            if old is not new:
                self._add(key, tuple(changes(old, new, at, after.index)))
        while self._size > self._in_all:
            key, _ = self._quiet.popitem(last=False)
            self._size -= len(self._by.pop(key))

    def forget(self, keys: Iterable[Key]) -> None:
        """Forget these services. For the writer only."""
        for key in keys:
            self._size -= len(self._by.pop(key, ()))
            self._quiet.pop(key, None)

    def _add(self, key: Key, new: tuple[Change, ...]) -> None:
        if not new:
            return
        known = self._by.get(key, ())
        kept = (known + new)[-self._per_service :]
        self._size += len(kept) - len(known)
        self._by[key] = kept
        self._quiet[key] = None
        self._quiet.move_to_end(key)


def changes(
    before: Service | None, after: Service | None, at: float, index: int
) -> Iterator[Change]:
    """What differs between two states of one service, in words for a person. Pure.

    A service that is new, or gone, is one change, however many endpoints it has.
    """
    if after is None:
        if before is not None:
            yield Change(at, index, "gone", "the service is not listed any more")
    elif before is None:
        yield Change(at, index, "appeared", f"with {_count(after)}")
    else:
        yield from _endpoints(before, after, at, index)
        yield from _exclusions(before, after, at, index)


def _endpoints(before: Service, after: Service, at: float, index: int) -> Iterator[Change]:
    old = {e.identity: e for e in before.endpoints}
    new = {e.identity: e for e in after.endpoints}
    was_out, is_out = _by_task(before.exclusions), _by_task(after.exclusions)
    for identity, endpoint in old.items():
        if identity not in new:
            why = _reason(is_out, endpoint) or _NOT_LISTED
            yield _change("left", endpoint, why, at, index)
    for identity, endpoint in new.items():
        if identity not in old:
            was = _reason(was_out, endpoint)
            why = f"{_RUNS}; before: {was}" if was else _RUNS
            yield _change("joined", endpoint, why, at, index)
        elif old[identity] != endpoint:
            differs = ", ".join(_differences(old[identity], endpoint))
            yield _change("changed", endpoint, differs, at, index)


def _exclusions(before: Service, after: Service, at: float, index: int) -> Iterator[Change]:
    """Tasks that are kept out, unless they leave just now: that was said."""
    known = frozenset(before.exclusions)
    served = {e.task_arn for e in before.endpoints}
    for e in after.exclusions:
        if e not in known and e.task_arn not in served:
            yield Change(at, index, "excluded", e.reason, e.task_arn, e.container, e.container_port)


def _change(kind: Happening, endpoint: Endpoint, reason: str, at: float, index: int) -> Change:
    return Change(
        at,
        index,
        kind,
        reason,
        endpoint.task_arn,
        endpoint.container,
        endpoint.container_port,
        endpoint.authority,
    )


def _by_task(exclusions: Iterable[Exclusion]) -> dict[str, list[Exclusion]]:
    found: dict[str, list[Exclusion]] = {}
    for exclusion in exclusions:
        found.setdefault(exclusion.task_arn, []).append(exclusion)
    return found


def _reason(exclusions: Mapping[str, list[Exclusion]], endpoint: Endpoint) -> str | None:
    """Why it is out; what names no container or port is about the whole task."""
    for exclusion in exclusions.get(endpoint.task_arn or "", ()):
        same = exclusion.container in (None, endpoint.container)
        if same and exclusion.container_port in (None, endpoint.container_port):
            return exclusion.reason
    return None


def _differences(old: Endpoint, new: Endpoint) -> Iterator[str]:
    if old.authority != new.authority:
        yield f"address {old.authority} → {new.authority}"
    if old.health != new.health:
        yield f"health {old.health} → {new.health}"
    for member in _COMPARED:
        was, now = getattr(old, member), getattr(new, member)
        if was != now:
            named = member.replace("_", " ")
            yield "labels" if member == "labels" else f"{named} {_shown(was)} → {_shown(now)}"


def _shown(value: object) -> object:
    return "unknown" if value is None else value


def _count(service: Service) -> str:
    running, out = len(service.endpoints), len(service.exclusions)
    endpoints = f"{running} endpoint{'s' * (running != 1)}"
    return f"{endpoints} and {out} excluded" if out else endpoints

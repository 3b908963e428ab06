"""What a person decided by hand: which endpoints are out or weigh more or less, and aliases.

    [[exclude]]
    service = "orders.prod"
    task = "0f9de17a6465404e8b1b2356dc13c2f8"
    until = 2026-03-01T18:00:00Z
    reason = "leaks memory, kept for a look"

Rule 1: whatever is decided by hand ends by itself: every entry has its `until`, or says `forever`.
Rule 2: a document is taken as a whole or not at all, so that no typing error halves a decision.

Pure: documents come from whoever reads files, as TOML's values.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from discovery.errors import BadName, BadSetting
from discovery.names import parse

FOREVER = math.inf
MOST = 1_000  # entries of one kind, which are looked at for every service
Kind = Literal["exclude", "evacuate", "weight"]

_SELECTING = ("service", "task", "zone", "task_definition")
_KEYS: Mapping[str, tuple[str, ...]] = {
    "exclude": (*_SELECTING, "until", "reason"),
    "evacuate": ("zone", "service", "until", "reason"),
    "weight": (*_SELECTING, "weight", "until", "reason"),
    "alias": ("name", "failover", "weights", "until", "reason"),
}
_UNTIL = 'a time with its time zone, such as 2026-03-01T18:00:00Z, or "forever"'
_NAME = "SERVICE or SERVICE.CLUSTER, such as orders.prod"
_ALIAS = 'failover = ["orders.a", "orders.b"] or weights = {"orders.a" = 9, "orders.b" = 1}'
_HEAVIEST = 1_000.0


@dataclass(frozen=True, slots=True)
class Rule:
    """One decision about endpoints: those that everything said here is true of.

    `task` is an ARN, an id, or the `host:port` of an endpoint that belongs to no task;
    `task_definition` an ARN, `family:revision` or a family; `service` a name as everywhere. Weights
    are multiplied by `weight`. `until` is in seconds since the epoch, `place` where it is written.
    """

    kind: Kind
    until: float
    reason: str = ""
    service: str | None = None
    task: str | None = None
    zone: str | None = None
    task_definition: str | None = None
    weight: float = 1.0
    place: str = field(default="", compare=False)

    @property
    def words(self) -> str:
        """Why an endpoint is out by it, for a person."""
        what = f"zone {self.zone} evacuated" if self.kind == "evacuate" else "excluded"
        why = f": {self.reason}" if self.reason else ""
        return f"{what} by hand {_until_words(self.until)}{why}"


@dataclass(frozen=True, slots=True)
class Alias:
    """A name that stands for other services, each with its part of the traffic.

    With `in_order` the parts do not count: the first that can be called stands for all.
    """

    name: str
    until: float
    targets: tuple[tuple[str, float], ...]
    in_order: bool
    reason: str = ""
    place: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Overrides:
    """All that was decided by hand."""

    rules: tuple[Rule, ...] = ()
    aliases: tuple[Alias, ...] = ()

    def in_force(self, now: float) -> "Overrides":
        """What of it has not ended; `now` is seconds since the epoch."""
        if now < min((entry.until for entry in self), default=FOREVER):
            return self
        return Overrides(
            tuple(rule for rule in self.rules if now < rule.until),
            tuple(alias for alias in self.aliases if now < alias.until),
        )

    def __iter__(self) -> Any:
        return iter((*self.rules, *self.aliases))

    def __len__(self) -> int:
        return len(self.rules) + len(self.aliases)


def overrides_in(document: Mapping[str, object]) -> Overrides:
    """The decisions in a document. Raises `BadSetting` with the place of the first mistake."""
    for key in document:
        if key not in _KEYS:
            raise BadSetting(key, document[key], f"[[{']], [['.join(_KEYS)}]] only")
    rules = [
        _rule(kind, entry, where)
        for kind in ("exclude", "evacuate", "weight")
        for where, entry in _entries(document, kind)
    ]
    aliases = tuple(_alias(entry, where) for where, entry in _entries(document, "alias"))
    names = [alias.name.lower() for alias in aliases]
    for n, name in enumerate(names):
        if name in names[:n]:
            raise BadSetting(f"alias[{n}].name", aliases[n].name, "another name for each alias")
    return Overrides(tuple(rules), aliases)


def _entries(
    document: Mapping[str, object], kind: str
) -> Iterable[tuple[str, Mapping[str, object]]]:
    entries = document.get(kind, [])
    if not isinstance(entries, Sequence) or not all(isinstance(e, Mapping) for e in entries):
        raise BadSetting(kind, entries, f"tables, each under [[{kind}]]")
    if len(entries) > MOST:
        raise BadSetting(kind, f"{len(entries)} entries", f"up to {MOST}")
    for n, entry in enumerate(entries):
        where = f"{kind}[{n}]"
        for key in entry:
            if key not in _KEYS[kind]:
                raise BadSetting(f"{where}.{key}", entry[key], f"one of {', '.join(_KEYS[kind])}")
        yield where, entry


def _rule(kind: Kind, entry: Mapping[str, object], where: str) -> Rule:
    given: dict[str, Any] = {
        key: _decoded(entry, key, where, _text) for key in _SELECTING if key in entry
    }
    needed = ("zone",) if kind == "evacuate" else _SELECTING
    if not any(key in given for key in needed):
        raise BadSetting(where, dict(entry), f"{' or '.join(needed)} to say which endpoints")
    if "service" in given:
        given["service"] = _decoded(entry, "service", where, _name)
    if kind == "weight":
        given["weight"] = _decoded(entry, "weight", where, _weight)
    return Rule(kind, *_lasting(entry, where), **given, place=where)


def _alias(entry: Mapping[str, object], where: str) -> Alias:
    name = _decoded(entry, "name", where, _name)
    until, reason = _lasting(entry, where)
    if ("failover" in entry) == ("weights" in entry):
        raise BadSetting(where, dict(entry), f"either {_ALIAS}")
    if "failover" in entry:
        several = _decoded(entry, "failover", where, _targets)
        return Alias(name, until, tuple((target, 1.0) for target in several), True, reason, where)
    return Alias(name, until, _decoded(entry, "weights", where, _parts), False, reason, where)


def _lasting(entry: Mapping[str, object], where: str) -> tuple[float, str]:
    reason = _decoded(entry, "reason", where, _text) if "reason" in entry else ""
    return _decoded(entry, "until", where, _until), reason


def _decoded(
    entry: Mapping[str, object], key: str, where: str, decode: Callable[[object], Any]
) -> Any:
    try:
        return decode(entry.get(key))
    except ValueError as want:
        raise BadSetting(f"{where}.{key}", entry.get(key), str(want)) from None


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("some text")
    return value.strip()


def _name(value: object) -> str:
    """A service's name, whatever clusters there will be."""
    try:
        name = parse(_text(value), ("cluster",))
    except (BadName, ValueError):
        raise ValueError(_NAME) from None
    if name.port is not None or name.service.startswith("."):
        raise ValueError(f"{_NAME}, without a port")
    return _text(value)


def _targets(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("a list of services, the first one first")
    return tuple(dict.fromkeys(_name(target) for target in value))


def _parts(value: object) -> tuple[tuple[str, float], ...]:
    if not isinstance(value, Mapping) or not value:
        raise ValueError("a table of services and the part of the traffic for each")
    found = tuple((_name(target), _weight(part)) for target, part in value.items())
    if not any(part for _, part in found):
        raise ValueError("a part over 0 for one of them at least")
    return found


def _weight(value: object) -> float:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    if not known or not 0 <= value <= _HEAVIEST:  # type: ignore[operator]  # it is a number here
        raise ValueError(f"a number from 0 to {_HEAVIEST:g}")
    return float(value)  # type: ignore[arg-type]  # and here


def _until(value: object) -> float:
    """Seconds since the epoch. RFC 3339 as TOML has it, or in text."""
    if value == "forever":
        return FOREVER
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        at = None
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise ValueError(_UNTIL)
    return at.timestamp()


def _until_words(until: float) -> str:
    if until == FOREVER:
        return "for ever"
    return f"until {datetime.fromtimestamp(until, UTC):%Y-%m-%dT%H:%M:%SZ}"

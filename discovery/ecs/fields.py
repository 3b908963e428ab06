"""Reading documents that anything may be missing from, or be of another type than promised.

What is not there, or not what it should be, is `None` or empty; nothing here ever raises.
"""

import ipaddress
import math
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

Document = Mapping[str, Any]

_EMPTY: dict[str, Any] = {}
_MILLISECONDS_FROM = 1e11  # seconds this large are the year 5138; Step Functions gives milliseconds


def text(document: Document, key: str) -> str | None:
    """The member, if it is text that is not empty."""
    value = document.get(key)
    return value if isinstance(value, str) and value else None


def shared(document: Document, key: str) -> str | None:
    """The same, for texts that many documents have: one object for all that are equal."""
    value = text(document, key)
    return sys.intern(value) if type(value) is str else value


def number(document: Document, key: str) -> int | None:
    """The member, if it is a whole number."""
    value = document.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def flag(document: Document, key: str) -> bool | None:
    """The member, if it is true or false."""
    value = document.get(key)
    return value if isinstance(value, bool) else None


def ratio(document: Document, key: str) -> float | None:
    """The member, if it is a number of any kind that a calculation can go on with."""
    return _finite(document.get(key))


def port(document: Document, key: str) -> int | None:
    """The member, if it is a port that can be connected to; 0 stands for "not set"."""
    value = number(document, key)
    return value if value is not None and 0 < value < 65_536 else None


def part(document: Document, key: str) -> Document:
    """The member, if it is an object; else an empty one."""
    value = document.get(key)
    return value if isinstance(value, Mapping) else _EMPTY


def rows(document: Document, key: str) -> tuple[Document, ...]:
    """The objects in the member, if it is a list."""
    value = document.get(key)
    if not isinstance(value, list | tuple):
        return ()
    return tuple(row for row in value if isinstance(row, Mapping))


def texts(document: Document, key: str) -> tuple[str, ...]:
    """The texts in the member, if it is a list."""
    value = document.get(key)
    if not isinstance(value, list | tuple):
        return ()
    return tuple(item for item in value if isinstance(item, str) and item)


def pairs(items: Iterable[Document], name: str = "name", value: str = "value") -> dict[str, str]:
    """A list of name and value objects as a mapping; a missing value is empty text."""
    return {key: text(item, value) or "" for item in items if (key := text(item, name))}


def moment(document: Document, key: str) -> float | None:
    """The member as seconds since the epoch, from a number, a `datetime` or ISO text."""
    value = document.get(key)
    if isinstance(value, int | float):
        seconds = _finite(value)
        return seconds / 1_000 if seconds and seconds > _MILLISECONDS_FROM else seconds
    try:
        when = datetime.fromisoformat(value) if isinstance(value, str) else value
        return _aware(when).timestamp() if isinstance(when, datetime) else None
    except (ValueError, OverflowError, OSError):
        return None


def address(value: object) -> str | None:
    """An IP address in its usual form (IPv6 comes in mixed case), if the text is one."""
    return _address(value) if isinstance(value, str) else None


def in_camel_case(value: Any) -> Any:
    """The same document with members named as the ECS API names them; Step Functions has Pascal."""
    if isinstance(value, Mapping):
        return {_camel(key): in_camel_case(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [in_camel_case(item) for item in value]
    return value


@lru_cache(maxsize=8_192)  # the same addresses come with each read
def _address(written: str) -> str | None:
    try:
        return str(ipaddress.ip_address(written))
    except ValueError:
        return None


def _finite(value: object) -> float | None:
    """JSON as Python reads it has NaN, infinity, and whole numbers beyond any float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        known = float(value)
    except OverflowError:
        return None
    return known if math.isfinite(known) else None


def _camel(key: object) -> object:
    return key[:1].lower() + key[1:] if isinstance(key, str) else key


def _aware(when: datetime) -> datetime:
    return when if when.tzinfo else when.replace(tzinfo=UTC)

"""What an active probe asks of a service's endpoints, and how settings write it.

`[PATTERN=]tcp`, `[PATTERN=]http[:STATUS[-STATUS]]:/path`, `[PATTERN=]grpc[:SERVICE]`; without a
pattern of `SERVICE` or `SERVICE.CLUSTER` names it is for all services.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

WANT = (
    "[PATTERN=]tcp, [PATTERN=]http[:STATUS[-STATUS]]:/path or [PATTERN=]grpc[:SERVICE], "
    "such as orders=http:/health"
)
_WRITTEN = re.compile(
    r"(?:(?P<pattern>[\w.*?\[\]!-]+)=)?"
    r"(?:(?P<tcp>tcp)"
    r"|http(?::(?P<first>[1-5]\d\d)(?:-(?P<last>[1-5]\d\d))?)?:(?P<path>/[\x21-\x7e]*)"
    r"|(?P<grpc>grpc)(?::(?P<service>[\w./-]+))?)",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Probe:
    """A probe for the services whose names match `pattern`.

    `target` is the path of an HTTP probe, or the service that a gRPC probe asks after (empty: the
    server as a whole). `statuses` are the first and last HTTP status that pass.
    """

    pattern: str = "*"
    kind: Literal["tcp", "http", "grpc"] = "tcp"
    target: str = ""
    statuses: tuple[int, int] = (200, 399)

    def __str__(self) -> str:
        statuses = "" if self.statuses == (200, 399) else ":{}-{}".format(*self.statuses)
        target = f":{self.target}" if self.target else ""
        return f"{self.pattern}={self.kind}{statuses}{target}"


def probes(value: object) -> tuple[Probe, ...]:
    """Several probes: a list, or one text with commas; the first that matches a name counts."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, Sequence):
        raise ValueError(WANT)
    return tuple(_probe(item) for item in items)


def count(value: object) -> int:
    """A whole number from 1 to 100."""
    written = str(value)
    if isinstance(value, bool) or not written.isdecimal() or not 1 <= int(written) <= 100:
        raise ValueError("a whole number from 1 to 100")
    return int(written)


def _probe(item: object) -> Probe:
    if isinstance(item, Probe):
        return item
    found = _WRITTEN.fullmatch(item.strip()) if isinstance(item, str) else None
    if found is None:
        raise ValueError(WANT)
    pattern = found["pattern"] or "*"
    if found["tcp"]:
        return Probe(pattern, "tcp")
    if found["grpc"]:
        return Probe(pattern, "grpc", found["service"] or "")
    first = int(found["first"] or 200)
    last = int(found["last"] or found["first"] or 399)
    if last < first:
        raise ValueError(f"statuses from the lower to the higher, not {first}-{last}")
    return Probe(pattern, "http", found["path"], (first, last))

"""A file that says where services are: TOML or JSON, read again when it changes.

    services.web.endpoints = [{host = "10.0.0.7", port = 8080}]
    services.web.cluster = "office"

Rule 1: every load looks at the file's time, size and inode, and reads it only if they differ.
Rule 2: a file that cannot be read or has a mistake leaves the last good one in force.
Rule 3: hosts are IP addresses, as everywhere in this package; names are never resolved.
"""

import json
import os
import stat
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from discovery.errors import SourceError, SourceMalformed, SourceUnreachable
from discovery.model import ClusterReading, Observation, Service
from discovery.sources.base import Wanted
from discovery.sources.tables import service_of

POLL_S = 1.0
MAX_BYTES = 64 << 20

_Signature = tuple[int, int, int]


class StaticSource:
    """Services from a file; `label` is the cluster of those that name none."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        label: str = "default",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = Path(path)
        self._label = label
        self._clock = clock
        self._signature: _Signature | None = None
        self._services: tuple[Service, ...] = ()
        self._labels: tuple[str, ...] = ()
        self._error: SourceError | None = None
        self._is_read = False

    @property
    def labels(self) -> tuple[str, ...]:
        """The clusters in the file, the default one first if any service is in it."""
        if not self._labels:
            self._look()
        return self._labels or (self._label,)

    def load(self, wanted: Wanted) -> Observation:
        """The whole file, whatever is wanted."""
        self._look()
        now = self._clock()
        labels = self.labels
        return Observation(now, tuple(map(self._reading, labels)), again_s=POLL_S, labels=labels)

    def load_pending(self) -> Observation:
        """Nothing: a load reads all there is."""
        return Observation(self._clock())

    def close(self) -> None:
        """Nothing to give back: the file is open only while it is read."""

    def _reading(self, label: str) -> ClusterReading:
        if self._error is not None:
            return ClusterReading(label, error=self._error)
        services = tuple(s for s in self._services if s.cluster == label)
        return ClusterReading(label, services, complete=True, explained=True)

    def _look(self) -> None:
        try:
            found = os.stat(self._path)
            signature = (found.st_mtime_ns, found.st_size, found.st_ino)
            if signature == self._signature:
                return
            if not stat.S_ISREG(found.st_mode):
                raise SourceMalformed("it is no file")
            if found.st_size > MAX_BYTES:
                raise SourceMalformed(f"over {MAX_BYTES >> 20} MiB")
            services = services_in(self._path.read_bytes(), self._path.name, self._label)
        except OSError as exc:
            self._signature = None
            self._error = SourceUnreachable(f"{self._path}: {exc.strerror or exc}")
        except SourceMalformed as exc:
            self._signature = signature
            self._error = SourceMalformed(f"{self._path}: {exc}")
        else:
            self._signature, self._services, self._error = signature, services, None
            self._labels = self._all_labels()

    def _all_labels(self) -> tuple[str, ...]:
        """The labels in the file, and those that were in it: their services are gone now."""
        in_file = dict.fromkeys(service.cluster for service in self._services)
        first = [self._label] if self._label in in_file or not in_file else []
        return tuple(dict.fromkeys([*first, *in_file, *self._labels]))


def services_in(content: bytes, filename: str, label: str) -> tuple[Service, ...]:
    """The services that a file's content declares. Raises `SourceMalformed`."""
    document = _decoded(content, is_json=filename.lower().endswith(".json"))
    if not isinstance(document, dict) or not isinstance(document.get("services"), dict):
        raise SourceMalformed("want a table called services")
    others = [key for key in document if key != "services"]
    if others:
        raise SourceMalformed(f"{others[0]}: unknown key, want only services")
    services = [service_of(name, table, label) for name, table in document["services"].items()]
    return tuple(services)


def _decoded(content: bytes, is_json: bool) -> Any:
    # The standard decoders, since they name line and column, which msgspec's do not.
    try:
        text = content.decode()
        if not is_json:
            return tomllib.loads(text)
        document = json.loads(text)
        json.dumps(document, ensure_ascii=False).encode()  # escapes may stand for no character
        return document
    except UnicodeEncodeError as exc:
        raise SourceMalformed(f"{exc.object[exc.start]!r} is no character") from exc
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise SourceMalformed(f"line {line}: not UTF-8") from exc
    except json.JSONDecodeError as exc:
        raise SourceMalformed(f"line {exc.lineno}, column {exc.colno}: {exc.msg}") from exc
    except tomllib.TOMLDecodeError as exc:
        raise SourceMalformed(_with_line_first(str(exc), text)) from exc
    except RecursionError as exc:
        raise SourceMalformed("nested too deeply") from exc


def _with_line_first(message: str, text: str) -> str:
    """`Invalid value (at line 3, column 5)` as `line 3, column 5: Invalid value`."""
    reason, _, place = message.removesuffix(")").rpartition(" (at ")
    if place == "end of document":
        place = f"line {len(text.splitlines()) or 1}"
    return f"{place}: {reason}" if reason else message

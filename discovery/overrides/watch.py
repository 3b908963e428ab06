"""The file of overrides: read at first, and again by a thread of its own when it changes.

Rule 1: a file that cannot be used is refused at the start; later it leaves the last good one in
force, and that is said once for each mistake.
Rule 2: nothing waits for a source here, so decisions by hand take effect while AWS is down, too.
Rule 3: a file is read once it was the same at two looks: whoever writes it may not be done, and
half a file, or an empty one, would be taken for a decision.
Rule 4: what ends by its time is taken back by the same thread.
"""

import logging
import os
import threading
import tomllib
from collections.abc import Callable
from pathlib import Path

from discovery.errors import BadSetting
from discovery.events import Listeners, Noticed, SaidOnce
from discovery.model import Snapshot
from discovery.overrides.aliases import missing_cluster
from discovery.overrides.applied import Decisions, Enable
from discovery.overrides.rules import Alias, Overrides, overrides_in

_log = logging.getLogger("discovery")

POLL_S = 1.0
MAX_BYTES = 1 << 20
_STOP_S = 5.0
_Signature = tuple[int, int, int]
_WANT = "a TOML file that can be read"


class ByHand:
    """What a person has in force: an adjustment for the catalog, and who has it adjust anew.

    Without a `path` only tags count. `labels` are the clusters, where they are known before
    anything is read. Reads the file at once; raises `BadSetting`.
    """

    def __init__(
        self,
        path: str | None,
        enable: Enable,
        zone: str,
        *,
        labels: tuple[str, ...] = (),
        listeners: Listeners | None = None,
        clock: Callable[[], float],
    ) -> None:
        self._path = Path(path) if path else None
        self._enable: Enable = enable
        self._zone = zone
        self._labels = labels
        self._listeners = listeners or Listeners()
        self._said = SaidOnce(self._listeners)
        self._clock = clock
        self._signature: _Signature | None = None  # of the file in force
        self._seen: _Signature | None = None  # at the last look
        self._read = Snapshot()  # as it was last adjusted
        self._is_checked = False
        self._applied = 0  # how much was in force when last looked at
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._decisions = Decisions(Overrides(), enable, zone)
        if self._path is not None:
            self._signature = _signature(self._path)
            self._decisions = Decisions(self._usable(self._path), enable, zone)

    @property
    def has_aliases(self) -> bool:
        """Whether there are names that stand for others, which may be anywhere."""
        return bool(self._decisions.overrides.aliases)

    @property
    def _is_known(self) -> bool:
        """Whether all clusters have been read."""
        clusters = self._read.clusters
        return bool(clusters) and all(cluster.observed_at is not None for cluster in clusters)

    def adjusted(self, snapshot: Snapshot, now: float) -> Snapshot:
        """See `Adjustment`."""
        self._read = snapshot
        return self._decisions.applied(snapshot, now)

    def start(self, changed: Callable[[], object]) -> None:
        """Look at the file from now on, in a thread that calls `changed` when there is news."""
        if self._path is None:
            return
        self._ended = threading.Event()
        watching = (self._ended, changed)
        self._thread = threading.Thread(
            target=self._run, args=watching, name="overrides", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Look no more, once the thread is done with what it does."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(_STOP_S)

    def look(self) -> bool:
        """Read the file if it changed; whether other decisions are in force than at the last look.

        One caller at a time.
        """
        changed = self._reread()
        self._check()
        in_force = len(self._decisions.overrides.in_force(self._clock()))
        ended, self._applied = in_force != self._applied, in_force
        return changed or ended

    def _run(self, ended: threading.Event, changed: Callable[[], object]) -> None:
        while not ended.wait(POLL_S):
            try:
                if self.look():
                    changed()
            except Exception:  # a mistake of ours must not end the looking
                _log.exception("decisions by hand could not be taken up")

    def _reread(self) -> bool:
        if self._path is None:
            return False
        try:
            signature = _signature(self._path)
            if signature != self._seen:
                self._seen = signature
                return False
            if signature == self._signature:
                return False
            overrides = self._usable(self._path)
        except BadSetting as error:
            self._said.say(f"{error.message}; the last good file stays in force")
            return False
        # Taken before reading: a file that is written meanwhile differs at the next look.
        self._signature = signature
        self._said.over()
        if overrides == self._decisions.overrides:
            return False
        self._decisions = Decisions(overrides, self._enable, self._zone)
        self._is_checked = False
        self._listeners.emit(Noticed(f"overrides: {len(overrides)} in force"))
        return True

    def _usable(self, path: Path) -> Overrides:
        """What is in the file; its aliases are in clusters that there are, as far as is known."""
        overrides = _read(path)
        if labels := self._read.labels if self._is_known else self._labels:
            for alias in overrides.aliases:
                _refuse_elsewhere(alias, labels, self._zone, path)
        return overrides

    def _check(self) -> None:
        """Say once of each file what in it speaks of nothing, when all that there is is known."""
        read = self._read
        if self._is_checked or not self._is_known:
            return
        self._is_checked = True
        try:
            for alias in self._decisions.overrides.aliases:
                _refuse_elsewhere(alias, read.labels, self._zone, self._path)
        except BadSetting as error:
            self._said.say(error.message)
        if idle := self._decisions.idle(read, self._clock()):
            message = f"overrides: nothing matches {', '.join(idle)} of {self._path}"
            self._listeners.emit(Noticed(message))


def _signature(path: Path) -> _Signature:
    try:
        found = os.stat(path)
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path) -> Overrides:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise _unusable(path, f"over {MAX_BYTES >> 20} MiB")
        return overrides_in(tomllib.loads(content.decode()))
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise _unusable(path, str(error)) from error
    except BadSetting as error:
        raise BadSetting(f"overrides ({path}): {error.key}", error.value, error.want) from None


def _refuse_elsewhere(alias: Alias, labels: tuple[str, ...], zone: str, path: Path | None) -> None:
    missing = missing_cluster(alias, labels, zone)
    if missing is not None:
        want = f"a name in one of the clusters {', '.join(labels)}: there is no {missing}"
        raise BadSetting(f"overrides ({path}): {alias.place}.name", alias.name, want)


def _unusable(path: Path, why: str) -> BadSetting:
    return BadSetting("overrides", str(path), f"{_WANT} ({why})")

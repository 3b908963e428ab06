"""The last good snapshot on disk, so that a restart in an outage answers at once.

Two files: `PATH` has the snapshot and is written when content changes; `PATH.times` has its newer
times, which is little. Each is one line of JSON (format, whose it is, length, checksum) and a
document as `/v1/snapshot` has it, compressed.

Rule 1: files are replaced whole; a snapshot is on the disk before it has its name.
Rule 2: what is damaged, of something else, or in others' hands is refused with the reason, unused.
Rule 3: what is read is as old as it is; times that were not written make it older, never newer.
Rule 4: a disk that fails is said, and nothing else fails.
"""

import hashlib
import os
import stat
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec

from discovery.errors import SourceMalformed
from discovery.events import Listeners, Noticed
from discovery.model import Observation, Snapshot
from discovery.snapshots import MAX_BYTES, Changes, Told, document, inflated, observed, told
from discovery.sources.base import Ordered, Source, Wanted

FORMAT = 1
FUTURE_S = 5.0  # how far a clock may have been set back before ages mean nothing
_MOST_HEAD = 64 << 10
_LEVEL = 1  # of compression: a tenth of the size for a hundredth of a second per MB


class _Head(msgspec.Struct, frozen=True):
    """The first line of a file."""

    format: int
    identity: str
    bytes: Annotated[int, msgspec.Meta(ge=0)]
    sha256: str


class Disk:
    """One snapshot on disk. `identity` says what it is of: a file of something else is refused.

    From several threads at once the last one to write wins.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        identity: str,
        *,
        listeners: Listeners | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = Path(path)
        self._times = self._path.with_name(f"{self._path.name}.times")
        self._identity = identity
        self._listeners = listeners or Listeners()
        self._clock = clock
        self._kept: Snapshot | None = None
        self._said = ""

    def read(self) -> Snapshot | None:
        """The snapshot that was kept last; `None`, and a notice why, where none can be used."""
        try:
            known = self._told(self._path)
        except FileNotFoundError:
            return None
        except (OSError, SourceMalformed) as error:
            self._say(f"cache {self._path} is not used: {_reason(error)}")
            return None
        with suppress(OSError, SourceMalformed):  # times of an earlier snapshot, or none at all
            known = self._told(self._times, known)
        ahead_s = known.snapshot.observed_at - self._clock()
        if ahead_s > FUTURE_S:
            self._say(f"cache {self._path} is not used: it is from {ahead_s:.0f} s in the future")
            return None
        return known.snapshot

    def keep(self, snapshot: Snapshot) -> None:
        """Write what is new in it; nothing where nothing is. Blocks for as long as the disk."""
        if snapshot is self._kept or not snapshot.observed_at:
            return
        try:
            if self._kept is None or snapshot.index != self._kept.index:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._write(self._path, document(snapshot, self._clock()))
            elif snapshot.read_at != self._kept.read_at:
                changes = Changes(snapshot.index)
                self._write(self._times, document(snapshot, self._clock(), changes=changes))
        except OSError as error:
            self._say(f"cache {self._path} cannot be written: {_reason(error)}")
            return
        self._kept, self._said = snapshot, ""

    def _told(self, path: Path, known: Told | None = None) -> Told:
        # Neither a link to elsewhere nor a pipe that nobody writes to.
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(file, "rb") as opened:
            _refuse_foreign(os.fstat(file))
            head = _head(opened.readline(_MOST_HEAD))
            if head.identity != self._identity:
                raise SourceMalformed(f"it is of {head.identity}, not of {self._identity}")
            content = opened.read(min(head.bytes, MAX_BYTES) + 1)
        if len(content) != head.bytes:
            raise SourceMalformed("it is cut off or has more than it says")
        if hashlib.sha256(content).hexdigest() != head.sha256:
            raise SourceMalformed("its checksum is not that of its content")
        return told(inflated(content), known)

    def _write(self, path: Path, pieces: Iterable[bytes]) -> None:
        deflate = zlib.compressobj(_LEVEL)
        content = b"".join(map(deflate.compress, pieces)) + deflate.flush()
        checksum = hashlib.sha256(content).hexdigest()
        head = msgspec.json.encode(_Head(FORMAT, self._identity, len(content), checksum))
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with open(handle, "wb") as file:
                file.write(head + b"\n" + content)
                file.flush()
                os.fsync(handle)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        _sync(path.parent)

    def _say(self, message: str) -> None:
        if message != self._said:
            self._said = message
            self._listeners.emit(Noticed(message))


class Remembered:
    """A source that begins with what was on disk, and has what is known kept there.

    `snapshot` is what is known by now; each load begins with keeping it, and so does `close`.
    """

    def __init__(self, source: Source, disk: Disk) -> None:
        self._source = source
        self._disk = disk
        self._begun = False
        self.found = disk.read()
        self.snapshot: Callable[[], Snapshot] = Snapshot
        self._labels = self.found.labels if self.found else ()
        if self.found is not None and isinstance(source, Ordered):
            source.seen(self.found.observed_at)

    @property
    def next_epoch(self) -> int:
        """The least epoch of a snapshot that comes after the one on disk."""
        return self.found.epoch + 1 if self.found else 0

    @property
    def labels(self) -> tuple[str, ...]:
        """Those of what was on disk, until the source says others."""
        return self._labels or self._source.labels

    def load(self, wanted: Wanted) -> Observation:
        """At first what was on disk, so that the source is asked next, at once."""
        if self._begun or self.found is None:
            self._disk.keep(self.snapshot())
            observation = self._source.load(wanted)
            self._labels = observation.labels or self._labels
            return observation
        self._begun = True
        observation = observed(self.found)
        return Observation(
            observation.observed_at, observation.clusters, again_s=0.0, labels=observation.labels
        )

    def load_pending(self) -> Observation:
        """See `Source.load_pending`."""
        return self._source.load_pending()

    def close(self) -> None:
        """See `Source.close`; keeps what is known."""
        self._disk.keep(self.snapshot())
        self._source.close()


def _head(line: bytes) -> _Head:
    try:
        head = msgspec.json.decode(line, type=_Head)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise SourceMalformed("it does not begin as a cache does") from exc
    if head.format != FORMAT:
        raise SourceMalformed(f"its format is {head.format}, this version reads {FORMAT}")
    return head


def _refuse_foreign(found: os.stat_result) -> None:
    """Who can write the file decides where callers are sent."""
    if not stat.S_ISREG(found.st_mode):
        raise SourceMalformed("it is no file")
    if found.st_uid != os.geteuid():
        raise SourceMalformed(f"it belongs to user {found.st_uid}, not to {os.geteuid()}")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SourceMalformed("others may write it: chmod go-w")


def _sync(folder: Path) -> None:
    """Have a new name survive a loss of power."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)

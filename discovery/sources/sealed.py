"""A file on disk that is replaced whole and believed whole.

It is one line of JSON (format, what it is of, length, checksum) and the content, compressed.

Rule 1: content is on the disk before it has its name: a loss of power leaves the old or the new.
Rule 2: what is damaged, of something else, or in others' hands is refused with the reason.
"""

import hashlib
import os
import stat
import tempfile
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec

from discovery.errors import SourceMalformed
from discovery.snapshots import MAX_BYTES, inflated

FORMAT = 1
_MOST_HEAD = 64 << 10
_LEVEL = 1  # of compression: a tenth of the size for a hundredth of a second per MB


class _Head(msgspec.Struct, frozen=True):
    """The first line of a file."""

    format: int
    identity: str
    bytes: Annotated[int, msgspec.Meta(ge=0)]
    sha256: str


class Sealed:
    """The file at `path`. `identity` says what it is of: a file of something else is refused.

    Of several that write at once, also processes, the last one wins. Blocks as long as the disk.
    """

    def __init__(self, path: str | os.PathLike[str], identity: str) -> None:
        self.path = Path(path)
        self._identity = identity

    def __repr__(self) -> str:
        return f"<Sealed {self.path} of {self._identity}>"

    def read(self) -> bytes:
        """Its content. Raises `OSError` where it cannot be read, `SourceMalformed` for the rest."""
        with open(self.path, "rb", opener=_opener) as opened:
            _refuse_foreign(os.fstat(opened.fileno()))
            head = _head(opened.readline(_MOST_HEAD))
            if head.identity != self._identity:
                raise SourceMalformed(f"it is of {head.identity}, not of {self._identity}")
            content = opened.read(min(head.bytes, MAX_BYTES) + 1)
        if len(content) != head.bytes:
            raise SourceMalformed("it is cut off or has more than it says")
        if hashlib.sha256(content).hexdigest() != head.sha256:
            raise SourceMalformed("its checksum is not that of its content")
        return inflated(content)

    def write(self, pieces: Iterable[bytes]) -> None:
        """Put these in its place, in a folder that is made if need be. Raises `OSError`."""
        deflate = zlib.compressobj(_LEVEL)
        content = b"".join(map(deflate.compress, pieces)) + deflate.flush()
        checksum = hashlib.sha256(content).hexdigest()
        head = msgspec.json.encode(_Head(FORMAT, self._identity, len(content), checksum))
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
        try:
            with open(handle, "wb") as file:
                file.write(head + b"\n" + content)
                file.flush()
                os.fsync(handle)
            os.replace(temporary, self.path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        _sync(self.path.parent)


def reason(error: Exception) -> str:
    """Why reading or writing failed, in words."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _opener(path: str, flags: int) -> int:
    """Neither a link to elsewhere nor a pipe that nobody writes to."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


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
    """Have a new name survive a loss of power, where the file system can: it is there already."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

"""What goes into a store of shared snapshots, and what comes out of it. Pure.

A publication has a whole document where content changed, and always, where the store has the
snapshot before for certain, one of the changes since, or of newer times only. Documents are as
`/v1/snapshot` has them, compressed by zlib after the SHA-256 of that.
"""

import hashlib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from discovery.errors import SourceError, SourceMalformed
from discovery.model import Snapshot
from discovery.snapshots import Changes, Told, document, inflated, token_of, told

MOST_BYTES = 32 << 20  # of a compressed document
_LEVEL = 1  # of compression: a tenth of the size for a hundredth of a second per MB
_DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True)
class Publication:
    """One snapshot to publish; without `content` it is the one that is there, with newer times.

    `stamp` is another one each time. `changes` are on top of the content of the token `since`.
    """

    epoch: int
    sequence: int
    publisher: str
    stamp: str
    since: str
    age_s: float
    content: bytes | None = field(repr=False)
    changes: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Shelf:
    """What the store has: for how long the lease is somebody's, and what is not known of it yet.

    `lease_left_s` is `None` while nobody holds the lease, `age_s` the age of what was observed. An
    empty `stamp` is an empty store; without `changes` it has what is known already.
    """

    lease_left_s: float | None
    stamp: str = ""
    since: str = ""
    age_s: float = 0.0
    changes: bytes | None = field(default=None, repr=False)
    content: bytes | None = field(default=None, repr=False)


def publication(
    after: Snapshot,
    before: Snapshot | None,
    *,
    publisher: str,
    number: int,
    followers: int,
    now: float,
) -> Publication:
    """`after`, for a store that has `before`. Raises `SourceError` where it is too large.

    `number` tells it from other publications of the same content; `now` is seconds since the epoch.
    """

    def written(changes: Changes | None = None) -> bytes:
        return packed(
            document(after, now, publisher=publisher, followers=followers, changes=changes)
        )

    return Publication(
        after.epoch,
        after.sequence,
        publisher,
        f"{token_of(publisher, after.index)}.{number}",
        token_of(publisher, before.index) if before else "",
        now - after.observed_at,
        written() if before is None or before.index != after.index else None,
        written(_changes(before, after)) if before else b"",
    )


def heard(shelf: Shelf, stamp: str, known: Told | None) -> Told:
    """What the store says, in its publisher's clock, for who knows what had this stamp.

    Raises `SourceMalformed`.
    """
    if shelf.changes is None:
        if known is None or shelf.stamp != stamp:
            raise SourceMalformed("the store has no documents")
        return known
    if shelf.content is None:
        return told(unpacked(shelf.changes), known)
    found = told(unpacked(shelf.content))
    if shelf.since != found.token:
        return found  # the changes are what led to it
    return told(unpacked(shelf.changes), found)  # its newer times


def packed(pieces: Iterable[bytes]) -> bytes:
    """A document as it is stored. Raises `SourceError` for one that is too large."""
    deflate = zlib.compressobj(_LEVEL)
    content = b"".join(map(deflate.compress, pieces)) + deflate.flush()
    if len(content) > MOST_BYTES // 2:  # changes are stored beside it
        raise SourceError(f"the snapshot is {len(content)} bytes: over {MOST_BYTES >> 21} MiB")
    return hashlib.sha256(content).digest() + content


def unpacked(value: bytes) -> bytes:
    """A document out of what was stored. Raises `SourceMalformed`."""
    digest, content = value[:_DIGEST], value[_DIGEST:]
    if hashlib.sha256(content).digest() != digest:
        raise SourceMalformed("the checksum of what was published is not that of its content")
    return inflated(content)


def _changes(before: Snapshot, after: Snapshot) -> Changes:
    known = before.services
    changed = {key for key, service in after.services.items() if known.get(key) is not service}
    return Changes(before.index, changed, known.keys() - after.services.keys())

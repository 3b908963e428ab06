"""What followers are told: snapshot documents, each made once however many ask for it.

Rule 1: documents are made beside the event loop, and kept for as long as their snapshot is current.
Rule 2: who says what it knows (`known`, publisher and index) gets what changed since; everybody
else, and who knows something that we do not, gets all of it.
Rule 3: all that is remembered of followers and of what is gone is bounded.
"""

import asyncio
import gzip
import time
import uuid
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from discovery.model import Service, Snapshot
from discovery.snapshots import Changes, Key, document, token_of

FOLLOWER = "X-Discovery-Follower"
MOST_FOLLOWERS = 100_000
MOST_GONE = 10_000
MOST_DOCUMENTS = 100  # of one snapshot: who follows is seldom behind by more
FOLLOWING_S = 120.0  # who has not asked for that long does not follow any more
_LEVEL = 1
_LONGEST_NAME = 64

_Wanted = tuple[int | None, bool]  # since which index, and whether compressed


@dataclass(frozen=True, slots=True)
class Said:
    """A document as it is sent, and what it is called."""

    body: bytes
    etag: str


class Changed:
    """Since which index each service is what it is. Belongs to one event loop."""

    def __init__(self) -> None:
        self._services: dict[Key, Service] = {}
        self._at: dict[Key, int] = {}
        self._gone: dict[Key, int] = {}
        self._from = 0  # the least index that changes are known since
        self._index = -1

    def look(self, snapshot: Snapshot) -> None:
        """Note what differs from the snapshot of the last look."""
        before, index = self._services, snapshot.index
        if self._index < 0 or index < self._index:
            self._from, self._at, self._gone = index, {}, {}
        else:
            for key, service in snapshot.services.items():
                if before.get(key) is not service:
                    self._at[key] = index
                    self._gone.pop(key, None)
            for key in before.keys() - snapshot.services.keys():
                self._at.pop(key, None)
                self._gone[key] = index
        if len(self._gone) > MOST_GONE:
            self._from, self._at, self._gone = index, {}, {}
        self._services, self._index = dict(snapshot.services), index

    def since(self, index: int) -> Changes | None:
        """What changed since, up to the last look; `None` where that is not known."""
        if not self._from <= index <= self._index:
            return None
        changed = frozenset(key for key, at in self._at.items() if at > index)
        return Changes(index, changed, tuple(key for key, at in self._gone.items() if at > index))


class Feed:
    """Makes documents of snapshots. Belongs to one event loop."""

    def __init__(
        self,
        publisher: str | None = None,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.publisher = publisher or uuid.uuid4().hex
        self._clock = clock
        self._monotonic = monotonic
        self._followers: dict[str, float] = {}
        self._changed = Changed()
        self._snapshot: Snapshot | None = None
        self._making: dict[_Wanted, asyncio.Future[Said]] = {}

    @property
    def followers(self) -> int:
        """How many have asked lately."""
        since = self._monotonic() - FOLLOWING_S
        self._followers = {name: at for name, at in self._followers.items() if at > since}
        return len(self._followers)

    def met(self, follower: str | None) -> None:
        """Count who asks, by the name that it gives itself."""
        if not follower or len(follower) > _LONGEST_NAME:
            return
        if len(self._followers) < MOST_FOLLOWERS or follower in self._followers:
            self._followers[follower] = self._monotonic()

    def is_known(self, token: str, snapshot: Snapshot) -> bool:
        """Whether somebody knows the content of this snapshot."""
        return token == token_of(self.publisher, snapshot.index)

    async def said(self, snapshot: Snapshot, token: str | None, *, compressed: bool) -> Said:
        """The document for who knows what `token` says."""
        if snapshot is not self._snapshot:
            self._changed.look(snapshot)
            self._snapshot, self._making = snapshot, {}
        changes = self._since(token)
        wanted = (changes.since if changes else None, compressed)
        if wanted not in self._making and len(self._making) >= MOST_DOCUMENTS:
            changes, wanted = None, (None, compressed)
        made = self._making.get(wanted)
        if made is None:
            making = asyncio.to_thread(self._made, snapshot, self.followers, changes, compressed)
            made = self._making[wanted] = asyncio.ensure_future(making)
        return await asyncio.shield(made)

    def _since(self, token: str | None) -> Changes | None:
        publisher, _, index = (token or "").rpartition(".")
        if publisher != self.publisher or not (index.isascii() and index.isdecimal()):
            return None
        return self._changed.since(int(index[:20]))

    def _made(
        self, snapshot: Snapshot, followers: int, changes: Changes | None, compressed: bool
    ) -> Said:
        pieces = document(
            snapshot, self._clock(), publisher=self.publisher, followers=followers, changes=changes
        )
        body = b"".join(pieces)
        etag = f'W/"{token_of(self.publisher, snapshot.index)}-{zlib.crc32(body):08x}"'
        return Said(gzip.compress(body, _LEVEL, mtime=0) if compressed else body, etag)


def takes_gzip(accepted: str) -> bool:
    """Whether an `Accept-Encoding` header has gzip."""
    for coding in accepted.lower().split(","):
        name, _, weight = coding.partition(";")
        if name.strip() == "gzip":
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False

"""Hubs, writers and documents of other versions: of the one before, and of those to come."""

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from discovery.model import Snapshot
from discovery.sidecar.feed import Feed, Said
from discovery.snapshots import FORMAT, Changes
from discovery.sources.publication import Publication, packed, unpacked
from discovery.sources.store import Store

Told = Callable[[Any], Any]
NAMED_BY_DATA = ("labels", "other_addresses", "other_default_ports", "placements")
_LEAST = ("name", "cluster", "service", "index", "age_s", "stale", "endpoints", "excluded")


def more(said: Any, *, is_named_by_data: bool = False) -> Any:
    """The same with members that nobody knows yet, in every object of it."""
    if isinstance(said, list):
        return [more(each) for each in said]
    if not isinstance(said, dict):
        return said
    found = {k: more(v, is_named_by_data=k in NAMED_BY_DATA) for k, v in said.items()}
    return found if is_named_by_data else {"a_later_member": {"any": [1]}} | found


def least(said: Any) -> Any:
    """What every version has said: the contract of `/v1/snapshot`, and nothing beside it."""
    services = [{key: service[key] for key in _LEAST} for service in said["services"]]
    head = {key: said[key] for key in ("format", "index", "observed_at")}
    return head | {"services": services}


def later(said: Any) -> Any:
    """A format that this version cannot read, and whose shape it does not know."""
    return {"format": FORMAT + 1, "services": {"web": said}}


class FeedOf(Feed):
    """The feed of another version, which says the same in its own way."""

    def __init__(self, say: Told, **members: Any) -> None:
        super().__init__(**members)
        self._say = say

    def _made(
        self, snapshot: Snapshot, followers: int, changes: Changes | None, compressed: bool
    ) -> Said:
        said = super()._made(snapshot, followers, changes, compressed=False)
        body = json.dumps(self._say(json.loads(said.body))).encode()
        return Said(gzip.compress(body) if compressed else body, said.etag)


class FeedBefore(FeedOf):
    """The feed of a hub that knows neither changes nor who follows."""

    def __init__(self, **members: Any) -> None:
        super().__init__(least, **members)

    def met(self, follower: str | None) -> None:
        """Nothing."""

    def is_known(self, token: str, snapshot: Snapshot) -> bool:
        """It is the index alone that it waits by."""
        return True

    async def said(self, snapshot: Snapshot, token: str | None, *, compressed: bool) -> Said:
        """All of it, whoever asks."""
        return await super().said(snapshot, None, compressed=compressed)


class LaterStore(Store):
    """A store as a later version writes it: its documents and its keys have more in them."""

    def publish(self, new: Publication) -> bool | None:
        """Publish the same with more in it."""
        taken = super().publish(
            replace(
                new,
                content=_said(more, new.content) if new.content else None,
                changes=_said(more, new.changes) if new.changes else b"",
            )
        )
        self._opened().hset(self._keys[2], "a_later_member", "any")
        return taken


def filed(say: Told, stored: bytes) -> bytes:
    """A file of the cache as another version writes it."""
    head, _, content = stored.partition(b"\n")
    changed = zlib.compress(json.dumps(say(json.loads(zlib.decompress(content)))).encode())
    about = {"bytes": len(changed), "sha256": hashlib.sha256(changed).hexdigest()}
    return json.dumps(more(json.loads(head)) | about).encode() + b"\n" + changed


def _said(say: Told, stored: bytes) -> bytes:
    return packed([json.dumps(say(json.loads(unpacked(stored)))).encode()])

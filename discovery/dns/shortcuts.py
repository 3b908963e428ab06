"""Replies at hand: from the octets of a query, without reading it, to those of the reply.

A query is known by all that follows its id, in lower case and without the cookie at its end; so
whoever varies the case or the cookie (RFC 7873) finds the same reply. A name that nobody knows is
told by its first label, as long as everything behind that was asked for before.

Rule 1: what is here was answered once the long way; it is forgotten as soon as that answer could
be another one. Rule 2: everything is bounded; what overflows is forgotten whole, and soon back.
"""

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from discovery.dns import wire
from discovery.dns.cookies import CLIENT_SIZE, Cookies
from discovery.dns.packing import Packed
from discovery.dns.tally import Count

Key = TypeVar("Key")

MAX_READY = 16_384
MAX_ABSENCES = 1_024
MAX_OCTETS = 20 << 20  # of replies at hand
MAX_QUERY = 350  # octets of a query that is remembered; the longest name's has fewer
NAME_AT = wire.HEADER_SIZE - 2  # where the name is in what follows the id
_LONGEST_PARENT = wire.MAX_NAME - wire.MAX_LABEL - 1
_FULL_SIZE = CLIENT_SIZE + 16
_NO_RECORD = b"\0\0\0\0\0\0"  # in the counts of the header
_ONE_RECORD = b"\0\0\0\0\0\1"  # an additional one
_OPT_START = struct.pack("!BH", 0, wire.OPT)
_CLIENT_COOKIE = struct.pack("!2H", wire.COOKIE, CLIENT_SIZE)
_FULL_COOKIE = struct.pack("!2H", wire.COOKIE, _FULL_SIZE)

# The replies, and their count: whoever takes the next one adds one. Then what is like them in every
# query for them: what stands before and behind the name, and where the question ends.
Ready = tuple[Iterator[bytes], Count, bytes, bytes, int]


@dataclass(frozen=True, slots=True)
class _Absence:
    """What is said of names below one parent that have none of these labels in front."""

    labels: frozenset[bytes]
    start: bytes  # of a query for one, before its name
    tail: bytes  # behind its question
    head: bytes
    question_size: int  # without the first label
    authority: Callable[[int], bytes]  # and what stands behind it
    count: Count
    authorities: dict[int, bytes] = field(default_factory=dict)


class Shortcuts:
    """Owned by one thread. `ready` may be read directly; it stays the same object.

    It is known by whole queries without their ids. What is known of queries with a cookie is kept
    apart: a packet that ends where its cookie should begin is malformed.
    """

    def __init__(self, jar: Cookies) -> None:
        self.ready: dict[bytes, Ready] = {}
        self.until = math.inf
        self._ready_for_cookies: dict[bytes, Ready] = {}
        self._absences: dict[tuple[bool, bytes], _Absence] = {}
        self._octets = 0
        self._jar = jar
        self._now = 0.0

    def begin(self, now: float) -> None:
        """It is so late now; until the next time."""
        if now >= self.until:
            self.forget()
        self._now = now

    def forget(self) -> None:
        """Know nothing any more."""
        self.ready.clear()
        self._ready_for_cookies.clear()
        self._absences.clear()
        self._octets = 0
        self.until = math.inf

    def reply(self, rest: bytes, client: Callable[[Key], str], key: Key) -> bytes | None:
        """The reply, without its id, to a query without its id; `None` if it must be read.

        `client(key)` is asked for the address of whoever has sent it, where that matters.
        """
        low = rest.lower()
        known = self.ready.get(low)
        if known is not None:
            return _reply(rest, low, known)
        cut = _cookie_size(rest)
        if not cut:
            return self._absent(rest, low, False)
        end = -cut
        cookie, rest, low = rest[end:], rest[:end], low[:end]
        known = self._ready_for_cookies.get(low)
        reply = _reply(rest, low, known) if known else self._absent(rest, low, True)
        return reply and reply + self._jar.reply(cookie, client(key), self._now)

    def _absent(self, rest: bytes, low: bytes, has_cookie: bool) -> bytes | None:
        if len(low) <= NAME_AT or not 1 <= (size := low[NAME_AT]) <= wire.MAX_LABEL:
            return None
        at = NAME_AT + 1 + size
        known = self._absences.get((has_cookie, low[:NAME_AT] + low[at:]))
        if known is None or low[NAME_AT + 1 : at] in known.labels:
            return None
        end = at + known.question_size
        if low != rest and not (rest.startswith(known.start) and rest.endswith(known.tail)):
            return None
        authority = known.authorities.get(at)
        if authority is None:
            authority = known.authorities[at] = known.authority(at - NAME_AT - 1)
        known.count[0] += 1
        return known.head + rest[NAME_AT:end] + authority

    def learn(self, asked: "Asked", head: bytes, packed: Packed, opt: bytes, count: Count) -> None:
        """Reply so from now on; a cookie goes behind `opt`."""
        if not asked.is_usual:
            return
        low, end = asked.low, asked.end
        opt = opt[:-_FULL_SIZE] if asked.has_cookie else opt
        replies, octets = packed.replies(head + low[NAME_AT:end], opt)
        ready = self._ready_for_cookies if asked.has_cookie else self.ready
        self._octets += octets
        if len(ready) >= MAX_READY or self._octets > MAX_OCTETS:
            self.ready.clear()
            self._ready_for_cookies.clear()
            self._octets = octets
        ready[low] = replies, count, low[:NAME_AT], low[end:], end

    def learn_absence(
        self,
        asked: "Asked",
        head: bytes,
        labels: frozenset[bytes],
        authority: Callable[[int], bytes],
        opt: bytes,
        count: Count,
    ) -> None:
        """There are no names like this one but those with these labels in front.

        `authority` gives the records for a name whose first label has so many octets.
        """
        low, end = asked.low, asked.end
        at = NAME_AT + 1 + low[NAME_AT]
        if not asked.is_usual or end - at > _LONGEST_PARENT:
            return
        opt = opt[:-_FULL_SIZE] if asked.has_cookie else opt
        if len(self._absences) >= MAX_ABSENCES:
            self._absences.clear()
        start, tail = low[:NAME_AT], low[end:]

        def behind(size: int) -> bytes:
            return authority(size) + opt

        absence = _Absence(labels, start, tail, head, end - at, behind, count)
        self._absences[asked.has_cookie, low[:NAME_AT] + low[at:]] = absence


class Asked:
    """A query that was read, without its id; its question ends at `end`.

    `is_usual` if it can be known again: it is short, has nothing but an OPT behind its question and
    letters in nothing but its name, and where it seems to end with a cookie there is one.
    """

    __slots__ = ("end", "has_cookie", "is_usual", "low")

    def __init__(self, rest: bytes, end: int, has_cookie: bool) -> None:
        cut = _cookie_size(rest)
        key = rest[:-cut] if cut else rest
        self.end = end
        self.low = key.lower()
        self.has_cookie = has_cookie
        counts = rest[NAME_AT - len(_ONE_RECORD) : NAME_AT]
        is_bare = counts == _NO_RECORD and len(rest) == end
        is_extended = counts == _ONE_RECORD and rest[end : end + 3] == _OPT_START
        is_short = is_bare or (is_extended and len(rest) <= MAX_QUERY)
        is_clear = is_short and has_cookie == (cut > 0)
        is_low = key[:NAME_AT] == self.low[:NAME_AT] and key[end:] == self.low[end:]
        self.is_usual = is_clear and is_low


def _cookie_size(rest: bytes) -> int:
    """The size of the cookie that a query seems to end with.

    Where that is a coincidence nothing is known of the rest: see `Asked`.
    """
    if rest[-12:-8] == _CLIENT_COOKIE:
        return CLIENT_SIZE
    return _FULL_SIZE if rest[-28:-24] == _FULL_COOKIE else 0


def _reply(rest: bytes, low: bytes, known: Ready) -> bytes | None:
    """The reply to a query that is known in lower case; its own letters are in it, too."""
    replies, count, start, tail, end = known
    if low == rest:
        count[0] += 1
        return next(replies)
    if not (rest.startswith(start) and rest.endswith(tail)):
        return None
    count[0] += 1
    reply = next(replies)
    return reply[:NAME_AT] + rest[NAME_AT:end] + reply[end:]

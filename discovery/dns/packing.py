"""Answers packed: the records behind a question as octets, in one order after the other.

Few orders of an answer are kept at a time, each for some laps; then the next ones take their place.
So all orders have their turn, and the memory that a name takes is bounded. It is small for another
reason, too: with a thousand names in use, waiting for memory is most of what an answer costs.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, islice, repeat
from typing import TypeVar

from discovery.dns import records, wire
from discovery.dns.answers import Answer
from discovery.dns.orders import Chance, Order, Ordering, orders

MAX_BODIES = 16  # of one answer that are kept at a time, unless one turn of its records needs more
_MOST_BODIES = 64
_MOST_OCTETS = 1 << 18  # of one answer's bodies; at least three of the longest
_LAPS = 48  # packing an order costs about as much as fifty answers from memory
_LAPS_OF_MANY = 4
_FOR_LONG = 1_000_000
_OVERHEAD = 64  # octets of memory that an object takes beside its content
_FAR = 0x3F00  # pointers have 14 bits
_RECORD_SIZE = 12  # octets of a record beside its data, its name being a pointer
_SHORT = struct.Struct("!H")
_HEAD = struct.Struct("!5H")

Body = TypeVar("Body")


class Packed:
    """One answer in its orders, for questions of one name with `room` octets for the reply.

    Owned by one thread. Where all orders have the same `counts` (answers, authority, additional),
    `replies` has whole ones at hand; else `counts` is `None`, and `body` the way to ask. `size` are
    the octets of a reply that has everything, without an OPT; 0 if it did not fit. `octets` is how
    much memory is kept.
    """

    __slots__ = (
        *("_bodies", "_kept", "_new_orders", "_orders", "_records", "answer", "counts", "octets"),
        "size",
    )

    def __init__(
        self, answer: Answer, name: bytes, room: int, ordering: Ordering, chance: Chance
    ) -> None:
        self.answer = answer
        size = len(answer.data)
        body_size = _OVERHEAD + min(room, _octets_of(answer))
        self._kept = _kept(size, body_size) if ordering != "stable" else 1
        weights = [answer.weights.get(data, 1.0) for data in answer.data]
        self._new_orders = partial(orders, ordering, weights, chance)
        self._orders = self._new_orders()
        self._records: Callable[[Order], bytes] | None = None
        self.counts: tuple[int, int, int] | None = None
        self.size = 0
        self.octets = 0
        whole = _Whole(answer, name, room) if _may_fit(answer, name, room) else None
        if whole is not None and whole.fits:
            self.counts, self.size, self._records = whole.counts, whole.size, whole.records
            self.octets = whole.octets + 2 * _OVERHEAD * size
            return
        if size < 2:
            only = answer.packed(name, room, range(size))
            self._bodies: Iterator[wire.Body] = repeat(only)
            if not only.truncated:
                self.counts = only.answers, only.authority, only.additional
                self._records = lambda _: only.records
            return
        self.octets = self._kept * body_size
        self._bodies = _in_turns(
            lambda order: answer.packed(name, room, order), self._orders, self._kept, size
        )

    def body(self) -> wire.Body:
        """The body of the next reply."""
        if self.counts is None or self._records is None:
            return next(self._bodies)
        return wire.Body(*self.counts, False, self._records(next(self._orders)))

    def replies(self, before: bytes, behind: bytes) -> tuple[Iterator[bytes], int]:
        """Whole replies without end, with what stands before and behind the records.

        And how many octets of memory they take. Only where there are `counts`. Their orders are
        their own: of what is asked for in turns each would get some of shared ones only.
        """
        pack = self._records
        assert pack is not None, "there is no body that all replies have"
        size = len(self.answer.data)
        replies = _in_turns(
            lambda order: before + pack(order) + behind, self._new_orders(), self._kept, size
        )
        own = len(before) + len(behind) + _OVERHEAD
        return replies, self._kept * (own + _octets_of(self.answer))

    def renewed(self, answer: Answer) -> bool:
        """Whether this is the same answer but for the time until which it holds; taken over."""
        old = self.answer
        same = old.data == answer.data and old.glue == answer.glue and old.weights == answer.weights
        if answer.data and same and old.extended == answer.extended:
            self.answer = answer
            return True
        return False


def _octets_of(answer: Answer) -> int:
    """About how long the records are in which nothing but their own names is compressed."""
    additional = [r.data for several in answer.glue.values() for r in several]
    data = [*answer.data, *additional, *(r.owner + r.data for r in answer.authority)]
    return sum(map(len, data)) + _RECORD_SIZE * len(data)


def _kept(size: int, body_size: int) -> int:
    if size < 2:
        return 1
    kept = size * max(1, MAX_BODIES // size) if size <= _MOST_BODIES else _MOST_BODIES
    return min(kept, _MOST_OCTETS // body_size)


def _in_turns(
    pack: Callable[[Order], Body], several: Iterator[Order], kept: int, size: int
) -> Iterator[Body]:
    """Bodies without end: `kept` orders in turn, again and again, then the next ones."""
    laps = _LAPS if size < _MOST_BODIES else _LAPS_OF_MANY
    return chain.from_iterable(_laps(pack, several, kept, laps if kept > 1 else _FOR_LONG))


def _laps(
    pack: Callable[[Order], Body], several: Iterator[Order], kept: int, laps: int
) -> Iterator[Iterable[Body]]:
    """The laps, each a list but the first of its kind, which packs when a body is needed."""
    while True:
        bodies: list[Body] = []
        yield _noted(map(pack, islice(several, kept)), bodies)
        yield from repeat(bodies, laps)


def _noted(bodies: Iterator[Body], into: list[Body]) -> Iterator[Body]:
    for body in bodies:
        into.append(body)
        yield body


def _may_fit(answer: Answer, name: bytes, room: int) -> bool:
    """Whether it is worth trying: packing a thousand records that do not fit is felt."""
    least = sum(map(len, answer.data)) + _RECORD_SIZE * len(answer.data)
    return 0 < least <= min(room, _FAR) - wire.HEADER_SIZE - len(name) - 4


class _Whole:
    """Packs answers that fit whole: the same records in every order, so they are packed once.

    Only the pointers from addresses to the targets of SRV records, which follow the order, change.
    """

    def __init__(self, answer: Answer, name: bytes, room: int) -> None:
        self._start = wire.HEADER_SIZE + len(name) + 4
        fixed = b"\xc0\x0c" + struct.pack("!HHI", answer.type, answer.cls, answer.ttl_s)
        self._records = [fixed + _SHORT.pack(len(data)) + data for data in answer.data]
        self._to_target = len(fixed) + 2 + 6
        self._targets = [records.srv_target(d) for d in answer.data] if answer.glue else []
        self._tails = {
            target: [
                struct.pack("!HHIH", r.type, wire.IN, r.ttl, len(r.data)) + r.data
                for r in answer.glue.get(target, ())
            ]
            for target in self._targets
        }
        additional = [tail for tails in self._tails.values() for tail in tails]
        self.counts = len(answer.data), 0, len(additional)
        self.octets = sum(map(len, self._records)) + sum(2 + len(tail) for tail in additional)
        self.size = self._start + self.octets
        self.fits = not wire.is_compressed(answer.type) and self.size <= min(room, _FAR)

    def records(self, order: Order) -> bytes:
        """All records in this order; the addresses in the order of their targets."""
        several = self._records
        out = [several[n] for n in order]
        if self._targets:
            self._add_addresses(order, out)
        return b"".join(out)

    def _add_addresses(self, order: Order, out: list[bytes]) -> None:
        at = self._start + self._to_target
        pointers: dict[bytes, bytes] = {}
        for n in order:
            target = self._targets[n]
            if target not in pointers:
                pointers[target] = _SHORT.pack(0xC000 | at)
            at += len(self._records[n])
        for target, pointer in pointers.items():
            for tail in self._tails[target]:
                out += (pointer, tail)


def head(query: wire.Query, packed: Packed, has_opt: bool, flags: int) -> bytes:
    """The header of a reply without its id; `flags` are those that we always set."""
    answers, authority, additional = packed.counts or (0, 0, 0)
    flags |= wire.QR | (wire.AA if packed.answer.authoritative else 0)
    flags |= packed.answer.rcode & 0xF | (wire.RD if query.recursion_desired else 0)
    return _HEAD.pack(flags, 1, answers, authority, additional + has_opt)

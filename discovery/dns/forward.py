"""Forwarding: names outside of our zone, asked of other resolvers in a thread of its own.

Rule 1: identical questions are asked once, whoever waits for them. A loop can therefore not grow,
and a query of ours that comes back to us is known by its id and the case of its letters.
Rule 2: every query has an id and a case from a secret source, and a socket of its own.
Rule 3: what waits is bounded. The oldest question gives way to a new one; who asks what is being
asked already, when too many wait, gives way itself. Replies are remembered within a bound, under a
lock, as all threads look there first.
Rule 4: what we lack ourselves is never held against an upstream resolver.
"""

import asyncio
import contextlib
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cachetools import TLRUCache, TTLCache

from discovery.dns import answers, exchange, relay, wire
from discovery.dns.relay import Key, Relayed
from discovery.dns.upstreams import (
    DEADLINE_S,
    Address,
    Attempt,
    Routes,
    Upstream,
    conversation,
    failure_life_s,
)
from discovery.events import Listeners, Noticed, QueryDropped

MAX_WAITING = 1_024  # questions
MAX_WAITERS = 10_000  # clients, and as many on their way into the forwarder's thread
MAX_OCTETS = 16 << 20
LOOK_S = 5.0
_MAX_FAILING = 4_096
_FAILING_S = 300.0  # how long it is known that a question failed before
_log = logging.getLogger("discovery.dns")

UNANSWERED = Relayed(
    wire.SERVFAIL, life_s=1, extended=(answers.NETWORK_ERROR, "no upstream resolver answers")
)
LOOPED = Relayed(
    wire.SERVFAIL, life_s=1, extended=(answers.OTHER, "upstream resolvers lead back to us")
)
OVERLOADED = Relayed(wire.SERVFAIL, extended=(answers.OTHER, "too many forwarded queries wait"))
SHORT = Relayed(wire.SERVFAIL, extended=(answers.OTHER, "no socket to spare for forwarding"))
_SAID_SO = (answers.OTHER, "an upstream resolver says so")

Deliver = Callable[[Relayed], None]
Addresses = Mapping[str, Sequence[Address]]


@dataclass(slots=True)
class _Question:
    """What is being asked, and who waits. `sent` are our queries, as `relay.print_of` has them."""

    waiters: list[Deliver]
    task: "asyncio.Task[None] | None" = None
    sent: dict[bytes, Upstream] = field(default_factory=dict)
    looped: set[Upstream] = field(default_factory=set)


class Forwarder:
    """Asks upstream resolvers: `addresses` by zone, the empty one for all other names.

    Where `addresses` is a function, it is asked again every `look_s` seconds, in the forwarder's
    thread. `start` and `close` are for one thread, the rest for any.
    """

    def __init__(
        self,
        addresses: Addresses | Callable[[], Addresses],
        listeners: Listeners,
        *,
        clock: Callable[[], float] = time.monotonic,
        randbits: Callable[[int], int] = secrets.randbits,
        max_waiting: int = MAX_WAITING,
        max_waiters: int = MAX_WAITERS,
        max_sockets: int | None = None,
        look_s: float = LOOK_S,
    ) -> None:
        self._addresses = addresses
        self._routes = Routes(addresses() if callable(addresses) else addresses)
        self._listeners = listeners
        self._clock = clock
        self._randbits = randbits
        self._max_waiting = max_waiting
        self._max_waiters = max_waiters
        self._look_s = look_s
        self._coming: deque[tuple[Key, bytes, Deliver]] = deque()
        self._waiting: dict[Key, _Question] = {}
        self._waiters = 0
        self._known: TLRUCache[Key, tuple[Relayed, float]] = TLRUCache(
            MAX_OCTETS, _dies_at, clock, getsizeof=lambda known: known[0].octets
        )
        self._failing: TTLCache[Key, int] = TTLCache(_MAX_FAILING, _FAILING_S, clock)
        self._lock = threading.Lock()
        self._sockets = asyncio.Semaphore(max_sockets or exchange.sockets_to_spare())
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="dns-forward", daemon=True)
        self._told_loop = False

    def __repr__(self) -> str:
        return f"<Forwarder {len(self._waiting)} questions waiting>"

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def close(self) -> None:
        """Give up whatever waits; nobody is told."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        if callable(self._addresses):
            self._loop.call_later(self._look_s, self._look_again, self._addresses)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._end())

    async def _end(self) -> None:
        tasks = [q.task for q in self._waiting.values() if q.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _look_again(self, addresses: Callable[[], Addresses]) -> None:
        try:
            self._routes = Routes(addresses(), self._routes)
        except Exception:
            _log.exception("the resolvers to forward to could not be looked up again")
        self._loop.call_later(self._look_s, self._look_again, addresses)

    def leads_anywhere(self, name: bytes) -> bool:
        """Whether somebody can be asked for this name."""
        return bool(self._routes.to(name))

    def remembered(self, query: wire.Query) -> tuple[Relayed, float] | None:
        """A reply from memory and its age in seconds."""
        with self._lock:
            found = self._known.get(relay.key(query))
        return (found[0], self._clock() - found[1]) if found else None

    def ask(self, query: wire.Query, packet: bytes, deliver: Deliver) -> None:
        """Have a question asked; `deliver` is called once, in the forwarder's thread or here."""
        if len(self._coming) >= self._max_waiters:
            self._drop("too many forwarded queries: one more is refused", [deliver])
            return
        self._coming.append((relay.key(query), relay.print_of(packet), deliver))
        self._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        key, came, deliver = self._coming.popleft()
        question = self._waiting.get(key)
        if question is None:
            self._begin(key, deliver)
        elif came in question.sent:
            question.looped.add(question.sent[came])
            self._tell_loop()
            self._deliver(LOOPED, [deliver])
        elif self._waiters >= self._max_waiters:
            self._drop("too many clients wait for forwarded names: one more is refused", [deliver])
        else:
            self._waiters += 1
            question.waiters.append(deliver)

    def _begin(self, key: Key, deliver: Deliver) -> None:
        if len(self._waiting) >= self._max_waiting or self._waiters >= self._max_waiters:
            self._shed()
        self._waiters += 1
        question = self._waiting[key] = _Question([deliver])
        question.task = self._loop.create_task(self._find(key, question))

    def _shed(self) -> None:
        key, oldest = next(iter(self._waiting.items()))
        if oldest.task:
            oldest.task.cancel()
        self._drop("too many forwarded queries: the oldest is given up", self._ended(key, oldest))

    def _drop(self, why: str, waiters: Sequence[Deliver]) -> None:
        for _ in waiters:
            self._listeners.emit(QueryDropped(why))
        self._deliver(OVERLOADED, waiters)

    def _tell_loop(self) -> None:
        if not self._told_loop:
            self._told_loop = True
            self._listeners.emit(Noticed("an upstream resolver sends our own queries back to us"))

    async def _find(self, key: Key, question: _Question) -> None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                async with self._sockets:
                    reply = await self._converse(key, question)
        except TimeoutError:  # whoever was sent nothing waited for a socket all the time
            reply = None if question.sent else OVERLOADED
        except exchange.Shortage as why:
            self._listeners.emit(QueryDropped(f"cannot be forwarded: {why}"))
            reply = SHORT
        except Exception:
            _log.exception("a query could not be forwarded: %r", key)
            reply = None
        if reply is OVERLOADED:
            self._drop("no socket for a forwarded query in time", self._ended(key, question))
            return
        reply = self._judged(key, reply, bool(question.looped))
        if reply.life_s:
            with self._lock, contextlib.suppress(ValueError):  # too large to be remembered
                self._known[key] = reply, self._clock()
        self._deliver(reply, self._ended(key, question))

    def _judged(self, key: Key, reply: Relayed | None, has_looped: bool) -> Relayed:
        """What is said to the client, and for how long; failures that persist live longer."""
        if reply is not None and (reply is SHORT or reply.rcode in (wire.NOERROR, wire.NXDOMAIN)):
            self._failing.pop(key, None)
            return reply
        if has_looped:
            return LOOPED
        if reply is None:
            return UNANSWERED
        times = self._failing[key] = self._failing.get(key, 0) + 1
        # An extended code is about our own query; its low bits alone would mean something else.
        rcode = reply.rcode if reply.rcode <= 0xF else wire.SERVFAIL
        return Relayed(rcode, life_s=failure_life_s(times), extended=_SAID_SO)

    def _ended(self, key: Key, question: _Question) -> list[Deliver]:
        """Who has waited for a question that is not asked any more."""
        if self._waiting.get(key) is question:
            del self._waiting[key]
        waiters, question.waiters = question.waiters, []
        self._waiters -= len(waiters)
        return waiters

    def _deliver(self, reply: Relayed, waiters: Sequence[Deliver]) -> None:
        for deliver in waiters:
            try:
                deliver(reply)
            except OSError as why:
                self._listeners.emit(QueryDropped(f"cannot be sent: {why.strerror}"))
            except Exception:
                _log.exception("a forwarded reply could not be delivered")

    async def _converse(self, key: Key, question: _Question) -> Relayed | None:
        talk = conversation(self._routes.to(key[0]), self._clock)
        reply: Relayed | None = None
        try:
            attempt = next(talk)
            while True:
                reply = await self._attempted(attempt, key, question)
                attempt = talk.send(reply)
        except StopIteration as end:
            found: Relayed | None = end.value
            return found

    async def _attempted(self, attempt: Attempt, key: Key, question: _Question) -> Relayed | None:
        name_bits = 8 * len(key[0])
        sent = relay.query_for(key, self._randbits(16), self._randbits(name_bits), attempt.edns)
        upstream = attempt.upstream
        question.sent[relay.print_of(sent)] = upstream
        upstream.began(self._clock())
        reply: Relayed | None = None
        try:
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                async with asyncio.timeout(attempt.timeout_s):
                    reply = await exchange.exchanged(upstream.address, sent, attempt.stream)
        except BaseException:  # cancelled, or not asked for something that we lack
            upstream.abandoned(self._clock())
            raise
        upstream.ended(reply is not None and upstream not in question.looped, self._clock())
        return reply


def _dies_at(_: Key, known: tuple[Relayed, float], now: float) -> float:
    return now + known[0].life_s

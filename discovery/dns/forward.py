"""Forwarding: names outside of our zone, asked of other resolvers in a thread of its own.

Rule 1: identical questions are asked once, whoever waits for them. A loop can therefore not grow,
and a query of ours that comes back to us is known by its id and the case of its letters.
Rule 2: every query has an id and a case from a secret source, and a socket of its own, connected,
so that the system picks its port and drops what comes from elsewhere.
Rule 3: what waits is bounded; who has waited longest gives way. Replies are remembered within a
bound, under a lock, as all threads look there first.
"""

import asyncio
import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cachetools import TLRUCache

from discovery.dns import relay, wire
from discovery.dns.relay import Key, Relayed
from discovery.dns.upstreams import DEADLINE_S, Address, Attempt, Routes, Upstream, conversation
from discovery.events import Listeners, Noticed, QueryDropped

MAX_WAITING = 1_024  # questions
MAX_WAITERS = 64  # clients of one question
MAX_OCTETS = 16 << 20
_log = logging.getLogger("discovery.dns")
_FAILURE_LIFE_S = 1  # RFC 9520 §3.2: failures are remembered, too
FAILED = Relayed(wire.SERVFAIL, life_s=_FAILURE_LIFE_S)

Deliver = Callable[[Relayed], None]


@dataclass(slots=True)
class _Question:
    """What is being asked, and who waits. `sent` are our queries by id and question."""

    waiters: list[Deliver]
    task: "asyncio.Task[None] | None" = None
    sent: set[bytes] = field(default_factory=set)


class Forwarder:
    """Asks upstream resolvers: `addresses` by zone, the empty one for all other names.

    `start` and `close` are for one thread, the rest for any.
    """

    def __init__(
        self,
        addresses: Mapping[str, Sequence[Address]],
        listeners: Listeners,
        *,
        clock: Callable[[], float] = time.monotonic,
        randbits: Callable[[int], int] = secrets.randbits,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._routes = Routes(addresses)
        self._listeners = listeners
        self._clock = clock
        self._randbits = randbits
        self._max_waiting = max_waiting
        self._waiting: dict[Key, _Question] = {}
        self._known: TLRUCache[Key, tuple[Relayed, float]] = TLRUCache(
            MAX_OCTETS, _dies_at, clock, getsizeof=lambda known: known[0].octets
        )
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="dns-forward")
        self._thread.daemon = True
        self._told_loop = False

    def __repr__(self) -> str:
        return f"<Forwarder {len(self._waiting)} questions waiting>"

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def close(self) -> None:
        """Give up whatever waits."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(5.0)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5.0)
        if not self._loop.is_closed():
            self._loop.close()

    async def _end(self) -> None:
        tasks = [q.task for q in self._waiting.values() if q.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # closed transports close their sockets a moment later

    def leads_anywhere(self, name: bytes) -> bool:
        """Whether somebody can be asked for this name."""
        return bool(self._routes.to(name))

    def remembered(self, query: wire.Query) -> tuple[Relayed, float] | None:
        """A reply from memory and its age in seconds."""
        with self._lock:
            found = self._known.get(relay.key(query))
        return (found[0], self._clock() - found[1]) if found else None

    def ask(self, query: wire.Query, packet: bytes, deliver: Deliver) -> None:
        """Have a question asked; `deliver` is called in the forwarder's thread, once."""
        self._loop.call_soon_threadsafe(
            self._ask, relay.key(query), relay.print_of(packet), deliver
        )

    def _ask(self, key: Key, came: bytes, deliver: Deliver) -> None:
        question = self._waiting.get(key)
        if question is None:
            if len(self._waiting) >= self._max_waiting:
                self._shed()
            question = self._waiting[key] = _Question([deliver])
            question.task = self._loop.create_task(self._find(key, question))
        elif came in question.sent:
            self._tell_loop()
            deliver(FAILED)
        elif len(question.waiters) >= MAX_WAITERS:
            self._listeners.emit(QueryDropped("too many clients wait for one forwarded name"))
            deliver(FAILED)
        else:
            question.waiters.append(deliver)

    def _shed(self) -> None:
        oldest = self._waiting[next(iter(self._waiting))]
        self._listeners.emit(QueryDropped("too many forwarded queries: the oldest is given up"))
        if oldest.task:
            oldest.task.cancel()
        self._finish(next(iter(self._waiting)), oldest, FAILED)

    def _tell_loop(self) -> None:
        if not self._told_loop:
            self._told_loop = True
            self._listeners.emit(Noticed("an upstream resolver sends our own queries back to us"))

    async def _find(self, key: Key, question: _Question) -> None:
        reply: Relayed | None = None
        try:
            async with asyncio.timeout(DEADLINE_S):
                reply = await self._converse(key, question)
        except TimeoutError:
            pass
        except Exception:
            _log.exception("a query could not be forwarded: %r", key)
        reply = reply or FAILED
        if reply.life_s:
            with self._lock, contextlib.suppress(ValueError):  # too large to be remembered
                self._known[key] = reply, self._clock()
        self._finish(key, question, reply)

    def _finish(self, key: Key, question: _Question, reply: Relayed) -> None:
        if self._waiting.get(key) is question:
            del self._waiting[key]
        waiters, question.waiters = question.waiters, []
        for deliver in waiters:
            try:
                deliver(reply)
            except Exception:
                _log.exception("a forwarded reply could not be delivered")

    async def _converse(self, key: Key, question: _Question) -> Relayed | None:
        talk = conversation(self._routes.to(key[0]), self._clock())
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
        question.sent.add(relay.print_of(sent))
        exchange = _streamed if attempt.stream else self._datagram
        reply: Relayed | None = None
        with contextlib.suppress(OSError, EOFError, TimeoutError):
            async with asyncio.timeout(attempt.timeout_s):
                reply = await exchange(attempt.upstream, sent)
        attempt.upstream.ended(reply is not None, self._clock())
        return reply

    async def _datagram(self, upstream: Upstream, sent: bytes) -> Relayed:
        transport, exchange = await self._loop.create_datagram_endpoint(
            lambda: _Exchange(sent, self._loop.create_future()), remote_addr=upstream.address
        )
        try:
            transport.sendto(sent)
            return await exchange.reply
        finally:
            transport.close()


class _Exchange(asyncio.DatagramProtocol):
    """One query on a socket of its own; what is no reply to it is passed over."""

    def __init__(self, sent: bytes, reply: "asyncio.Future[Relayed]") -> None:
        self._sent = sent
        self.reply = reply

    def datagram_received(self, data: bytes, addr: object) -> None:
        """A datagram came from where we sent ours."""
        found = relay.read(data, self._sent)
        if found is not None and not self.reply.done():
            self.reply.set_result(found)

    def error_received(self, exc: Exception) -> None:
        """Nobody listens there."""
        if not self.reply.done():
            self.reply.set_exception(exc)


async def _streamed(upstream: Upstream, sent: bytes) -> Relayed | None:
    reader, writer = await asyncio.open_connection(*upstream.address)
    try:
        writer.write(len(sent).to_bytes(2, "big") + sent)
        size = int.from_bytes(await reader.readexactly(2), "big")
        return relay.read(await reader.readexactly(size), sent)
    finally:
        writer.close()


def _dies_at(_: Key, known: tuple[Relayed, float], now: float) -> float:
    return now + known[0].life_s

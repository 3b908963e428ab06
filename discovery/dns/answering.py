"""What a loop asks: replies from the current snapshot, whatever goes wrong.

A query is never lost to an exception: it is logged once and answered with SERVFAIL. Who may ask at
all is decided here, too.
"""

import ipaddress
import logging
from collections.abc import Callable, Sequence

from discovery.dns import answers, wire
from discovery.dns.forward import Forwarder
from discovery.dns.records import parsed_address
from discovery.dns.relay import Relayed
from discovery.dns.responder import Outside, Responder
from discovery.dns.shortcuts import Ready
from discovery.model import Snapshot

PRIVATE = (
    *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
    *("100.64.0.0/10", "::1/128", "fc00::/7", "fe80::/10"),
)
_log = logging.getLogger("discovery.dns")
_MOST_LOGGED = 100
_MOST_CLIENTS = 4_096

# A reply that comes later, in another thread: call it with what is to be done with it.
Later = Callable[[Callable[[bytes], None]], None]

# The reply at hand to a query without its id, where there is one: see `Shortcuts.reply`.
Recall = Callable[[bytes, Callable[[int], str], int], bytes | None]


class Allowed:
    """Which clients may ask: those of some networks, known by address. Safe from any thread."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]
        self._known: dict[str, bool] = {}

    def __call__(self, client: str) -> bool:
        known = self._known.get(client)
        if known is None:
            if len(self._known) >= _MOST_CLIENTS:
                self._known = {}
            known = self._known[client] = self._is_inside(client)
        return known

    def _is_inside(self, client: str) -> bool:
        address = parsed_address(client)
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return address is not None and any(address in network for network in self._networks)


class Answering:
    """Answers one loop, in its thread. `ready` has whole replies: see `Shortcuts.ready`.

    `recall` is what else is at hand: see `Shortcuts.reply`. Both know nothing where clients have to
    be looked at one by one: `allowed` is not `None` then.
    """

    def __init__(
        self,
        responder: Responder,
        snapshot: Callable[[], Snapshot],
        clock: Callable[[], float],
        *,
        allowed: Allowed | None = None,
        forwarder: Forwarder | None = None,
    ) -> None:
        self._responder = responder
        self._snapshot = snapshot
        self._clock = clock
        self._allowed = allowed
        self._forwarder = forwarder
        self._now = 0.0
        self._is_able = True
        self._logged: set[str] = set()
        is_open = allowed is None
        self.ready: dict[bytes, Ready] = responder.shortcuts.ready if is_open else {}
        self.recall: Recall = responder.shortcuts.reply if is_open else lambda *_: None
        self.tally = responder.tally

    def begin(self) -> None:
        """Look at snapshot and clock: before one or more queries that are there at this moment."""
        try:
            self._now = self._clock()
            self._responder.begin(self._snapshot(), self._now)
            self._is_able = True
        except Exception as why:
            self._is_able = False
            self._responder.shortcuts.forget()
            self._tell("there is no snapshot", why)

    def reply(self, packet: bytes, client: str) -> bytes | Later:
        """The reply to a packet from this address. Raises `wire.Dropped`, and nothing else."""
        try:
            if self._allowed is not None and not self._allowed(client):
                return self._refused(packet)
            if self._is_able:
                reply = self._responder.respond(packet, self._now, client)
                return self._forwarded(reply, packet) if isinstance(reply, Outside) else reply
            wire.read(packet)
        except wire.Dropped:
            raise
        except Exception as why:
            self._tell("a query could not be answered: " + packet.hex(), why)
        self.tally.count(None, wire.SERVFAIL)[0] += 1
        return wire.header_only(packet, wire.SERVFAIL)

    def _refused(self, packet: bytes) -> bytes:
        """REFUSED, with the reason where there is room for one (RFC 8914 §4.19)."""
        try:
            query = wire.read(packet)
        except wire.Unreadable as why:
            self.tally.count(None, why.rcode)[0] += 1
            return wire.header_only(packet, why.rcode)
        self.tally.count(query.type, wire.REFUSED)[0] += 1
        reason = answers.PROHIBITED.to_bytes(2, "big") + b"not one of our clients"
        opt = wire.opt(wire.REFUSED, False, ((wire.EDE, reason),)) if query.edns else b""
        return wire.reply(query, 0, wire.REFUSED, wire.Body(0, 0, 0, False, b""), opt)

    def _forwarded(self, outside: Outside, packet: bytes) -> bytes | Later:
        forwarder, query = self._forwarder, outside.query
        assert forwarder is not None, "a responder without a forwarder forwards nothing"
        known = forwarder.remembered(query)
        if known is not None:
            return outside.message(*known)

        def later(deliver: Callable[[bytes], None]) -> None:
            def came(relayed: Relayed) -> None:
                deliver(outside.message(relayed, 0.0))

            forwarder.ask(query, packet, came)

        return later

    def _tell(self, what: str, why: Exception) -> None:
        if repr(why) not in self._logged and len(self._logged) < _MOST_LOGGED:
            self._logged.add(repr(why))
            _log.error("%s", what, exc_info=why)

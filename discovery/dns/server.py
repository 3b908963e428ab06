"""The DNS server: UDP and TCP on one address, answering from the current snapshot.

The two loops have a thread and a responder each, so nothing is shared but the snapshot, which is
read by one reference.
"""

import contextlib
import ipaddress
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Self

from discovery.dns.answering import PRIVATE, Allowed, Answering
from discovery.dns.cookies import Cookies
from discovery.dns.forward import Addresses, Forwarder
from discovery.dns.orders import Ordering
from discovery.dns.responder import Identity, Responder
from discovery.dns.sharing import hand_over, share
from discovery.dns.tally import Tally
from discovery.dns.tcp import TcpLoop
from discovery.dns.udp import UdpLoop
from discovery.dns.zone import Apex
from discovery.events import Listeners
from discovery.model import Snapshot

_ATTEMPTS = 16  # to find a port that is free for both, if any will do
_WILDCARDS = ("0.0.0.0", "::")


class DnsServer:
    """Answers for one zone at `address` (host, port; port 0 for any that is free).

    `snapshot` is called for every query from the server's threads and must not block. `nsid`,
    `version` and `server_id` are told to whoever asks, unless empty. `ordering` is that of
    records in answers: see `orders`. `forward` has the resolvers to ask for names of other zones,
    the empty one for all the rest; a function is asked for them again every few seconds. `clients`
    are the networks that may ask; where it is `None`, private ones. A `shared` address may be taken
    over: see `sharing`. One thread starts and closes it.
    """

    def __init__(
        self,
        address: tuple[str, int],
        snapshot: Callable[[], Snapshot],
        *,
        zone: str = "ecs.internal",
        ttl_s: int = 5,
        negative_ttl_s: int = 2,
        nsid: str = "",
        version: str = "",
        server_id: str = "",
        ordering: Ordering = "balanced",
        forward: Addresses | Callable[[], Addresses] | None = None,
        clients: Sequence[str] | None = None,
        clock: Callable[[], float] = time.time,
        random: Random | None = None,
        listeners: Listeners | None = None,
        shared: bool = False,
    ) -> None:
        self._asked = address
        self._shared = shared
        self._sockets: tuple[socket.socket, ...] = ()
        self._snapshot = snapshot
        self._labels = tuple(label.lower().encode() for label in zone.rstrip(".").split("."))
        self._ttl_s = ttl_s
        self._negative_ttl_s = negative_ttl_s
        self._identity = Identity(nsid.encode()[:64], version, server_id)
        self._ordering: Ordering = ordering
        self._forward = forward
        self._clients = clients
        self._clock = clock
        self._random = random or Random()
        self._listeners = listeners or Listeners()
        self._jar = Cookies(secrets.token_bytes(16))
        self._loops: tuple[UdpLoop, TcpLoop] | None = None
        self._threads: tuple[threading.Thread, ...] = ()
        self._forwarder: Forwarder | None = None
        self._tallies: dict[str, Tally] = {}
        self._bound: tuple[str, int] | None = None

    def __repr__(self) -> str:
        state = "listening" if self._loops else "not listening"
        host, port = self._bound or self._asked
        return f"<DnsServer {host} port {port}, {state}>"

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens; before `start`, where it is going to."""
        return self._bound or self._asked

    @property
    def tallies(self) -> Mapping[str, Tally]:
        """What was answered, by transport: `udp`, `tcp`, and `http` once it was asked so."""
        return dict(self._tallies)

    @property
    def is_alive(self) -> bool:
        """Whether it was started, and none of its threads has ended."""
        return self._loops is not None and all(thread.is_alive() for thread in self._threads)

    def start(self) -> None:
        """Bind and begin to answer. Raises `OSError`, whose text says what is wrong, and with it.

        Nothing is left behind on failure. Does nothing while it is running.
        """
        if self._loops is not None:
            return
        with contextlib.ExitStack() as undo:
            udp, tcp = self._sockets = bound_pair(*self._asked, shared=self._shared)
            undo.enter_context(udp)
            undo.enter_context(tcp)
            host, port = udp.getsockname()[:2]
            self._bound = host, port
            undo.callback(self._stop_forwarding)
            if self._forward:
                self._forwarder = Forwarder(self._forward, self._listeners)
                self._forwarder.start()
            datagrams = UdpLoop(udp, self._answering("udp", self._allowed()), self._listeners)
            streams = TcpLoop(tcp, self._answering("tcp", self._allowed()), self._listeners)
            undo.pop_all()
        self._loops = datagrams, streams
        self._threads = (
            threading.Thread(target=datagrams.run, name="dns-udp", daemon=True),
            threading.Thread(target=streams.run, name="dns-tcp", daemon=True),
        )
        for thread in self._threads:
            thread.start()

    def hand_over(self) -> None:
        """Leave new queries to the process that shares our address, where there is one."""
        for sock in self._sockets if self._shared else ():
            hand_over(sock)

    def close(self) -> None:
        """Stop answering and give the port back; safe to call twice."""
        self.hand_over()
        loops, self._loops = self._loops, None
        for loop in loops or ():
            loop.close()
        for thread in self._threads:
            thread.join(timeout=5.0)
        self._stop_forwarding()

    def _stop_forwarding(self) -> None:
        forwarder, self._forwarder = self._forwarder, None
        if forwarder is not None:
            forwarder.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def answering(self) -> Answering:
        """What answers as over TCP, for one thread that has its queries from elsewhere.

        To be made once the server is started. Clients are always looked at, as they need not come
        to our address.
        """
        return self._answering("http", Allowed(self._clients or PRIVATE))

    def _answering(self, transport: str, allowed: Allowed | None) -> Answering:
        host, _ = self.address
        addresses = () if host in _WILDCARDS else (host,)
        responder = Responder(
            Apex(self._labels, self._ttl_s, self._negative_ttl_s, addresses),
            self._identity,
            self._jar,
            Random(self._random.random()).randrange,
            stream=transport != "udp",
            ordering=self._ordering,
            forwards=self._forwarder.leads_anywhere if self._forwarder else None,
        )
        self._tallies[transport] = responder.tally
        return Answering(
            *(responder, self._snapshot, self._clock), allowed=allowed, forwarder=self._forwarder
        )

    def _allowed(self) -> Allowed | None:
        """Nobody but this machine reaches a loopback address, so nobody has to be looked at."""
        if self._clients is None and ipaddress.ip_address(self.address[0]).is_loopback:
            return None
        return Allowed(PRIVATE if self._clients is None else self._clients)


def bound_pair(
    host: str, port: int, *, shared: bool = False
) -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket of the same address and port."""
    for attempt in range(_ATTEMPTS):
        udp = _bound(host, port, socket.SOCK_DGRAM, shared)
        try:
            return udp, _bound(host, udp.getsockname()[1], socket.SOCK_STREAM, shared)
        except OSError:
            udp.close()
            if port or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("the last attempt raises")


def _bound(host: str, port: int, kind: socket.SocketKind, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.socket(family, kind))
        if kind == socket.SOCK_STREAM:
            # Only lets us bind while old connections are in TIME_WAIT. On UDP it would let a second
            # instance take half of the queries.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            share(sock)
        try:
            sock.bind((host, port))
        except OSError as why:
            protocol = "TCP" if kind == socket.SOCK_STREAM else "UDP"
            what = f"cannot listen on {host} port {port} ({protocol})"
            reason = (why.strerror or str(why)).lower()
            raise OSError(why.errno, f"{what}: {reason}") from why
        stack.pop_all()
        return sock

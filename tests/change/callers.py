"""Who calls a service while it changes: a transport, a listener's client, a client of the DNS.

A caller is a function that makes one request and gives the body of the answer; any exception of
the kinds in `FAILURES` is a failure. Many threads call it at once.
"""

import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from random import Random
from types import TracebackType
from typing import Self

import dnslib
import httpx

from discovery import DiscoveryTransport, Resolver
from discovery.written import Address
from tests.change.judging import Answer

Call = Callable[[], str]

FAILURES = (OSError, HTTPException, httpx.HTTPError, ValueError)
CONNECT_S = 1.0  # what the clients give a connection that do not go by our transport
DEADLINE_S = 90.0
_LONG_DNS_S = 5.0


class NoAddress(OSError):
    """The name has no address."""


class TransportCaller:
    """httpx with our transport; its connections are kept."""

    def __init__(self, resolver: Resolver, service: str, timeout_s: float) -> None:
        self._url = f"http://{service}/"
        self._client = httpx.Client(
            transport=DiscoveryTransport(resolver), timeout=timeout_s, trust_env=False
        )

    def __call__(self) -> str:
        return self._client.get(self._url).raise_for_status().text

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


class PlainCaller:
    """A client that knows one address, such as an upstream's port; each request is a connection."""

    def __init__(self, address: Address, timeout_s: float, host: str = "app") -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._host = host

    def __call__(self) -> str:
        return fetched(self._address.host, self._address.port, self._timeout_s, self._host)


@dataclass(frozen=True, slots=True)
class _Known:
    """SRV records as (priority, weight, host, port), until they are too old."""

    until: float
    records: tuple[tuple[int, int, str, int], ...]


class DnsCaller:
    """A client that asks for SRV records, keeps them for their TTL and goes by their weights.

    As RFC 2782 has it: the lowest priority, by chance according to the weights. It tries no second
    one, and each request is a connection.
    """

    def __init__(self, server: Address, name: str, timeout_s: float, random: Random) -> None:
        self._server = (server.host, server.port)
        self._name = name
        self._timeout_s = timeout_s
        self._random = random
        self._lock = threading.Lock()
        self._known = _Known(0.0, ())

    def __call__(self) -> str:
        host, port = self._chosen()
        return fetched(host, port, self._timeout_s)

    def _chosen(self) -> tuple[str, int]:
        with self._lock:
            if time.monotonic() >= self._known.until:
                self._known = self._asked()
            records = self._known.records
            if not records:
                raise NoAddress(f"{self._name} has no address")
            first = min(priority for priority, *_ in records)
            best = [r for r in records if r[0] == first]
            weights = [weight for _, weight, _, _ in best]
            chosen = self._random.choices(best, weights if any(weights) else None)[0]
        return chosen[2], chosen[3]

    def _asked(self) -> _Known:
        """Over TCP, since an answer may be longer than a datagram."""
        question = dnslib.DNSRecord.question(self._name, "SRV").pack()
        with socket.create_connection(self._server, _LONG_DNS_S) as asking:
            asking.sendall(struct.pack("!H", len(question)) + question)
            with asking.makefile("rb") as reader:
                (size,) = struct.unpack("!H", reader.read(2))
                reply = dnslib.DNSRecord.parse(reader.read(size))
        now = time.monotonic()
        if reply.header.rcode:
            raise NoAddress(f"{self._name}: {dnslib.RCODE[reply.header.rcode]}")
        if not reply.rr:
            ttl_s = min(reply.auth[0].ttl, reply.auth[0].rdata.times[-1])  # RFC 2308 §5
            return _Known(now + ttl_s, ())
        where = {str(each.rname): str(each.rdata) for each in reply.ar if each.rtype == 1}
        found = [each.rdata for each in reply.rr]
        return _Known(
            now + min(each.ttl for each in reply.rr),
            tuple((r.priority, r.weight, where[str(r.target)], r.port) for r in found),
        )


def fetched(host: str, port: int, timeout_s: float, name: str = "app", path: str = "/") -> str:
    """The body at that address, over a connection of its own."""
    connection = HTTPConnection(host, port, timeout=min(CONNECT_S, timeout_s))
    try:
        connection.connect()
        connection.sock.settimeout(timeout_s)
        connection.request("GET", path, headers={"Host": name, "Connection": "close"})
        answer = connection.getresponse()
        body = answer.read().decode()
        if answer.status != 200:
            raise HTTPException(f"status {answer.status}")
        return body
    finally:
        connection.close()


class Load:
    """Constant load of several callers at once, from the beginning of the block to its end.

    Each caller makes `rate` requests a second, by `workers` threads that wait for one another's
    answers no more than real clients do.
    """

    def __init__(self, callers: Mapping[str, Call], rate: float, workers: int = 3) -> None:
        self.answers: list[Answer] = []
        self._callers = dict(callers)
        self._period_s = workers / rate
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(name, n * self._period_s / workers))
            for name in callers
            for n in range(workers)
        ]

    @property
    def names(self) -> tuple[str, ...]:
        """The callers."""
        return tuple(self._callers)

    def of(self, caller: str) -> list[Answer]:
        """The answers of one caller up to now."""
        return [a for a in self.answers if a.caller == caller]

    def pass_by(self, count: int, *, answered: bool = False) -> list[Answer]:
        """Wait until each caller has made so many more requests from now on; these requests.

        With `answered`, only those count that did not fail.
        """
        begun, ends_at = time.time(), time.monotonic() + DEADLINE_S
        while True:
            new = [a for a in self.answers if a.at >= begun and not (answered and a.error)]
            counts = {name: sum(a.caller == name for a in new) for name in self._callers}
            if min(counts.values()) >= count:
                return new
            assert time.monotonic() < ends_at, f"no progress: {counts}, {self._errors()}"
            self._over.wait(0.05)

    def last_for(self, seconds: float) -> None:
        """Let it go on."""
        self._over.wait(seconds)

    def _errors(self) -> list[str]:
        return [f"{a.caller}: {a.error}" for a in self.answers if a.error][-3:]

    def _work(self, name: str, offset_s: float) -> None:
        due = time.monotonic() + offset_s
        while not self._over.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._period_s, time.monotonic() - self._period_s)
            self.answers.append(self._answer(name))

    def _answer(self, name: str) -> Answer:
        at, started = time.time(), time.monotonic()
        service = revision = task = error = ""
        try:
            service, revision, task = self._callers[name]().split(" ")
        except FAILURES as why:
            error = f"{type(why).__name__}: {why}"
        return Answer(name, at, time.monotonic() - started, service, revision, task, error)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(DEADLINE_S)

"""Clients that keep the HTTP server waiting, over real sockets on loopback."""

import asyncio
import contextlib
import http.client
import json
import logging
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import pytest

from discovery.client.resolver import Resolver
from discovery.settings import Settings
from discovery.sidecar.adapters.routes import Adapters
from discovery.sidecar.app import Answers, application
from discovery.sidecar.bodies import PIECE
from discovery.sidecar.connections import Connection
from discovery.sidecar.listening import HttpServer
from discovery.sidecar.waits import Waits
from discovery.sources.base import FixedSource
from discovery.written import Address, ClusterSettings
from tests.peers.programs import until
from tests.sidecar.fleet import WEB, endpoint, observed

TIMEOUT_S = 10.0
HALF = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
WHOLE = HALF + b"\r\n"
SETTINGS = Settings(clusters=(ClusterSettings("prod"),))
MANY = 2_000  # endpoints: more text than socket buffers hold, if it is asked for often

Where = tuple[str, int]


class Few(Connection):
    """Bounds on the number that a test can reach, and time for it."""

    most = 3
    request_s = 600.0


class Impatient(Connection):
    """Bounds in time that a test can wait for."""

    request_s = 0.2
    stalled_s = 0.2


class Known(Connection):
    """One that a test can look at."""

    last: ClassVar["Known | None"] = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Be the last one."""
        type(self).last = self
        super().connection_made(transport)


class Last(Connection):
    """Time only for the end of a connection."""

    stalled_s = 0.2


class Late(Few):
    """Those that are displaced have their answer ready in that very moment."""

    late: ClassVar[list[Connection]] = []

    def _displace_another(self) -> None:
        longest = next(iter(self.waiting))
        super()._displace_another()
        longest.on_response_complete()
        self.late.extend(each for each in (longest,) if each in self.waiting)


POSTED = b"POST /v3/discovery:clusters HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
STREAM = b"GET /v1/watch/web HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextlib.contextmanager
def serving(connection: type[Connection], endpoints: int = 2) -> Iterator[Where]:
    """A server of one service, and where it listens."""
    web = tuple(endpoint(number) for number in range(2, endpoints + 2))
    source = FixedSource(observed(replace(WEB, endpoints=web), at=time.time()))
    with Resolver(source=source, settings=SETTINGS, whole=True) as resolver:
        assert resolver.wait_ready(TIMEOUT_S)
        waits = Waits(resolver)
        adapters = Adapters(lambda: resolver.snapshot, SETTINGS.zone, time.time).routes()
        server = HttpServer(
            application(Answers(resolver, waits, list), beside=adapters),
            Address("127.0.0.1", 0),
            connection,
        )
        server.start()
        try:
            yield server.address.host, server.address.port
        finally:
            waits.end()
            server.close()


@contextlib.contextmanager
def connected(where: Where, octets: bytes = b"") -> Iterator[socket.socket]:
    """A connection over which this was sent."""
    with socket.create_connection(where, TIMEOUT_S) as connection:
        connection.sendall(octets)
        yield connection


def status(connection: socket.socket) -> int:
    """The status of the next answer, whose body is read as well."""
    with connection.makefile("rb") as lines:
        code = int(lines.readline().split()[1])
        length = 0
        while (line := lines.readline().strip()) != b"":
            name, _, value = line.lower().partition(b": ")
            length = int(value) if name == b"content-length" else length
        lines.read(length)
    return code


def is_closed(connection: socket.socket) -> bool:
    """Whether the server closed it; waits for that or for something to read."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def is_open(connection: socket.socket) -> bool:
    """Whether there is no end behind what can be read now."""
    connection.setblocking(False)
    try:
        while connection.recv(65_536):
            pass
    except BlockingIOError:
        return True
    return False


@pytest.mark.parametrize("octets", [b"", b"G", HALF, POSTED])
def test_unfinished_requests_lock_nobody_out(octets: bytes) -> None:
    """However many connections are held open without a request, the next one is answered."""
    with contextlib.ExitStack() as stack:
        where = stack.enter_context(serving(Few))
        held = [stack.enter_context(connected(where, octets)) for _ in range(3 * Few.most)]
        with connected(where, WHOLE) as one:
            assert status(one) == 200
        assert is_closed(held[0])


def test_who_was_displaced_takes_no_place_any_more() -> None:
    """Though an answer to it is complete before its end is seen: the next one displaces another."""
    with contextlib.ExitStack() as stack:
        where = stack.enter_context(serving(Late))
        for _ in range(2 * Few.most):
            stack.enter_context(connected(where, POSTED))
        with connected(where, WHOLE) as one:
            assert status(one) == 200
        assert Late.late == []


def test_who_goes_in_the_middle_of_a_body_is_no_mistake_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No traceback is written, however often that happens."""
    Known.last = None
    with serving(Known) as where:
        with connected(where, POSTED):
            assert until(lambda: Known.last and Known.last.cycle)
        assert until(lambda: Known.last and not Known.last.tasks)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_who_is_being_answered_is_not_displaced() -> None:
    """A stream goes on, whatever others do without asking anything."""
    with contextlib.ExitStack() as stack:
        where = stack.enter_context(serving(Few))
        stream = stack.enter_context(connected(where, STREAM))
        assert stream.recv(4) == b"HTTP"
        for _ in range(2 * Few.most):
            stack.enter_context(connected(where, HALF))
        with connected(where, WHOLE) as one:
            assert status(one) == 200
        assert is_open(stream)


def test_where_all_are_being_answered_who_comes_is_told_to_come_again() -> None:
    """With an answer like any other, however many come; there is a place when one has ended."""
    with contextlib.ExitStack() as stack:
        where = stack.enter_context(serving(Few))
        streams = [stack.enter_context(connected(where, STREAM)) for _ in range(Few.most)]
        for stream in streams:
            assert stream.recv(4) == b"HTTP"
        for _ in range(2 * Few.most):
            stack.enter_context(connected(where, HALF))
        with connected(where, WHOLE) as one:
            answer = b"".join(iter(lambda: one.recv(65_536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert json.loads(body)["error"]["code"] == "not_ready"
        assert all(is_open(stream) for stream in streams)
        streams[0].close()

        def is_answered() -> bool:
            with connected(where, WHOLE) as one:
                return status(one) == 200

        assert until(is_answered)


@pytest.mark.parametrize(
    ("before", "octet"), [(b"", b"G"), (WHOLE, b"G"), (POSTED, b" "), (WHOLE + POSTED, b" ")]
)
def test_trickling_a_request_does_not_extend_its_time(before: bytes, octet: bytes) -> None:
    """Octet by octet is as good as nothing, on a new connection, after an answer, in a body."""
    with serving(Impatient) as where, connected(where, before) as slow:
        if before.startswith(WHOLE):
            assert status(slow) == 200
        slow.settimeout(Impatient.request_s / 10)
        ends_at = time.monotonic() + TIMEOUT_S
        closed = False
        while not closed:
            assert time.monotonic() < ends_at
            with contextlib.suppress(TimeoutError):
                try:
                    slow.sendall(octet)
                    closed = is_closed(slow)
                except (ConnectionResetError, BrokenPipeError):
                    closed = True


def test_an_answer_longer_than_the_time_for_a_request_is_given() -> None:
    """The time is for the client's part: a blocking query may take longer."""
    with serving(Impatient) as where:
        connection = http.client.HTTPConnection(*where, TIMEOUT_S)
        connection.request("GET", "/v1/snapshot")
        index = json.load(connection.getresponse())["index"]
        connection.request("GET", f"/v1/snapshot?index={index}&wait={3 * Impatient.request_s}s")
        assert connection.getresponse().status == 200
        connection.close()


def test_who_does_not_read_is_hung_up_on() -> None:
    """An answer that nobody takes does not stay for ever."""
    with serving(Impatient, MANY) as where, connected(where) as deaf:
        deaf.settimeout(TIMEOUT_S)
        asked = b"GET /v1/endpoints/web HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            deaf.sendall(asked * 100_000)


def test_an_answer_is_not_kept_for_who_does_not_read_it() -> None:
    """Only a piece of it is."""
    with serving(Known, MANY) as where, connected(where) as deaf:
        deaf.sendall(b"GET /v1/endpoints/web HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
        assert until(lambda: Known.last and Known.last.flow.write_paused)
        assert Known.last is not None
        kept = Known.last.transport.get_write_buffer_size()
        with connected(where, b"GET /v1/endpoints/web HTTP/1.0\r\n\r\n") as other:
            whole = len(b"".join(iter(lambda: other.recv(65_536), b"")))
        assert PIECE <= kept < 3 * PIECE < whole


def test_the_last_answer_does_not_wait_for_ever_to_be_read() -> None:
    """A connection that is closing ends, too, though too little is left to hold up its writer."""
    asked = b"GET /v1/endpoints/web HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with serving(Last, 100) as where, connected(where) as deaf:
        assert until(lambda: Last.waiting)
        (held,) = Last.waiting

        def waits_to_be_read() -> bool:
            deaf.sendall(asked)
            return held.transport.get_write_buffer_size() > 0

        assert until(waits_to_be_read)
        deaf.sendall(HALF + b"Connection: close\r\n\r\n")
        assert until(lambda: not held.connections)


def test_what_is_no_request_is_answered_in_json() -> None:
    """Status 400 and the error as everywhere, then the end of the connection."""
    with serving(Connection) as where, connected(where, b"\x16\x03\x01 nonsense\r\n\r\n") as one:
        answer = b"".join(iter(lambda: one.recv(65_536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"]["code"] == "bad_input"


def test_nonsense_in_the_middle_of_an_answer_is_no_mistake_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The connection ends, and no traceback is written."""
    asked = (
        b"POST /v1/services HTTP/1.1\r\nHost: localhost\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nno chunk\r\n"
    )
    with serving(Connection) as where, connected(where, asked) as one:
        while not is_closed(one):
            pass
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []

"""The sidecar as a whole, on loopback ports that nobody else has."""

import gc
import http.client
import json
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dns.message
import dns.query
import dns.rcode
import pytest
from starlette.types import Receive, Scope, Send

from discovery.client.resolver import Resolver
from discovery.errors import AddressUnusable, SourceUnreachable
from discovery.model import Observation, Service
from discovery.settings import Settings
from discovery.sidecar.app import Answers, application
from discovery.sidecar.listening import HttpServer
from discovery.sidecar.supervisor import SWITCH_INTERVAL_S, Sidecar
from discovery.sidecar.waits import Waits
from discovery.sources.base import FixedSource
from discovery.written import Address, ClusterSettings
from tests.sidecar.fleet import WEB, endpoint, observed

ANY = Address("127.0.0.1", 0)
SETTINGS = Settings(clusters=(ClusterSettings("prod"),), dns=ANY, http=ANY)
TIMEOUT_S = 10.0


@pytest.fixture(autouse=True)
def switch_interval() -> Iterator[None]:
    """The interpreter's switch interval, given back after the test."""
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def source() -> FixedSource:
    """A source that says one service."""
    return FixedSource(now(WEB))


@pytest.fixture
def sidecar(source: FixedSource) -> Iterator[Sidecar]:
    """A sidecar that is ready."""
    with Sidecar(SETTINGS, source=source) as sidecar:
        assert sidecar.resolver.wait_ready(TIMEOUT_S)
        wait_until_ready(sidecar)
        yield sidecar


def now(*services: Service) -> Observation:
    """What is observed at this moment."""
    return observed(*services, at=time.time())


def wait_until_ready(sidecar: Sidecar) -> None:
    """Ask until it is ready; the server answers as soon as its loop runs."""
    for _ in range(1_000):
        if get(sidecar, "/ready")[0] == 200:
            return
    raise AssertionError(sidecar.missing())


def get(sidecar: Sidecar, path: str) -> tuple[int, dict[str, Any]]:
    """Status and body."""
    address = sidecar.http_address
    connection = http.client.HTTPConnection(address.host, address.port, TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_what_is_no_request_is_told_age_and_index(sidecar: Sidecar) -> None:
    """As is everybody else, in JSON."""
    address = sidecar.http_address
    with socket.create_connection((address.host, address.port), TIMEOUT_S) as connection:
        connection.sendall(b"GET\r\n\r\n")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert (answer.status, answer.headers["Content-Type"]) == (400, "application/json")
        assert json.loads(answer.read())["error"]["code"] == "bad_input"
    assert float(answer.headers["X-Discovery-Age"]) < 600
    assert answer.headers["X-Discovery-Index"] == str(sidecar.resolver.snapshot.index)


def ports_in_dns(sidecar: Sidecar) -> set[int]:
    """The ports of web in DNS."""
    query = dns.message.make_query("_http._tcp.web.prod.ecs.internal", "SRV")
    host, port = sidecar.dns_address.host, sidecar.dns_address.port
    answer = dns.query.udp(query, host, TIMEOUT_S, port)
    return {record.port for rrset in answer.answer for record in rrset}


def test_dns_and_http_say_the_same(sidecar: Sidecar) -> None:
    """Both answer from one snapshot."""
    _, body = get(sidecar, "/v1/endpoints/web")
    assert ports_in_dns(sidecar) == {e["port"] for e in body["endpoints"]} == {49_154, 49_155}


def test_a_change_is_in_both(sidecar: Sidecar, source: FixedSource) -> None:
    """What the source says next is answered next."""
    source.say(now(replace(WEB, endpoints=(endpoint(9),))))
    sidecar.resolver.refresh()
    _, body = get(sidecar, "/v1/endpoints/web")
    assert ports_in_dns(sidecar) == {e["port"] for e in body["endpoints"]} == {49_161}


def test_draining_is_not_ready_and_answers(sidecar: Sidecar) -> None:
    """Callers have time to go elsewhere, and are answered meanwhile."""
    sidecar.drain()
    assert get(sidecar, "/ready") == (503, {"ready": False, "waiting_for": ["it is stopping"]})
    assert get(sidecar, "/v1/endpoints/web")[0] == 200
    assert ports_in_dns(sidecar) == {49_154, 49_155}


def test_a_failing_source_is_said_and_tried_again() -> None:
    """It starts without data, readiness names the reason, and the first data makes it ready."""
    source = FixedSource(observed(error=SourceUnreachable("nobody answers")))
    with Sidecar(SETTINGS, source=source) as sidecar:
        while sidecar.resolver.snapshot.clusters[0].error is None:
            sidecar.resolver.wait_ready(0.01)
        status, body = get(sidecar, "/ready")
        assert status == 503
        assert "nobody answers" in " ".join(body["waiting_for"])
        source.say(now(WEB))
        assert sidecar.resolver.wait_ready(TIMEOUT_S)
        wait_until_ready(sidecar)


def test_the_dns_thread_gets_its_turn_quickly(sidecar: Sidecar) -> None:
    """The process that serves lowers the interpreter's switch interval."""
    assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S)


@pytest.mark.parametrize(("which", "flag"), [("dns", "--dns"), ("http", "--http")])
def test_a_taken_address_is_said(which: str, flag: str) -> None:
    """One sentence with the address and the flag, and nothing stays bound."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        settings = (
            replace(SETTINGS, dns=address) if which == "dns" else replace(SETTINGS, http=address)
        )
        sidecar = Sidecar(settings, source=FixedSource(now(WEB)))
        with pytest.raises(AddressUnusable) as caught:
            sidecar.start()
    assert str(address) in caught.value.message
    assert "in use" in caught.value.message
    assert flag in caught.value.message
    with pytest.raises(OSError, match="refused"):
        get(sidecar, "/health")


def test_an_address_of_another_machine_is_said() -> None:
    """The sentence tells it from a taken one."""
    settings = replace(SETTINGS, http=Address("192.0.2.1", 0))
    with pytest.raises(AddressUnusable, match="no address of this machine"):
        Sidecar(settings, source=FixedSource(now(WEB))).start()


def test_closing_gives_everything_back(source: FixedSource) -> None:
    """After the end nobody listens; closing twice is closing once."""
    with Sidecar(SETTINGS, source=source) as sidecar:
        dns_port, http_port = sidecar.dns_address.port, sidecar.http_address.port
    sidecar.close()
    assert not sidecar.is_alive
    for port in (dns_port, http_port):
        socket.create_server(("127.0.0.1", port)).close()


def events(answer: http.client.HTTPResponse) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """The server-sent events: kind, id, data."""
    fields: dict[str, str] = {}
    for line in answer:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name:
            fields[name] = value
        elif "data" in fields:
            yield fields["event"], int(fields["id"]), json.loads(fields["data"])
            fields = {}


def test_events_tell_of_every_change(sidecar: Sidecar, source: FixedSource) -> None:
    """The first event is what is known; then comes each change; the stream ends with us."""
    address = sidecar.http_address
    connection = http.client.HTTPConnection(address.host, address.port, TIMEOUT_S)
    connection.request("GET", "/v1/watch/web")
    stream = events(connection.getresponse())
    kind, first, body = next(stream)
    assert kind == "endpoints"
    assert [e["port"] for e in body["endpoints"]] == [49_154, 49_155]
    source.say(now(replace(WEB, endpoints=(endpoint(9),))))
    sidecar.resolver.refresh()
    _, second, body = next(stream)
    assert [e["port"] for e in body["endpoints"]] == [49_161]
    assert second > first
    sidecar.close()
    assert next(stream, None) is None
    connection.close()


def test_a_client_that_goes_away_gives_its_place_back(source: FixedSource) -> None:
    """Whoever hangs up in the middle of a blocking query keeps nobody else from waiting."""
    with Resolver(source=source, settings=SETTINGS, whole=True) as resolver:
        assert resolver.wait_ready(TIMEOUT_S)
        waits = Waits(resolver, most=1)
        server = HttpServer(application(Answers(resolver, waits, list)), ANY)
        server.start()
        try:
            index = resolver.snapshot.index
            where = (server.address.host, server.address.port)
            query = f"/v1/snapshot?index={index}&wait="
            with socket.create_connection(where, TIMEOUT_S) as leaving:
                leaving.sendall(f"GET {query}5m HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                wait_for_status(where, query + "0s", 503)
            wait_for_status(where, query + "0s", 200)
        finally:
            waits.end()
            server.close()


def wait_for_status(where: tuple[str, int], path: str, status: int) -> None:
    """Ask until it is answered with that status."""
    until = time.monotonic() + TIMEOUT_S
    last = 0
    while last != status:
        assert time.monotonic() < until, f"{path} answers {last}"
        connection = http.client.HTTPConnection(*where, TIMEOUT_S)
        connection.request("GET", path)
        last = connection.getresponse().status
        connection.close()


def test_answers_on_one_connection_do_not_wait_for_acknowledgements(sidecar: Sidecar) -> None:
    """Delayed acknowledgements would cost each answer after the first 40 ms; most take 0.3 ms."""
    address = sidecar.http_address
    connection = http.client.HTTPConnection(address.host, address.port, TIMEOUT_S)
    took_s = []
    for _ in range(21):
        began = time.perf_counter()
        connection.request("GET", "/v1/pick/web")
        connection.getresponse().read()
        took_s.append(time.perf_counter() - began)
    connection.close()
    assert statistics.median(took_s) < 0.03


def test_who_does_not_read_is_cut_at_the_end() -> None:
    """A connection does not outlive its server, whatever is still to be sent on it."""
    begun = threading.Event()

    async def generous(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        begun.set()
        while True:
            await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})

    server = HttpServer(generous, ANY)
    server.start()
    where = (server.address.host, server.address.port)
    with socket.create_connection(where, TIMEOUT_S) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert begun.wait(TIMEOUT_S)
        server.close()
        gc.collect()  # tells of what was left open
        assert not server._server.server_state.connections

"""What transports keep of the protocols below and above them: TLS names, deadlines, forks."""

import os
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from discovery import DiscoveryTransport, Resolver
from discovery.balancing.round_robin import RoundRobin
from discovery.client.kits import kit_of
from discovery.errors import AttemptsFailed
from discovery.sources.base import FixedSource
from tests.client.servers import Server, service_of, source_of
from tests.client.test_fork import in_child
from tests.made import FakeClock, OwnClock, observed, reading

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl is missing: apt-get install openssl"
)


@pytest.fixture
def server() -> Iterator[Server]:
    """One endpoint."""
    with Server(0) as made:
        yield made


def resolver_of(*servers: Server) -> Resolver:
    return Resolver(
        source=source_of(*servers), clock=FakeClock(), monotonic=OwnClock(), policy=RoundRobin
    )


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for the name `web`, and its key."""
    key, found = tmp_path / "key.pem", tmp_path / "web.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=web", "-addext", "subjectAltName=DNS:web"),
            *("-keyout", str(key), "-out", str(found)),
        ],
        check=True,
        capture_output=True,
    )
    return found, key


@needs_openssl
def test_tls_checks_the_services_name(server: Server, certificate: tuple[Path, Path]) -> None:
    """The certificate is the service's, not the address's, and the server is told the name."""
    found, key = certificate
    asked: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(found, key)
    context.sni_callback = lambda _, name, __: asked.append(name)
    server.wrap(context)
    trust = ssl.create_default_context(cafile=found)

    def inner() -> httpx.HTTPTransport:
        return httpx.HTTPTransport(verify=trust)

    with (
        resolver_of(server) as resolver,
        httpx.Client(
            transport=DiscoveryTransport(resolver, inner=inner), trust_env=False
        ) as client,
    ):
        assert client.get("https://web/").text == "0"
        assert asked == ["web"]
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            client.get("https://web.demo/")


def test_a_deadline_is_for_all_attempts_together() -> None:
    """Two hung endpoints take no longer than it, whatever the client's own timeouts are."""
    with Server(0) as one, Server(1) as other, resolver_of(one, other) as resolver:
        one.hung = other.hung = True
        transport = DiscoveryTransport(resolver)
        with httpx.Client(transport=transport, timeout=30.0, trust_env=False) as client:
            began = time.monotonic()
            with pytest.raises(httpx.ReadTimeout) as caught:
                client.get("http://web/", extensions={"deadline_s": 0.4})
            assert time.monotonic() - began < 2.0
        assert isinstance(caught.value.__cause__, AttemptsFailed)


def test_retry_after_is_waited_for_where_there_is_no_other_endpoint(server: Server) -> None:
    """The endpoint is asked again when it said it would be ready."""
    server.status = 503
    server.headers["retry-after"] = "1"
    with (
        resolver_of(server) as resolver,
        httpx.Client(transport=DiscoveryTransport(resolver), trust_env=False) as client,
    ):
        began = time.monotonic()
        threading.Timer(0.5, setattr, (server, "status", 200)).start()
        assert client.get("http://web/").status_code == 200
        assert time.monotonic() - began >= 1.0


def test_a_body_that_is_a_stream_is_sent_once(server: Server) -> None:
    """It cannot be had again, so that even an idempotent request is not repeated."""
    server.status = 503
    with (
        resolver_of(server) as resolver,
        httpx.Client(transport=DiscoveryTransport(resolver), trust_env=False) as client,
    ):
        headers = {"content-length": "4"}
        answer = client.put("http://web/", content=iter([b"ab", b"cd"]), headers=headers)
    assert answer.status_code == 503
    assert [got.body for got in server.got] == [b"abcd"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_of_a_fork_counts_for_itself(server: Server) -> None:
    """What the parent has under way is none of the child's, and no lock is left held."""
    with resolver_of(server) as resolver, resolver.lease("web"):

        def work() -> bool:
            with resolver.lease("web"):
                usage = resolver.usage(resolver.service("web"))
            return [u["in_flight"] for u in usage.values()] == [1]

        assert in_child(work)
        (usage,) = resolver.usage(resolver.service("web")).values()
        assert usage["in_flight"] == 1


def test_a_port_in_the_url_is_the_containers() -> None:
    """Whatever port the host has it at."""
    with Server(0) as web, Server(1) as admin:
        known = service_of(web, admin)
        ports = (80, 9000)
        endpoints = tuple(
            replace(e, container_port=port) for e, port in zip(known.endpoints, ports, strict=True)
        )
        known = replace(
            known,
            endpoints=endpoints,
            ports=tuple(replace(known.ports[0], container_port=port) for port in ports),
        )
        source = source_of()
        source.say(observed(reading(known)))
        with (
            Resolver(source=source, clock=FakeClock()) as resolver,
            httpx.Client(transport=DiscoveryTransport(resolver), trust_env=False) as client,
        ):
            assert client.get("http://web:9000/").text == "1"
            assert client.get("http://web/").text == "0"
            assert admin.got[0].host == "web:9000"


@pytest.mark.parametrize(
    "url", ["http://web/", "http://web:81/a%20b?q=%C3%A4&r", "https://web.demo/x/../y"]
)
def test_an_aimed_request_differs_in_host_and_port_only(url: str, server: Server) -> None:
    """Method, path, query, headers and scheme are the caller's."""
    request = httpx.Request("PUT", url, headers={"a": "b"}, content=b"body")
    for _ in range(2):
        aimed = kit_of(request).aimed(request, server.endpoint, 0.5, None)
        assert (aimed.url.host, aimed.url.port) == ("127.0.0.1", server.port)
        assert (aimed.url.scheme, aimed.url.raw_path) == (request.url.scheme, request.url.raw_path)
        assert aimed.headers == request.headers
        assert (aimed.method, aimed.stream) == (request.method, request.stream)
        assert aimed.extensions["timeout"]["connect"] == 0.5
        assert "timeout" not in request.extensions


def test_timeouts_shrink_until_the_headers_are_there(server: Server) -> None:
    """Each phase gets what is left by then; the body has the caller's time again."""
    given = {"connect": 5.0, "write": 5.0, "read": 1.5, "pool": None}
    request = httpx.Request("GET", "http://web/", extensions={"timeout": given})
    left = iter([2.0, 1.0, 0.2, -1.0])
    kit = kit_of(request)
    aimed = kit.aimed(request, server.endpoint, 0.5, lambda: next(left))
    timeout = aimed.extensions["timeout"]
    phases = ("connect", "write", "read")
    assert [timeout.get(phase, None) for phase in phases] == [0.5, 1.0, 0.2]
    assert 0 < timeout.get("pool", None) < 0.01
    kit.arrived(aimed)
    assert [timeout.get(phase, None) for phase in phases] == [0.5, 5.0, 1.5]


@pytest.mark.parametrize(
    ("url", "want"),
    [
        ("http://web:80/", "1"),
        ("http://_80._tcp.web/", "0"),
        ("http://web:9000/", "1"),
        ("http://web/", "1"),
    ],
)
def test_a_schemes_own_port_in_a_url_is_no_port(url: str, want: str) -> None:
    """Clients drop it, so that the default port is meant; a name can still say it."""
    with Server(0) as web, Server(1) as admin:
        known = service_of(web, admin)
        eighty, nine = known.ports[0], replace(known.ports[0], container_port=9000)
        endpoints = (web.endpoint, replace(admin.endpoint, container_port=9000))
        known = replace(known, endpoints=endpoints, ports=(eighty, nine), default_port=nine)
        with (
            Resolver(source=FixedSource(observed(reading(known))), clock=FakeClock()) as resolver,
            httpx.Client(transport=DiscoveryTransport(resolver), trust_env=False) as client,
        ):
            assert client.get(url).text == want


def test_a_transport_can_be_mounted_for_one_name(server: Server) -> None:
    """Whatever else the client is for goes another way."""
    with Server(1) as stranger, resolver_of(server) as resolver:
        mounts = {"http://web/": DiscoveryTransport(resolver)}
        with httpx.Client(mounts=mounts) as client:
            assert client.get("http://web/").text == "0"
            assert client.get(f"http://127.0.0.1:{stranger.port}/").text == "1"

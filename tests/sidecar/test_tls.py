"""The HTTP server over TLS: for followers, through renewals, and for clients that hold it up."""

import contextlib
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from discovery import Resolver
from discovery.cli import asking
from discovery.errors import BadSetting, CredentialsMissing
from discovery.secret import secret
from discovery.settings import Settings
from discovery.sidecar.connections import Connection
from discovery.sidecar.listening import HttpServer
from discovery.sidecar.supervisor import Sidecar
from discovery.sidecar.tls import Certificate
from discovery.sources.base import FixedSource
from discovery.written import Address, ClusterSettings
from tests.peers.programs import until
from tests.sidecar.fleet import WEB, observed

ANY = Address("127.0.0.1", 0)
SETTINGS = Settings(clusters=(ClusterSettings("prod"),), dns=ANY, http=ANY)
TIMEOUT_S = 10.0
WHOLE = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

Issue = Callable[[], Path]


@pytest.fixture
def issue(tmp_path: Path) -> Issue:
    """A function that writes a new certificate of 127.0.0.1, and its key, into the same file."""
    path, key = tmp_path / "certificate.pem", tmp_path / "key.pem"

    def issued() -> Path:
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
                *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
                *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", path),
            ],
            check=True,
            capture_output=True,
        )
        with path.open("a") as both:
            both.write(key.read_text())
        return path

    return issued


@pytest.fixture
def path(issue: Issue) -> Path:
    """A certificate and its key."""
    return issue()


class Few(Connection):
    """Bounds that a test can reach."""

    most = 3
    request_s = 600.0


class Impatient(Connection):
    """A time that a test can wait for."""

    request_s = 0.2


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that says which scheme it was asked by."""
    await Response(scope["scheme"])(scope, receive, send)


@contextlib.contextmanager
def serving(path: Path, connection: type[Connection] = Connection) -> Iterator[tuple[str, int]]:
    """Where a server of `hello` listens."""
    server = HttpServer(hello, ANY, connection, certificate=Certificate(str(path)))
    server.start()
    try:
        yield server.address.host, server.address.port
    finally:
        server.close()


@contextlib.contextmanager
def connected(where: tuple[str, int]) -> Iterator[socket.socket]:
    """A connection without a handshake."""
    with socket.create_connection(where, TIMEOUT_S) as plain:
        yield plain


def asked(where: tuple[str, int], path: Path) -> bytes:
    """The body of an answer, from whoever has that certificate."""
    trusting = ssl.create_default_context(cafile=path)
    with (
        connected(where) as plain,
        trusting.wrap_socket(plain, server_hostname="127.0.0.1") as encrypted,
    ):
        encrypted.sendall(WHOLE)
        return b"".join(iter(lambda: encrypted.recv(65_536), b"")).partition(b"\r\n\r\n")[2]


def is_closed(plain: socket.socket) -> bool:
    """Whether the server closes it."""
    with contextlib.suppress(ConnectionResetError):
        while octets := plain.recv(65_536):
            assert b"HTTP" not in octets
    return True


def test_a_hub_is_followed_over_tls(path: Path) -> None:
    """With a token, and by who knows the authority."""
    before = sys.getswitchinterval()
    hub = replace(SETTINGS, tls_cert=str(path), http_token=secret("hush"))
    follower = Settings(hub_ca=str(path), hub_token=secret("hush"))
    try:
        with Sidecar(hub, source=FixedSource(observed(WEB, at=time.time()))) as sidecar:
            assert sidecar.url.startswith("https://")
            assert until(lambda: not sidecar.missing())
            with Resolver(source=sidecar.url, settings=follower) as resolver:
                assert resolver.endpoints("web.prod") == WEB.endpoints
            with (
                Resolver(source=sidecar.url, settings=Settings(hub_ca=str(path))) as resolver,
                pytest.raises(CredentialsMissing),
            ):
                resolver.endpoints("web.prod")
    finally:
        sys.setswitchinterval(before)


def test_nothing_is_said_without_tls(path: Path) -> None:
    """A plain request gets no answer, and others do."""
    with serving(path) as where:
        with connected(where) as plain:
            plain.sendall(WHOLE)
            assert is_closed(plain)
        assert asked(where, path) == b"https"


def test_a_request_may_come_with_the_end_of_the_handshake(path: Path) -> None:
    """In one packet, as from who knows what it wants."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = ssl.create_default_context(cafile=path)
    client = trusting.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with serving(path) as where, connected(where) as plain:
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                plain.sendall(outgoing.read())
                incoming.write(plain.recv(65_536))
        client.write(WHOLE)
        plain.sendall(outgoing.read())
        said = b""
        while b"https" not in said:
            incoming.write(plain.recv(65_536))
            with contextlib.suppress(ssl.SSLWantReadError):
                said += client.read()
    assert said.startswith(b"HTTP/1.1 200")


def test_a_renewed_certificate_is_used_by_the_next_connection(path: Path, issue: Issue) -> None:
    """Without a restart; a file that is being written, or is gone, changes nothing."""
    with serving(path) as where:
        first = ssl.get_server_certificate(where)
        text = path.read_text()
        path.write_text(text[: len(text) // 2])
        assert ssl.get_server_certificate(where) == first
        path.unlink()
        assert ssl.get_server_certificate(where) == first
        issue()
        assert ssl.get_server_certificate(where) != first
        assert asked(where, path) == b"https"


def test_unfinished_handshakes_lock_nobody_out(path: Path) -> None:
    """However many are held open, the next one is finished."""
    with serving(path, Few) as where, contextlib.ExitStack() as stack:
        held = [stack.enter_context(connected(where)) for _ in range(3 * Few.most)]
        assert asked(where, path) == b"https"
        assert is_closed(held[0])


def test_a_handshake_has_its_time(path: Path) -> None:
    """Who says nothing, or nonsense, is hung up on."""
    with serving(path, Impatient) as where:
        for octets in (b"", b"\x16\x03\x01", b"nonsense\r\n\r\n"):
            with connected(where) as plain:
                plain.sendall(octets)
                assert is_closed(plain)
        assert asked(where, path) == b"https"


@pytest.mark.parametrize("token", [None, "hush"])
def test_commands_ask_over_tls(
    path: Path, token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token is for who has the certificate that the sidecar beside them is given."""
    with serving(path) as where:
        address = f"https://{where[0]}:{where[1]}"
        if token is not None:
            with pytest.raises(asking.NoAnswer):
                asking.ask(address, "/", TIMEOUT_S, token)
            monkeypatch.setenv("ECS_DISCOVERY_TLS_CERT", str(path))
            (address,) = asking.addresses(f"{where[0]}:{where[1]}")
        assert asking.ask(address, "/", TIMEOUT_S, token).body == b"https"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (replace(SETTINGS, tls_cert="/nowhere.pem"), "tls_cert: '/nowhere.pem'"),
        (replace(SETTINGS, tls_cert=__file__), "tls_cert"),
        (replace(SETTINGS, tls_key="key.pem"), "tls_key: 'key.pem'"),
    ],
)
def test_what_is_no_certificate_is_said(settings: Settings, said: str) -> None:
    """At the start, with the setting's name."""
    with pytest.raises(BadSetting) as caught:
        Sidecar(settings, source=FixedSource(observed(WEB)))
    assert said in caught.value.message

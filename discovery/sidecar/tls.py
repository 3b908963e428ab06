"""TLS for the HTTP server, as hubs want it: followers send them a token.

Rule 1: a handshake has the time of a request, and there are no more of them at once than
connections; the newest displaces the oldest. Rule 2: a certificate that was renewed counts for the
next connection; while its files cannot be read, the one of before does.
"""

import asyncio
import contextlib
import logging
import ssl
from pathlib import Path
from typing import Any, ClassVar

from discovery.errors import BadSetting
from discovery.sidecar.connections import Connection

_log = logging.getLogger("discovery.sidecar")
_GOODBYE_S = 1.0  # for the other one's, which many do not send
_State = tuple[tuple[int, int, int], ...]


class Certificate:
    """A certificate with its chain, and its key, which may be in the same file; both PEM.

    Raises `BadSetting` where they cannot be used.
    """

    def __init__(self, certificate: str, key: str | None = None) -> None:
        self._files = (Path(certificate), *([Path(key)] if key else []))
        try:
            self._state = self._look()
            self._context = self._read()
        except (OSError, ValueError) as why:
            want = f"a PEM file with a certificate, and tls_key its key ({why})"
            raise BadSetting("tls_cert", certificate, want) from why

    def context(self) -> ssl.SSLContext:
        """What the next connection is to have. Looks at the files."""
        try:
            state = self._look()
            if state != self._state:
                self._state = state  # of files that are wrong is said so once
                self._context = self._read()
                _log.info("the certificate in %s was read again", self._files[0])
        except (OSError, ValueError) as why:
            _log.warning("%s: the certificate of before is used: %s", self._files[0], why)
        return self._context

    def _look(self) -> _State:
        found = (path.stat() for path in self._files)
        return tuple((s.st_mtime_ns, s.st_ino, s.st_size) for s in found)

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        # Nobody is asked for a password.
        context.load_cert_chain(self._files[0], self._files[-1], password="")
        return context


class Opening(asyncio.Protocol):
    """A handshake; afterwards its transport is that of a `connection`."""

    connection: ClassVar[type[Connection]]
    certificate: ClassVar[Certificate]
    others: ClassVar[dict["Opening", None]]  # the oldest first

    def __init__(self, **about: Any) -> None:
        self._about = about
        self._early = b""
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; displace the oldest where there are too many."""
        assert isinstance(transport, asyncio.Transport)
        self._plain = transport
        if len(self.others) >= self.connection.most:
            oldest = next(iter(self.others))
            del self.others[oldest]
            oldest._plain.abort()
        self.others[self] = None
        self._task = asyncio.get_running_loop().create_task(self._open())

    def data_received(self, data: bytes) -> None:
        """Keep a request that came with the end of the handshake."""
        self._early += data

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is to be opened any more."""
        self._lost = True

    async def _open(self) -> None:
        transport: asyncio.Transport | None = None
        with contextlib.suppress(OSError):  # whatever the client did wrong
            transport = await asyncio.get_running_loop().start_tls(
                self._plain,
                self,
                self.certificate.context(),
                server_side=True,
                ssl_handshake_timeout=self.connection.request_s,
                ssl_shutdown_timeout=_GOODBYE_S,
            )
        self.others.pop(self, None)
        if transport is None or self._lost:
            self._plain.abort()
            return
        made = self.connection(**self._about)
        transport.set_protocol(made)
        made.connection_made(transport)
        if self._early:
            made.data_received(self._early)


def encrypted(connection: type[Connection], certificate: Certificate) -> type[Opening]:
    """The same connections, which begin with a handshake."""
    members = {"connection": connection, "certificate": certificate, "others": {}}
    return type("Encrypted", (Opening,), members)

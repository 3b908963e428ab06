"""The HTTP server's socket and thread, and what it means when an address cannot be had."""

import asyncio
import errno
import socket
import threading

import uvicorn
from starlette.types import ASGIApp

from discovery.dns.sharing import hand_over, share
from discovery.errors import AddressUnusable
from discovery.sidecar.bodies import InPieces
from discovery.sidecar.connections import Connection
from discovery.sidecar.tls import Certificate, encrypted
from discovery.written import Address

_LAST_ANSWERS_S = 2
_REASONS = {
    errno.EADDRINUSE: "is in use by another program: stop that one or choose another with {flag}",
    errno.EADDRNOTAVAIL: "is no address of this machine: choose another with {flag}",
    errno.EACCES: "needs root or CAP_NET_BIND_SERVICE: choose a port over 1023 with {flag}",
}


def unusable(address: Address, flag: str, error: OSError) -> AddressUnusable:
    """Why we cannot listen there, in one sentence; `flag` is the option that sets the address."""
    why = _REASONS.get(error.errno or 0, f"cannot be listened on ({error}): see {{flag}}")
    return AddressUnusable(f"{address} {why.format(flag=flag)}")


class HttpServer:
    """An ASGI application on an address, served by a thread of its own.

    `connection` has the bounds on what clients may do. A `shared` address may be taken over: see
    `sharing`. With a `certificate` it speaks TLS, and nothing else.
    """

    def __init__(
        self,
        app: ASGIApp,
        address: Address,
        connection: type[Connection] = Connection,
        *,
        shared: bool = False,
        certificate: Certificate | None = None,
    ) -> None:
        self._shared = shared
        self._asked = address
        self._socket: socket.socket | None = None
        self._server = uvicorn.Server(
            uvicorn.Config(
                InPieces(app),
                http=encrypted(connection, certificate) if certificate else connection,
                lifespan="off",
                ws="none",
                log_config=None,
                log_level="error",  # a client's nonsense is answered, and no news
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_LAST_ANSWERS_S,
            )
        )
        self.loop: asyncio.AbstractEventLoop | None = None  # of the thread, once it runs
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)

    @property
    def address(self) -> Address:
        """Where it listens; the port is the real one where 0 was asked for."""
        return self._asked

    @property
    def is_alive(self) -> bool:
        """Whether it was started and has not ended."""
        return self._thread.is_alive()

    @property
    def is_up(self) -> bool:
        """Whether requests are answered."""
        return self._server.started and self._thread.is_alive()

    @property
    def connections(self) -> int:
        """How many connections of clients are open."""
        return len(self._server.server_state.connections)

    def start(self) -> None:
        """Bind and serve. Raises `OSError` where the address cannot be had."""
        family = socket.AF_INET6 if ":" in self._asked.host else socket.AF_INET
        # Only for sockets that name their protocol does asyncio set TCP_NODELAY; without it every
        # answer after a connection's first waits 40 ms for the client's acknowledgement.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self._shared:
                share(listener)
            listener.bind((self._asked.host, self._asked.port))
            listener.listen(512)
        except OSError:
            listener.close()
            raise
        self._socket = listener
        self._asked = Address(self._asked.host, listener.getsockname()[1])
        self._thread.start()

    def hand_over(self) -> None:
        """Leave new connections to the process that shares our address, where there is one."""
        if self._shared and self._socket is not None:
            hand_over(self._socket)

    def close(self) -> None:
        """Answer what was asked already, for two seconds at most, and stop."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(_LAST_ANSWERS_S + 3)
        if self._socket is not None:
            self._socket.close()

    def _serve(self) -> None:
        asyncio.run(self._served())

    async def _served(self) -> None:
        self.loop = asyncio.get_running_loop()
        await self._server.serve(sockets=[self._socket] if self._socket else None)
        for connection in tuple(self._server.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # so that they are closed before the loop is

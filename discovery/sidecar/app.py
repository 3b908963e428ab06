"""The HTTP interface: a read-only view of one resolver that knows whole clusters.

Rule 1: a handler reads the snapshot once, so that its body, age and index belong together.
Rule 2: bodies are made by `documents`; every error is one too, and nothing answers with HTML.
Rule 3: no handler blocks the event loop; names are looked up in memory, never asked of a source.
"""

import difflib
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from discovery import documents
from discovery.client.resolver import Resolver
from discovery.documents import Document
from discovery.errors import DiscoveryError, MethodNotAllowed, NotReady, UnknownPath
from discovery.model import Service, Snapshot
from discovery.names import Name
from discovery.sidecar import openapi
from discovery.sidecar.access import AGE, INDEX, Completed, HostCheck, TokenCheck, seconds
from discovery.sidecar.encoded import Encoded
from discovery.sidecar.feed import FOLLOWER, Feed, takes_gzip
from discovery.sidecar.lookup import any_loaded, known
from discovery.sidecar.origins import OriginCheck
from discovery.sidecar.tags import digest, tag_of, tagged
from discovery.sidecar.waits import Waits, essence, index_and_wait

LEAST_PACKED = 1_000  # octets; less fits into one packet anyway
_LEVEL = 4
_LONGEST_PATH = 200  # of those that are looked for and said
_log = logging.getLogger("discovery")


@dataclass(frozen=True, slots=True)
class Answers:
    """The handlers. `missing` says in sentences what is not ready, nothing when all is."""

    resolver: Resolver
    waits: Waits
    missing: Callable[[], Sequence[str]]
    zone: str = "ecs.internal"
    clock: Callable[[], float] = time.time
    feed: Feed = field(default_factory=Feed)
    encoded: Encoded = field(default_factory=Encoded)

    def routes(self) -> list[Route]:
        """The paths of the interface."""
        return [
            Route("/v1/services", self.services),
            Route("/v1/services/{name:path}", self.service),
            Route("/v1/endpoints/{name:path}", self.endpoints),
            Route("/v1/pick/{name:path}", self.pick),
            Route("/v1/explain/{name:path}", self.explain),
            Route("/v1/history/{name:path}", self.history),
            Route("/v1/snapshot", self.snapshot),
            Route("/v1/watch/{name:path}", self.watch),
            Route("/health", self.health),
            Route("/ready", self.ready),
        ]

    async def services(self, request: Request) -> Response:
        """Every service, with counts and ports."""
        snapshot = any_loaded(self.resolver.snapshot)
        answer = _json(documents.services(snapshot, self.clock()), _headers(snapshot))
        return tagged(request, answer, tag_of(request, snapshot.index, weak=True))

    async def service(self, request: Request) -> Response:
        """One service: endpoints of every port and their use, exclusions, ports, age."""
        snapshot, _, service = self._found(request)
        usage = self.resolver.usage(service)
        body = documents.service(service, snapshot, self.clock(), usage)
        answer = _json(body, self._headers_of(service, snapshot))
        # Its use changes without the index.
        tag = tag_of(request, snapshot.index, f"-{digest(essence(body))}", weak=True)
        return tagged(request, answer, tag)

    async def endpoints(self, request: Request) -> Response:
        """The endpoints at the port that the name asks for; may wait for a change."""
        self._endpoints_now(_text(request))  # what is wrong with the name is said before any wait
        await self.waits.for_query(request)
        snapshot, service, body = self._endpoints_now(_text(request))
        answer = _json(body, self._headers_of(service, snapshot))
        stale = "-stale" if body["stale"] else ""
        return tagged(request, answer, tag_of(request, snapshot.index, stale, weak=True))

    async def pick(self, request: Request) -> Response:
        """One endpoint, balanced."""
        snapshot, _, service = self._found(request)
        body = documents.endpoint(await self.resolver.apick(_text(request)))
        # Whoever gets it a second time was not balanced.
        return _json(body, self._headers_of(service, snapshot) | {"Cache-Control": "no-store"})

    async def explain(self, request: Request) -> Response:
        """Every task, kept or dropped, and why."""
        snapshot, _, service = self._found(request)
        answer = _json(documents.explanation(service), self._headers_of(service, snapshot))
        return tagged(request, answer, tag_of(request, snapshot.index))

    async def history(self, request: Request) -> Response:
        """The last changes of a service; also of one that is gone."""
        text = _text(request)
        changes = self.resolver.history(text)
        snapshot = self.resolver.snapshot if changes else self._found(request)[0]
        answer = _json(documents.history(text, changes), _headers(snapshot))
        return tagged(request, answer, tag_of(request, snapshot.index))

    async def snapshot(self, request: Request) -> Response:
        """Everything, or what changed since `known`, for followers; may wait for a change."""
        known, headers = request.query_params.get("known"), request.headers
        index_and_wait(request.query_params)  # what is wrong is said, whether it is used or not
        self.feed.met(headers.get(FOLLOWER))
        if known is None:
            await self.waits.for_query(request)
        elif self.feed.is_known(known, self.resolver.snapshot):
            with suppress(NotReady):  # too many wait: times are told at once, which costs little
                await self.waits.for_query(request)
        snapshot = any_loaded(self.resolver.snapshot)
        compressed = takes_gzip(headers.get("accept-encoding", ""))
        said = await self.feed.said(snapshot, known, compressed=compressed)
        about = _headers(snapshot) | {
            AGE: seconds(self.clock() - snapshot.observed_at),
            "ETag": said.etag,
            "Vary": "Accept-Encoding",
        }
        if said.etag in headers.get("if-none-match", "").split(", "):
            return Response(status_code=304, headers=about)
        about |= {"Content-Encoding": "gzip"} if compressed else {}
        return Response(said.body, headers=about, media_type="application/json")

    async def watch(self, request: Request) -> Response:
        """Server-sent events: the endpoints now, and whenever they change."""
        text = _text(request)
        self._endpoints_now(text)  # what is wrong with the name is this answer's error

        def now() -> Document:
            try:
                return self._endpoints_now(text)[2]
            except DiscoveryError as error:
                return documents.error(error)

        return self.waits.events(now)

    async def health(self, request: Request) -> Response:
        """Alive."""
        return _json(documents.alive())

    async def ready(self, request: Request) -> Response:
        """Whether the first snapshot is loaded and the listeners are bound, or what is missing."""
        missing = self.missing()
        return _json(documents.readiness(missing), status=503 if missing else 200)

    def _found(self, request: Request) -> tuple[Snapshot, Name, Service]:
        snapshot = self.resolver.snapshot
        name, service = known(snapshot, _text(request), self.zone, self.clock())
        return snapshot, name, service

    def _endpoints_now(self, text: str) -> tuple[Snapshot, Service, Document]:
        snapshot, now = self.resolver.snapshot, self.clock()
        name, service = known(snapshot, text, self.zone, now)
        members = self.encoded.members(service, name)
        return snapshot, service, documents.heading(service, snapshot, now, text) | members

    def _headers_of(self, service: Service, snapshot: Snapshot) -> dict[str, str]:
        return _headers(snapshot) | {AGE: seconds(snapshot.age_s(service, self.clock()))}


def application(
    answers: Answers,
    allowed_hosts: Collection[str] = (),
    beside: Sequence[Route] = (),
    token: Callable[[], str] | None = None,
) -> ASGIApp:
    """The ASGI application. `allowed_hosts` are names taken in Host besides localhost.

    `beside` are the paths of other interfaces that live by the same rules. With a `token` only
    requests that have what it says are answered.
    """
    routes = [*answers.routes(), *beside, *openapi.routes()]
    paths = [route.path.replace(":path", "") for route in routes]

    def on_http_error(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException) and error.status_code == 405:
            return _not_allowed(request.method, (error.headers or {}).get("Allow", "GET"))
        path = request.url.path[:_LONGEST_PATH]
        near = difflib.get_close_matches(path, paths, n=3, cutoff=0.3)
        return _error(UnknownPath(path, near or paths))

    app = Starlette(
        routes=routes,
        exception_handlers={
            DiscoveryError: _on_error,
            HTTPException: on_http_error,
            Exception: _on_mistake,
        },
    )
    app.router.redirect_slashes = False
    # Around all of Starlette, whose own middleware would leave out answers to our mistakes.
    packed = GZipMiddleware(app, minimum_size=LEAST_PACKED, compresslevel=_LEVEL)
    asked = TokenCheck(packed, token, _error) if token else packed
    checked = HostCheck(OriginCheck(asked, _error), allowed_hosts, _error)
    return Completed(checked, lambda: answers.resolver.snapshot, answers.clock)


def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, DiscoveryError)
    return _error(error)


def _on_mistake(request: Request, error: Exception) -> Response:
    # Starlette raises it again for the server's log; the client learns no more than this.
    return _error(DiscoveryError("a mistake of ours; the log has more"))


def _not_allowed(method: str, others: str) -> Response:
    allowed = sorted(others.split(", "))
    use = " or ".join(name for name in allowed if name != "HEAD")
    error = MethodNotAllowed(f"{method} is not allowed here: use {use}")
    return _json(documents.error(error), {"Allow": ", ".join(allowed)}, error.status)


def _error(error: DiscoveryError) -> Response:
    return _json(documents.error(error), status=error.status)


def _json(body: Document, headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
    content = msgspec.json.encode(body) + b"\n"
    return Response(content, status, headers, media_type="application/json")


def _headers(snapshot: Snapshot) -> dict[str, str]:
    return {INDEX: str(snapshot.index)}


def _text(request: Request) -> str:
    text: str = request.path_params["name"]
    return text

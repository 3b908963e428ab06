"""The page at `/`, for people: static files that ask the same paths as everybody else.

Rule 1: the files hold nothing that is known here, so they are for everybody, also where all else
wants a token. Rule 2: a browser runs nothing but these files, and asks nobody but us.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib import resources

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from discovery import documents
from discovery.client.resolver import Resolver
from discovery.ecs.quotas import standings
from discovery.sidecar.access import INDEX

_FILES = {
    "/": ("index.html", "text/html"),
    "/ui/page.css": ("page.css", "text/css"),
    "/ui/page.js": ("page.js", "text/javascript"),
    "/ui/icon.svg": ("icon.svg", "image/svg+xml"),
}
PATHS = frozenset(_FILES)
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True, slots=True)
class Page:
    """The page and what it alone asks for. `missing` says in sentences what is not ready."""

    resolver: Resolver
    missing: Callable[[], Sequence[str]]
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic

    def routes(self) -> list[Route]:
        """The page, its files, and `/v1/status`."""
        return [
            *(Route(path, _file(*file), name="page") for path, file in _FILES.items()),
            Route("/v1/status", self.status),
        ]

    async def status(self, request: Request) -> Response:
        """Clusters with their ages and errors, and how the budgets stand; ready or not."""
        snapshot = self.resolver.snapshot
        budgets = [
            (endpoint, group, round(each.tokens, 1), each.capacity, each.rate, each.factor)
            for (endpoint, group), each in standings(self.monotonic()).items()
        ]
        body = documents.status(snapshot, self.clock(), self.missing(), budgets)
        content = msgspec.json.encode(body) + b"\n"
        headers = {INDEX: str(snapshot.index)}
        return Response(content, headers=headers, media_type="application/json")


def _file(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    content = (resources.files("discovery.sidecar") / "ui" / name).read_bytes()

    async def page(request: Request) -> Response:
        return Response(content, headers=_HEADERS, media_type=media_type)

    return page

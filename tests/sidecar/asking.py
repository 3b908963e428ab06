"""An application asked in memory."""

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx

from discovery.client.resolver import Resolver
from discovery.settings import Settings
from discovery.sidecar.adapters.routes import Adapters
from discovery.sidecar.app import Answers, application
from discovery.sidecar.waits import Waits
from discovery.sources.base import FixedSource
from discovery.written import ClusterSettings
from tests.sidecar.fleet import NOW

SETTINGS = Settings(clusters=(ClusterSettings("prod"),))


class Asked:
    """An application under test, asked in memory; `missing` is what its readiness lacks."""

    def __init__(self, source: FixedSource, *, now: float = NOW, most_waits: int = 9) -> None:
        self.source = source
        self.missing: Sequence[str] = ()
        self.resolver = Resolver(source=source, settings=SETTINGS, whole=True, clock=lambda: now)
        self.waits = Waits(self.resolver, most_waits)
        answers = Answers(self.resolver, self.waits, lambda: list(self.missing), clock=lambda: now)
        beside = Adapters(lambda: self.resolver.snapshot, clock=lambda: now).routes()
        self.app = application(answers, ("Discovery.example",), beside)

    def __call__(
        self,
        path: str,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        body: object = None,
    ) -> httpx.Response:
        """The answer."""
        return asyncio.run(self.answer(path, method, headers, body))

    async def answer(
        self,
        path: str,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        body: object = None,
    ) -> httpx.Response:
        """The answer, for a coroutine. A body that is no octets is sent as JSON."""
        sent: dict[str, Any] = {"content" if isinstance(body, bytes) else "json": body}
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, headers=headers, **sent)

"""The HTTP side: an ASGI callable that reads calls and writes answers.

`POST /` is the AWS API, `/v4/…` the task metadata endpoint, `/_local/…` the control path.
Everything runs on the event loop's thread, which owns the records. A foreign Host header is
refused, so that no web page can reach in through a name of its own.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from discovery.local.control import Control
from discovery.local.errors import ApiError
from discovery.local.faults import decoded
from discovery.local.metadata import container_metadata, task_metadata
from discovery.local.region import Answer, Regions
from discovery.local.throttle import Throttle
from discovery.local.wire import Call, Raw, answered, call_of, refused
from discovery.local.world import Runtime

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
_BODY_LIMIT = 4 << 20
_HOST = re.compile(r"(127\.\d+\.\d+\.\d+|localhost|\[::1\])(:\d+)?$")
_STALE_KEPT = 1000
_log = logging.getLogger(__name__)


class App:
    """Answers every service on one address; `calls` counts by operation."""

    def __init__(
        self, regions: Regions, runtime: Runtime, throttle: Throttle, calls: Counter[str]
    ) -> None:
        self.calls = calls
        self.control = Control(regions, runtime, throttle, calls)
        self._regions = regions
        self._runtime = runtime
        self._throttle = throttle
        self._given: dict[bytes, tuple[float, bytes, str]] = {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        body = await _body(receive)
        path = str(scope["path"])
        if not _HOST.match(headers.get("host", "")):
            answer = 403, b'{"message":"the Host header is not loopback"}', "application/json"
        elif path.startswith(("/_local", "/v4/")):
            answer = self._plain(str(scope["method"]), path, headers, body)
        else:
            answer = await self._call(headers, body)
        await _send(send, *answer)

    def _plain(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, bytes, str]:
        try:
            if path.startswith("/v4/"):
                document = self._metadata(path)
            elif body and not headers.get("content-type", "").startswith("application/json"):
                raise ApiError("UnsupportedMediaType", "send application/json", 415)
            else:
                document = self.control.http(method, path.removeprefix("/_local"), body)
        except (ApiError, KeyError) as error:
            status = error.status if isinstance(error, ApiError) else 404
            text = error.message if isinstance(error, ApiError) else str(error.args[0])
            return status, msgspec.json.encode({"message": text}), "application/json"
        return 200, msgspec.json.encode(document), "application/json"

    def _metadata(self, path: str) -> dict[str, Any]:
        name, _, what = path.removeprefix("/v4/").partition("/")
        region, task, container = self._regions.container(name)
        if what in ("task", "taskWithTags"):
            return task_metadata(region.world, task, what == "taskWithTags")
        if what:
            raise KeyError(f"no {path}")
        return container_metadata(region.world, task, container)

    async def _call(self, headers: dict[str, str], body: bytes) -> tuple[int, bytes, str]:
        request_id = f"{self._runtime.random.getrandbits(128):032x}"
        service = "ecs"
        try:
            call = call_of(headers, body)
            service = call.service
            self.calls[call.operation] += 1
            content, kind = await self._carried_out(call, request_id)
        except ApiError as error:
            content, kind = refused(service, error, request_id)
            return error.status, content, kind
        return 200, content, kind

    async def _carried_out(self, call: Call, request_id: str) -> tuple[bytes, str]:
        """The answer of a call, with the faults that are on."""
        faults = self._runtime.faults
        caller = self._regions.identities.caller(call.access_key)
        late = faults.met("latency", call, caller.arn)
        if late is not None:
            await asyncio.sleep(float(late.value or 0))
        faults.check(call, caller.arn)
        if call.service == "ecs":
            owner = f"{caller.account}/{call.region or self._regions.region}"
            self._throttle.take(owner, call.operation)
        old = faults.met("stale", call, caller.arn)
        if old is not None and (kept := self._kept(call, float(old.value or 0))):
            return kept
        content, kind = answered(call, await self._result(call, caller.arn), request_id)
        if old is not None:
            self._keep(call, content, kind)
        if faults.met("torn", call, caller.arn):
            content = content[: len(content) // 2]
        return content, kind

    async def _result(self, call: Call, principal: str) -> Answer:
        try:
            answer = self._regions.answer(call)
            if inspect.isawaitable(answer):
                answer = await answer
        except ApiError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            _log.info("%s could not be read", call.operation, exc_info=True)
            raise ApiError("SerializationException", f"{type(error).__name__}: {error}") from error
        except Exception as error:
            _log.exception("%s failed", call.operation)
            raise ApiError("ServerException", str(error), 500) from error
        if self._runtime.faults.alters():
            document = decoded(answer.body) if isinstance(answer, Raw) else answer
            answer = self._runtime.faults.alter(call, principal, document)
        return answer

    def _kept(self, call: Call, age_s: float) -> tuple[bytes, str] | None:
        since, content, kind = self._given.get(_key(call), (0.0, b"", ""))
        return (content, kind) if self._runtime.clock() - since < age_s else None

    def _keep(self, call: Call, content: bytes, kind: str) -> None:
        if len(self._given) >= _STALE_KEPT:
            self._given.pop(next(iter(self._given)))
        self._given[_key(call)] = (self._runtime.clock(), content, kind)


def _key(call: Call) -> bytes:
    return msgspec.json.encode([call.service, call.operation, call.region, call.request])


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body") or len(body) > _BODY_LIMIT:
            return body


async def _send(send: Send, status: int, content: bytes, kind: str) -> None:
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})

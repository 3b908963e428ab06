"""The OpenAPI document (3.1) of the HTTP interface: every path, and every answer it may give."""

from collections.abc import Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import discovery
from discovery.documents import Document
from discovery.sidecar.openapi_schemas import SCHEMAS, ref
from discovery.sidecar.waits import GREATEST_INDEX

_MEANINGS = {
    200: "Found.",
    304: "As it was: the client has it.",
    400: "The request cannot be understood.",
    401: "A bearer token is wanted (setting http_token).",
    403: "The Host or Origin header names a host that is not ours.",
    404: "There is nothing by that name.",
    405: "Not with this method.",
    413: "The body is too large.",
    415: "The body's media type is not taken.",
    503: "Nothing to answer with, for now: not read yet, too old, or too many ask or wait.",
}
_EVERYWHERE = (401, 403, 405, 503)
# What names may be: no slash, no space, at most 1,024 characters; see the README for their parts.
_NAME = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "[_PORT._PROTO.]SERVICE[.CLUSTER][.ZONE]",
    "schema": ref("Name"),
    "example": "web",
}
_INDEX = {
    "name": "index",
    "in": "query",
    "description": "Wait while this is the current index.",
    "schema": {"type": "integer", "minimum": 0, "maximum": GREATEST_INDEX},
}
_WAIT = {
    "name": "wait",
    "in": "query",
    "description": "Wait for so long, 30s by default and 5m at most.",
    "schema": {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*(ms|[smhd]?)\s*$"},
}
_KNOWN = {
    "name": "known",
    "in": "query",
    "description": "PUBLISHER.INDEX of what is known; the answer then has only what changed since.",
    "schema": {"type": "string"},
}
_FOLLOWER = {
    "name": "X-Discovery-Follower",
    "in": "header",
    "description": "A name of up to 64 characters, by which followers are counted.",
    "schema": {"type": "string"},
}
_CLUSTER = {
    "name": "cluster",
    "in": "query",
    "description": "Only this cluster; may be repeated.",
    "schema": {"type": "array", "items": {"type": "string"}},
}
_DNS = {
    "name": "dns",
    "in": "query",
    "required": True,
    "description": "A DNS message in base64url without padding (RFC 8484).",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"},
}
_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "description": "Tags of what the client has.",
    "schema": {"type": "string"},
}
_AGE: Document = {
    "X-Discovery-Age": {
        "description": "Seconds since what is said was last read whole.",
        "required": True,
        "schema": {"type": "string", "pattern": r"^\d+\.\d{3}$"},
    },
    "X-Discovery-Index": {
        "description": "The index of what is said.",
        "required": True,
        "schema": {"type": "string", "pattern": r"^\d+$"},
    },
}


def routes() -> list[Route]:
    """The path of the document."""
    content = msgspec.json.encode(document(discovery.__version__)) + b"\n"

    async def openapi(request: Request) -> Response:
        return Response(content, media_type="application/json")

    return [Route("/openapi.json", openapi)]


def document(version: str) -> Document:
    """The document; `version` is the package's."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ecs-discovery",
            "version": version,
            "description": "Read-only: services on AWS ECS, and where their tasks are.",
        },
        "paths": _paths(),
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _paths() -> Document:
    json = "application/json"
    found = {
        "/v1/services": _get("Every service", "Services", 304, 503, parameters=[_MATCH]),
        "/v1/services/{name}": _of_name(
            "One service and all its endpoints", "Service", 304, more=[_MATCH]
        ),
        "/v1/endpoints/{name}": _of_name(
            "Endpoints at a port; may wait", "Endpoints", 304, more=[_INDEX, _WAIT, _MATCH]
        ),
        "/v1/pick/{name}": _of_name("One endpoint, balanced", "Endpoint"),
        "/v1/explain/{name}": _of_name(
            "Why tasks are endpoints", "Explanation", 304, more=[_MATCH]
        ),
        "/v1/history/{name}": _of_name("The last changes", "History", 304, more=[_MATCH]),
        "/v1/watch/{name}": {
            "get": _operation(
                "Server-sent events: Endpoints now, and at each change",
                _content("text/event-stream", {"type": "string"}),
                (400, 404, 503),
                [_NAME],
            )
        },
        "/v1/snapshot": _get(
            "Everything; may wait",
            "Snapshot",
            *(304, 400, 503),
            parameters=[_INDEX, _WAIT, _KNOWN, _MATCH, _FOLLOWER],
        ),
        "/v1/status": _get("Ages, errors and budgets", "Status"),
        "/health": _get("Alive", "Alive"),
        "/ready": {"get": _ready()},
        "/metrics": {
            "get": _operation("Metrics", _content("text/plain", {"type": "string"}), (), [])
        },
        "/sd/prometheus": _get(
            "Targets for http_sd_configs",
            "Targets",
            *(304, 404, 503),
            parameters=[_CLUSTER, _MATCH],
        ),
        "/sd/traefik": _get(
            "Services for the http provider",
            "Traefik",
            *(304, 404, 503),
            parameters=[_CLUSTER, _MATCH],
        ),
        "/v3/discovery:clusters": {"post": _xds("Envoy's clusters (CDS)")},
        "/v3/discovery:endpoints": {"post": _xds("Envoy's endpoints (EDS)")},
        "/openapi.json": {
            "get": _operation("This document", _content(json, {"type": "object"}), (), [])
        },
        "/dns-query": _dns(),
    }
    return dict(found)


def _get(
    summary: str, schema: str, *codes: int, parameters: list[Document] | None = None
) -> Document:
    content = _content("application/json", ref(schema))
    return {"get": _operation(summary, content, codes, parameters or [])}


def _of_name(
    summary: str, schema: str, *codes: int, more: list[Document] | None = None
) -> Document:
    return _get(summary, schema, *codes, 400, 404, 503, parameters=[_NAME, *(more or [])])


def _ready() -> Document:
    content = _content("application/json", ref("Readiness"))
    operation = _operation("Whether all is read and bound", content, (), [])
    operation["responses"]["503"] = _response("Something is not ready.", content)
    return operation


def _xds(summary: str) -> Document:
    content = _content("application/json", ref("DiscoveryResponse"))
    body = {"required": True, "content": _content("application/json", ref("DiscoveryRequest"))}
    return _operation(summary, content, (304, 400, 413, 503), []) | {"requestBody": body}


def _dns() -> Document:
    message = _content("application/dns-message", {})
    asked = _operation("A DNS query (RFC 8484)", message, (400, 413), [_DNS])
    posted = _operation("A DNS query (RFC 8484)", message, (400, 413, 415), [])
    return {"get": asked, "post": posted | {"requestBody": {"required": True, "content": message}}}


def _operation(
    summary: str, content: Document, codes: tuple[int, ...], parameters: list[Document]
) -> Document:
    error = _content("application/json", ref("Error"))
    responses = {"200": _response(_MEANINGS[200], content)}
    for code in sorted({*codes, *_EVERYWHERE}):
        responses[str(code)] = _response(_MEANINGS[code], error if code != 304 else None)
    operation: Document = {"summary": summary, "responses": responses}
    return operation | ({"parameters": parameters} if parameters else {})


def _response(meaning: str, content: Document | None) -> Document:
    found: Document = {"description": meaning, "headers": _AGE}
    return found | ({"content": content} if content else {})


def _content(media_type: str, schema: Mapping[str, object]) -> Document:
    return {media_type: {"schema": dict(schema)}}

"""The bodies of the HTTP interface as JSON Schema (draft 2020-12), for the OpenAPI document.

Every member is required: what is not known is null, never absent. Further members may come.
"""

from typing import get_args

from discovery.documents import Document
from discovery.model import Happening, Health, Kind, Protocol


def ref(name: str) -> Document:
    """A schema by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def several(items: Document) -> Document:
    """An array."""
    return {"type": "array", "items": items}


def _object(about: str, **members: Document) -> Document:
    return {
        "type": "object",
        "description": about,
        "required": list(members),
        "properties": members,
    }


def _or_null(schema: Document) -> Document:
    return {"anyOf": [schema, {"type": "null"}]}


def _enum(*values: str) -> Document:
    return {"type": "string", "enum": list(values)}


_TEXT: Document = {"type": "string"}
_COUNT: Document = {"type": "integer", "minimum": 0}
_NUMBER: Document = {"type": "number"}
_SECONDS: Document = {"type": "number", "minimum": 0, "description": "seconds"}
_TIME: Document = {"type": "number", "description": "seconds since the epoch"}
_TRUTH: Document = {"type": "boolean"}
_PORT: Document = {"type": "integer", "minimum": 1, "maximum": 65_535}
_TEXTS: Document = {"type": "object", "additionalProperties": _TEXT}
_INDEX: Document = {"type": "integer", "minimum": 0, "description": "what blocking queries wait on"}
_NAME_OR_NULL = _or_null(_TEXT)
_PORT_OR_NULL = _or_null(_PORT)

_ENDPOINT: dict[str, Document] = {
    "host": {"type": "string", "description": "an IP address"},
    "port": _PORT,
    "protocol": _enum(*get_args(Protocol)),
    "url": _NAME_OR_NULL,
    "container_port": _PORT_OR_NULL,
    "port_name": _NAME_OR_NULL,
    "container": _NAME_OR_NULL,
    "task_arn": _NAME_OR_NULL,
    "task_definition": _NAME_OR_NULL,
    "cluster": _TEXT,
    "service": _TEXT,
    "zone": _NAME_OR_NULL,
    "health": _enum(*get_args(Health)),
    "weight": {"type": "number", "minimum": 0},
    "labels": _TEXTS,
}
_ENDPOINTS: dict[str, Document] = {
    "name": _TEXT,
    "cluster": _TEXT,
    "service": _TEXT,
    "index": _INDEX,
    "age_s": _SECONDS,
    "stale": _TRUTH,
    "endpoints": several(ref("Endpoint")),
    "excluded": several(ref("Exclusion")),
}
_TASK: dict[str, Document] = {
    "task_arn": _NAME_OR_NULL,
    "container": _NAME_OR_NULL,
    "container_port": _PORT_OR_NULL,
}

# Names may be of other forms, too, and be longer: what fits this is never refused as no name.
_NAME: Document = {"type": "string", "pattern": "^[A-Za-z0-9-][A-Za-z0-9_-]{0,254}$"}

SCHEMAS: dict[str, Document] = {
    "Name": _NAME,
    "Endpoint": _object("One callable port of one container.", **_ENDPOINT),
    "UsedEndpoint": _object(
        "An endpoint, and what this process's own requests know of it.",
        **_ENDPOINT,
        in_flight=_COUNT,
        latency_s=_or_null(_SECONDS),
        ejected=_or_null(ref("Ejection")),
    ),
    "Ejection": _object(
        "Why an endpoint is left alone, and for how long.", cause=_TEXT, why=_TEXT, for_s=_NUMBER
    ),
    "Exclusion": _object(
        "Why a task is no endpoint.", task_arn=_TEXT, container=_NAME_OR_NULL, reason=_TEXT
    ),
    "Port": _object(
        "A port that a service offers.",
        name=_NAME_OR_NULL,
        container_port=_PORT,
        protocol=_enum(*get_args(Protocol)),
    ),
    "Endpoints": _object("The endpoints at the port that a name asks for.", **_ENDPOINTS),
    "Service": _object(
        "One service, with the endpoints of all its ports.",
        **{**_ENDPOINTS, "endpoints": several(ref("UsedEndpoint"))},
        kind=_enum(*get_args(Kind)),
        ports=several(ref("Port")),
        default_port=_or_null(ref("Port")),
        last_resort=_TRUTH,
    ),
    "Services": _object(
        "Every service.",
        index=_INDEX,
        age_s=_SECONDS,
        services=several(
            _object(
                "A service and how much there is of it.",
                name=_TEXT,
                cluster=_TEXT,
                kind=_enum(*get_args(Kind)),
                endpoints=_COUNT,
                excluded=_COUNT,
                ports=several(ref("Port")),
            )
        ),
    ),
    "Explanation": _object(
        "Every task of a service, kept or dropped, and why.",
        name=_TEXT,
        tasks=several(
            _object(
                "A verdict.",
                **_TASK,
                verdict=_enum("kept", "excluded", "last resort"),
                reason=_TEXT,
            )
        ),
    ),
    "History": _object(
        "The last changes of a service, the oldest first.",
        name=_TEXT,
        changes=several(
            _object(
                "A change.",
                **_TASK,
                at=_TIME,
                index=_INDEX,
                kind=_enum(*get_args(Happening)),
                address=_NAME_OR_NULL,
                reason=_TEXT,
            )
        ),
    ),
    "Snapshot": _object(
        "Everything, or with `since` what changed, for whoever follows; see `known`.",
        format={"type": "integer"},
        index=_INDEX,
        observed_at=_TIME,
        services=several(_object("A service, as Endpoints and more.", **_ENDPOINTS)),
    ),
    "Status": _object(
        "How old what is known is, and what is left of the budgets of calls.",
        index=_INDEX,
        ready=_TRUTH,
        waiting_for=several(_TEXT),
        stale_after_s=_SECONDS,
        clusters=several(
            _object(
                "A cluster.",
                name=_TEXT,
                age_s=_or_null(_SECONDS),
                error=_NAME_OR_NULL,
                services=_COUNT,
                endpoints=_COUNT,
                excluded=_COUNT,
            )
        ),
        budgets=several(
            _object(
                "A budget of calls.",
                endpoint=_TEXT,
                group=_TEXT,
                available=_NUMBER,
                capacity=_NUMBER,
                per_s=_NUMBER,
                factor=_NUMBER,
            )
        ),
    ),
    "Alive": _object("Whoever answers is alive.", status=_enum("alive")),
    "Readiness": _object(
        "What is not ready, in sentences.", ready=_TRUTH, waiting_for=several(_TEXT)
    ),
    "Targets": several(
        _object("A target of Prometheus's http_sd_configs.", targets=several(_TEXT), labels=_TEXTS)
    ),
    "Traefik": {"type": "object", "description": "Dynamic configuration of Traefik."},
    "DiscoveryRequest": {
        "type": "object",
        "description": "envoy.service.discovery.v3.DiscoveryRequest",
        "properties": {
            "version_info": {"type": ["string", "null"]},
            "resource_names": _or_null(several(_TEXT)),
        },
    },
    "DiscoveryResponse": _object(
        "envoy.service.discovery.v3.DiscoveryResponse",
        version_info=_TEXT,
        type_url=_TEXT,
        nonce=_TEXT,
        resources=several({"type": "object", "required": ["@type"]}),
    ),
    "Error": _object(
        "What was wrong, for machines (`code`) and people (`message`).",
        error=_object(
            "With `suggestions` where something like it exists.",
            code=_TEXT,
            message=_TEXT,
            name=_NAME_OR_NULL,
        ),
    ),
}

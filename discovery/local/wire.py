"""The protocols of the AWS services: who is asked what, and how an answer is written.

ECS, SSM and SQS speak JSON with the operation in `X-Amz-Target`; EC2, ELBv2 and STS take a form
and answer XML. A handler sees and returns plain dicts; a list in XML becomes `<member>` (query)
or `<item>` (EC2) elements.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

import msgspec

from discovery.local.errors import ApiError

_TARGETS = {
    "AmazonEC2ContainerServiceV20141113": "ecs",
    "AmazonSSM": "ssm",
    "AmazonSQS": "sqs",
}
_VERSIONS = {"2016-11-15": "ec2", "2015-12-01": "elbv2", "2011-06-15": "sts"}
_NAMESPACES = {
    "ec2": "http://ec2.amazonaws.com/doc/2016-11-15/",
    "elbv2": "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/",
    "sts": "https://sts.amazonaws.com/doc/2011-06-15/",
}
_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/\d+/([a-z0-9-]+)/")


@dataclass(frozen=True, slots=True)
class Call:
    """One request: `access_key` and `region` come from its signature, None when unsigned."""

    service: str
    operation: str
    request: dict[str, Any]
    access_key: str | None
    region: str | None

    @property
    def action(self) -> str:
        """What IAM calls it, such as `ecs:ListTasks`."""
        service = "elasticloadbalancing" if self.service == "elbv2" else self.service
        # IAM knows no batches: DeleteMessageBatch needs sqs:DeleteMessage.
        return f"{service}:{self.operation.removesuffix('Batch')}"


@dataclass(frozen=True, slots=True)
class Raw:
    """An answer that is already encoded JSON."""

    body: bytes


def call_of(headers: dict[str, str], body: bytes) -> Call:
    """The call in an HTTP request; header names are lower case. Raises `ApiError`."""
    signed = _CREDENTIAL.search(headers.get("authorization", ""))
    access_key, region = (signed[1], signed[2]) if signed else (None, None)
    target = headers.get("x-amz-target")
    if target:
        prefix, _, operation = target.rpartition(".")
        if prefix not in _TARGETS:
            raise ApiError("UnknownOperationException", f"Unknown target {target}", 404)
        return Call(_TARGETS[prefix], operation, _json(body), access_key, region)
    form = _form(body)
    service = _VERSIONS.get(form.get("Version", ""))
    if service is None:
        raise ApiError("InvalidAction", "Could not find operation", 400)
    action = str(form.pop("Action", ""))
    form.pop("Version")
    return Call(service, action, form, access_key, region)


def _json(body: bytes) -> dict[str, Any]:
    try:
        request = msgspec.json.decode(body or b"{}")
    except msgspec.DecodeError as error:
        raise ApiError("SerializationException", str(error)) from error
    if not isinstance(request, dict):
        raise ApiError(
            "SerializationException", "Start of structure or map found where not expected"
        )
    return {key: value for key, value in request.items() if value is not None}


def _form(body: bytes) -> dict[str, Any]:
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True))
    except (UnicodeDecodeError, ValueError) as error:
        raise ApiError("MalformedQueryString", str(error)) from error


def listed(form: dict[str, Any], name: str) -> list[str]:
    """The values `name.1`, `name.2`, … (EC2) or `name.member.1`, … (query) of a form."""
    pattern = re.compile(rf"{re.escape(name)}\.(?:member\.)?(\d+)$")
    found = [(int(m[1]), str(v)) for k, v in form.items() if (m := pattern.match(k))]
    return [value for _, value in sorted(found)]


def answered(call: Call, result: dict[str, Any] | Raw, request_id: str) -> tuple[bytes, str]:
    """Body and content type of a successful answer."""
    if isinstance(result, Raw):
        return result.body, _json_type(call.service)
    if call.service not in _NAMESPACES:
        return msgspec.json.encode(result), _json_type(call.service)
    space = _NAMESPACES[call.service]
    root = f"{call.operation}Response"
    if call.service == "ec2":
        inner = f"<requestId>{request_id}</requestId>{_xml(result, 'item')}"
    else:
        wrapped = f"<{call.operation}Result>{_xml(result, 'member')}</{call.operation}Result>"
        inner = wrapped + _metadata(request_id)
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} xmlns="{space}">{inner}</{root}>'
    return text.encode(), "text/xml;charset=UTF-8"


def refused(service: str, error: ApiError, request_id: str) -> tuple[bytes, str]:
    """Body and content type of an error."""
    code, message = escape(error.code), escape(error.message)
    if service == "ec2":
        inner = f"<Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
        text = f"<Response>{inner}<RequestID>{request_id}</RequestID></Response>"
    elif service in _NAMESPACES:
        kind = "Sender" if error.status < 500 else "Receiver"
        inner = f"<Type>{kind}</Type><Code>{code}</Code><Message>{message}</Message>"
        text = f"<ErrorResponse><Error>{inner}</Error><RequestId>{request_id}</RequestId>"
        text += "</ErrorResponse>"
    else:
        body = {"__type": error.code, "message": error.message}
        return msgspec.json.encode(body), _json_type(service)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode(), "text/xml;charset=UTF-8"


def _json_type(service: str) -> str:
    return "application/x-amz-json-1.0" if service == "sqs" else "application/x-amz-json-1.1"


def _metadata(request_id: str) -> str:
    return f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"


def _xml(value: Any, item: str) -> str:
    if isinstance(value, dict):
        return "".join(f"<{k}>{_xml(v, item)}</{k}>" for k, v in value.items() if v is not None)
    if isinstance(value, list):
        return "".join(f"<{item}>{_xml(v, item)}</{item}>" for v in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return escape(str(value))

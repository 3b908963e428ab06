"""A client that validates every answer strictly against botocore's service model.

Unknown members, wrong types, values outside an enumeration and missing required members fail the
test. The answer comes back as botocore parses it.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

import botocore.session
from botocore.model import ServiceModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from discovery.local.server import LocalECS

_LOADER = botocore.session.get_session().get_component("data_loader")
_MODELS: dict[str, ServiceModel] = {}
_NUMBERS: dict[str, Any] = {
    "integer": int,
    "long": int,
    "float": (int, float),
    "double": (int, float),
}


class Refused(Exception):
    """An error answer: `code`, `message` and the HTTP `status`."""

    def __init__(self, code: str, message: str, status: int) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


def model(service: str) -> ServiceModel:
    """The service model of a service by its botocore name."""
    if service not in _MODELS:
        description = _LOADER.load_service_model(service, "service-2")
        _MODELS[service] = ServiceModel(description, service)
    return _MODELS[service]


class Api:
    """Calls of one server; `region` and `key` are what a signature would carry."""

    def __init__(self, ecs: LocalECS, region: str = "us-east-1", key: str = "AKIDTEST") -> None:
        self._address = ecs.url.removeprefix("http://")
        self._scope = f"{key}/{datetime.now(UTC):%Y%m%d}/{region}"

    def ecs(self, operation: str, /, **params: Any) -> Any:
        """An ECS call."""
        return self.call("ecs", operation, **params)

    def ec2(self, operation: str, /, **params: Any) -> Any:
        """An EC2 call."""
        return self.call("ec2", operation, **params)

    def call(self, service: str, operation: str, /, **params: Any) -> Any:
        """A call of any service; raises `Refused`."""
        status, headers, body = self.raw(service, operation, params)
        described = model(service).operation_model(operation)
        protocol = described.service_model.metadata["protocol"]
        shape: Any = described.output_shape
        answer = {"status_code": status, "headers": headers, "body": body}
        parsed: Any = create_parser(protocol).parse(answer, shape)
        if status >= 300:
            error = parsed["Error"]
            raise Refused(error["Code"], error["Message"], status)
        if shape is not None and protocol == "json":
            check(json.loads(body), shape)
        elif shape is not None:
            check_xml(body, shape, operation)
        parsed.pop("ResponseMetadata", None)
        return parsed

    def raw(
        self, service: str, operation: str, params: dict[str, Any]
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of a call, as they are on the wire."""
        described = model(service).operation_model(operation)
        serializer: Any = create_serializer(described.service_model.metadata["protocol"])
        request = serializer.serialize_to_request(params, described)
        body = request["body"]
        if isinstance(body, dict):
            body = urlencode(body)
        headers = dict(request["headers"])
        headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self._scope}/{service}/aws4_request"
        )
        connection = HTTPConnection(self._address, timeout=30)
        try:
            connection.request("POST", "/", body, headers)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()


def check(value: Any, shape: Any, path: str = "") -> None:
    """Fail unless a JSON value is exactly of its shape."""
    kind = shape.type_name
    if kind == "structure":
        assert isinstance(value, dict), f"{path} is no object: {value!r}"
        unknown = value.keys() - shape.members.keys()
        assert not unknown, f"{path} has unknown members {sorted(unknown)}"
        missing = set(shape.required_members) - value.keys()
        assert not missing, f"{path} lacks {sorted(missing)}"
        for name, each in value.items():
            check(each, shape.members[name], f"{path}.{name}")
    elif kind == "list":
        assert isinstance(value, list), f"{path} is no list: {value!r}"
        for number, each in enumerate(value):
            check(each, shape.member, f"{path}[{number}]")
    elif kind == "map":
        assert isinstance(value, dict), f"{path} is no map: {value!r}"
        for name, each in value.items():
            check(each, shape.value, f"{path}.{name}")
    else:
        _check_scalar(value, shape, path)


def _check_scalar(value: Any, shape: Any, path: str) -> None:
    kind = shape.type_name
    if kind == "string":
        assert isinstance(value, str), f"{path} is no string: {value!r}"
        assert not shape.enum or value in shape.enum, f"{path} is {value!r}, not of {shape.enum}"
    elif kind == "boolean":
        assert isinstance(value, bool), f"{path} is no boolean: {value!r}"
    elif kind == "timestamp":
        assert isinstance(value, int | float), f"{path} is no epoch number: {value!r}"
        assert not isinstance(value, bool)
    else:
        assert isinstance(value, _NUMBERS[kind]), f"{path} is no {kind}: {value!r}"
        assert not isinstance(value, bool), f"{path} is a boolean"


def check_xml(body: bytes, shape: Any, operation: str) -> None:
    """Fail unless an XML answer has only elements of its shape."""
    root = ElementTree.fromstring(body)
    assert _tag(root) == f"{operation}Response"
    children = [each for each in root if _tag(each) not in ("requestId", "ResponseMetadata")]
    if [_tag(each) for each in children] == [f"{operation}Result"]:
        children = list(children[0])
    _check_structure(children, shape, operation)


def _check_structure(children: list[ElementTree.Element], shape: Any, path: str) -> None:
    names = {each.serialization.get("name", name): each for name, each in shape.members.items()}
    for child in children:
        assert _tag(child) in names, f"{path} has the unknown element {_tag(child)}"
        _check_element(child, names[_tag(child)], f"{path}.{_tag(child)}")


def _check_element(element: ElementTree.Element, shape: Any, path: str) -> None:
    if shape.type_name == "structure":
        _check_structure(list(element), shape, path)
    elif shape.type_name == "list":
        item = shape.member.serialization.get("name", "member")
        for each in element:
            assert _tag(each) == item, f"{path} has the item {_tag(each)}, not {item}"
            _check_element(each, shape.member, f"{path}[]")
    elif shape.type_name == "integer":
        int(element.text or "")
    elif shape.type_name == "boolean":
        assert element.text in ("true", "false"), path
    elif shape.type_name == "string" and shape.enum:
        assert element.text in shape.enum, f"{path} is {element.text!r}, not of {shape.enum}"


def _tag(element: ElementTree.Element) -> str:
    return element.tag.partition("}")[2] or element.tag

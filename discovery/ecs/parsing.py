"""A response parser for botocore that leaves the answers of the frequent calls as they came.

botocore reads each member by its model, which costs more than everything else of a read together.
Readers here need no model: they take documents that anything may be missing from. Errors, and the
answers of every other operation, are read by botocore as ever.

Importing this module loads botocore.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from botocore.model import Shape
from botocore.parsers import JSONParser, ResponseParserFactory


class _Tasks(msgspec.Struct):
    """Each task stays the text that it came as: most are what they were a moment ago."""

    tasks: list[msgspec.Raw] | None = None
    failures: list[dict[str, Any]] | None = None


_decode_tasks = msgspec.json.Decoder(_Tasks).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_AS_IT_CAME = {
    "DescribeTasksResponse",
    "ListTasksResponse",
    "ListServicesResponse",
    "DescribeServicesResponse",
    "DescribeContainerInstancesResponse",
    "DescribeTaskDefinitionResponse",
}


class Parser(JSONParser):
    """botocore's JSON parser but for answers that are used as they are."""

    def parse(self, response: Mapping[str, Any], shape: Shape) -> Any:
        """What botocore's gives; the members of a frequent answer are as they came."""
        name = shape.name if shape is not None else ""
        if response["status_code"] >= 301 or name not in _AS_IT_CAME:
            return super().parse(response, shape)
        try:
            members = _read(name, response["body"])
        except msgspec.DecodeError:  # whatever came instead, botocore has a word for it
            return super().parse(response, shape)
        bare = super().parse({**response, "body": b""}, shape)
        return {**members, "ResponseMetadata": bare["ResponseMetadata"]}


class ParserFactory(ResponseParserFactory):
    """Gives a session's clients this parser for JSON answers."""

    def create_parser(self, protocol_name: str) -> Any:
        """A parser for the protocol."""
        return Parser() if protocol_name == "json" else super().create_parser(protocol_name)


def _read(name: str, body: bytes) -> dict[str, Any]:
    """The members that are there: null is as good as absent, as botocore has it."""
    if name == "DescribeTasksResponse":
        found = _decode_tasks(body)
        members: dict[str, Any] = {"tasks": found.tasks, "failures": found.failures}
    else:
        members = _decode_object(body)
    return {key: value for key, value in members.items() if value is not None}

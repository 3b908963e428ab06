"""Documents written by hand from the service model, and held against it.

Each builder gives a document as botocore returns it; `checked` refuses members that the API does
not have and values of another type, so that a test cannot agree with a mistake of its own.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any

import botocore.session
from botocore.model import ListShape, MapShape, ServiceModel, Shape, StringShape, StructureShape

ACCOUNT = "arn:aws:ecs:eu-west-1:123456789012"
INSTANCE = f"{ACCOUNT}:container-instance/prod/{'1' * 32}"
DEFINITION = f"{ACCOUNT}:task-definition/orders:3"
CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "boolean": (bool,),
    "double": (float, int),
    "float": (float, int),
    "timestamp": (datetime,),
}

Document = dict[str, Any]


@cache
def model(service: str) -> ServiceModel:
    """The service's model as botocore ships it."""
    return botocore.session.get_session().get_service_model(service)


def checked(service: str, operation: str, answer: Document) -> Document:
    """The answer, after asserting that the operation can give it."""
    shape = model(service).operation_model(operation).output_shape
    assert shape is not None
    problems = list(_problems(shape, answer, operation))
    assert not problems, problems
    return answer


def _problems(shape: Shape, value: Any, path: str) -> Iterator[str]:
    if isinstance(shape, StructureShape):
        for key, member in value.items():
            if key not in shape.members:
                yield f"{path} has no member {key}"
                continue
            yield from _problems(shape.members[key], member, f"{path}.{key}")
    elif isinstance(shape, ListShape):
        for item in value:
            yield from _problems(shape.member, item, f"{path}[]")
    elif isinstance(shape, MapShape):
        for item in value.values():
            yield from _problems(shape.value, item, f"{path}{{}}")
    elif not isinstance(value, _TYPES[shape.type_name]):
        yield f"{path} is {value!r}, want {shape.type_name}"
    elif isinstance(shape, StringShape) and shape.enum and value not in shape.enum:
        yield f"{path} is {value!r}, want one of {shape.enum}"


def task_arn(number: int = 1) -> str:
    """The ARN of a task; ids are 32 hex digits."""
    return f"{ACCOUNT}:task/prod/{number:032x}"


def binding(container_port: int, host_port: int, bind_ip: str = "0.0.0.0", **more: Any) -> Document:
    """A network binding of one port."""
    single = {"bindIP": bind_ip, "containerPort": container_port, "hostPort": host_port}
    return {**single, "protocol": "tcp", **more}


def container(name: str = "app", *bindings: Document, **more: Any) -> Document:
    """A running container."""
    return {
        "name": name,
        "lastStatus": "RUNNING",
        "healthStatus": "UNKNOWN",
        "networkBindings": list(bindings),
        "networkInterfaces": [],
        **more,
    }


def task(*containers: Document, number: int = 1, **more: Any) -> Document:
    """A running task of service `orders` on a container instance."""
    return {
        "taskArn": task_arn(number),
        "taskDefinitionArn": DEFINITION,
        "clusterArn": f"{ACCOUNT}:cluster/prod",
        "containerInstanceArn": INSTANCE,
        "group": "service:orders",
        "startedBy": "ecs-svc/1000000000000000001",
        "launchType": "EC2",
        "lastStatus": "RUNNING",
        "desiredStatus": "RUNNING",
        "availabilityZone": "eu-west-1a",
        "createdAt": CREATED,
        "version": 3,
        "attachments": [],
        "containers": list(containers),
        **more,
    }


def interface(
    ipv4: str | None = "10.0.5.17", ipv6: str | None = None, status: str = "ATTACHED"
) -> Document:
    """An attachment of the task's own network interface."""
    details = [
        {"name": "subnetId", "value": "subnet-1"},
        {"name": "networkInterfaceId", "value": "eni-1"},
    ]
    if ipv4:
        details.append({"name": "privateIPv4Address", "value": ipv4})
    if ipv6:
        details.append({"name": "ipv6Address", "value": ipv6})
    return {
        "id": "attachment-1",
        "type": "ElasticNetworkInterface",
        "status": status,
        "details": details,
    }


def on_interface(ipv4: str | None = "10.0.5.17", ipv6: str | None = None) -> list[Document]:
    """A container's view of the task's network interface."""
    found = {"attachmentId": "attachment-1"}
    if ipv4:
        found["privateIpv4Address"] = ipv4
    if ipv6:
        found["ipv6Address"] = ipv6
    return [found]


def awsvpc_task(*containers: Document, **more: Any) -> Document:
    """A running Fargate task: no instance, bindings always empty."""
    document = task(*containers, launchType="FARGATE", attachments=[interface()])
    del document["containerInstanceArn"]
    return {**document, **more}


def tasks(*documents: Document) -> Document:
    """An answer of DescribeTasks."""
    return checked("ecs", "DescribeTasks", {"tasks": list(documents), "failures": []})


def port(container_port: int, name: str | None = None, **more: Any) -> Document:
    """A port mapping of a definition."""
    mapping = {"containerPort": container_port, "protocol": "tcp", **more}
    return mapping if name is None else {**mapping, "name": name}


def container_definition(name: str = "app", *ports: Document, **more: Any) -> Document:
    """A container of a definition."""
    return {"name": name, "image": "nginx", "portMappings": list(ports), **more}


def definition(*containers: Document, arn: str = DEFINITION, **more: Any) -> Document:
    """An answer of DescribeTaskDefinition."""
    document = {"taskDefinitionArn": arn, "containerDefinitions": list(containers), **more}
    return checked("ecs", "DescribeTaskDefinition", {"taskDefinition": document})


def service(name: str = "orders", **more: Any) -> Document:
    """A service with one deployment."""
    return {
        "serviceName": name,
        "serviceArn": f"{ACCOUNT}:service/prod/{name}",
        "status": "ACTIVE",
        "desiredCount": 1,
        "runningCount": 1,
        "pendingCount": 0,
        "taskDefinition": DEFINITION,
        "deployments": [
            {
                "id": "ecs-svc/1000000000000000001",
                "status": "PRIMARY",
                "taskDefinition": DEFINITION,
            }
        ],
        **more,
    }


def services(*documents: Document) -> Document:
    """An answer of DescribeServices."""
    return checked("ecs", "DescribeServices", {"services": list(documents), "failures": []})

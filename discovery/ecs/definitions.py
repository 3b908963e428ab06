"""A task definition: network mode, ports and their names, health checks, docker labels.

A definition never changes under its ARN, so one read of it is good for ever.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from discovery.ecs.fields import Document, flag, part, port, rows, text, texts
from discovery.ecs.ports import span
from discovery.model import Port, Protocol


@dataclass(frozen=True, slots=True)
class ContainerDefinition:
    """What a definition says of one container. `ports` are in the definition's order.

    `restarts` is whether it is restarted in place, maybe with other host ports; where it is not
    `essential` it may end while the task goes on.
    """

    name: str
    ports: tuple[Port, ...] = ()
    cut_ranges: tuple[str, ...] = ()
    has_health_check: bool = False
    restarts: bool = False
    essential: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Definition:
    """One revision of a task definition."""

    arn: str
    network_mode: str = "bridge"
    containers: Mapping[str, ContainerDefinition] = field(default_factory=dict)

    def port_name(self, container: str, container_port: int, protocol: Protocol) -> str | None:
        """The name that the definition gives to a port."""
        found = self.containers.get(container)
        ports = found.ports if found else ()
        wanted = (container_port, protocol)
        return next((p.name for p in ports if (p.container_port, p.protocol) == wanted), None)


def definition_of(answer: Document) -> Definition | None:
    """The definition in an answer of DescribeTaskDefinition."""
    document = part(answer, "taskDefinition")
    arn = text(document, "taskDefinitionArn")
    if arn is None:
        return None
    containers = [c for row in rows(document, "containerDefinitions") if (c := _container(row))]
    mode = text(document, "networkMode")
    return Definition(
        arn=arn,
        # Absent means bridge on Linux and the default NAT network on Windows: the same to callers.
        network_mode=mode if mode in ("awsvpc", "host", "none") else "bridge",
        containers={container.name: container for container in containers},
    )


def _container(document: Document) -> ContainerDefinition | None:
    name = text(document, "name")
    if name is None:
        return None
    mappings = rows(document, "portMappings")
    ranges = [r for row in mappings if (r := text(row, "containerPortRange"))]
    command = texts(part(document, "healthCheck"), "command")
    labels = part(document, "dockerLabels")
    return ContainerDefinition(
        name=name,
        ports=tuple(dict.fromkeys(p for row in mappings for p in _ports(name, row))),
        cut_ranges=tuple(r for r in ranges if span(r).is_cut),
        restarts=flag(part(document, "restartPolicy"), "enabled") is True,
        essential=flag(document, "essential") is not False,
        has_health_check=bool(command) and command != ("NONE",),
        labels={str(k): str(v) for k, v in labels.items()},
    )


def _ports(container: str, mapping: Document) -> Iterator[Port]:
    protocol: Protocol = "udp" if mapping.get("protocol") == "udp" else "tcp"
    name = text(mapping, "name")
    single = port(mapping, "containerPort")
    if single is not None:
        yield Port(single, protocol, name, container)
        return
    for number in span(text(mapping, "containerPortRange")).ports:
        yield Port(number, protocol, name, container)

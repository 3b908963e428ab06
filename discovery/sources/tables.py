"""Services as tables, the way a static file declares them: checked strictly, errors by path."""

import ipaddress
import re
from typing import Annotated, Any, get_args

import msgspec

from discovery.errors import SourceMalformed
from discovery.model import MAX_WEIGHT, Endpoint, Exclusion, Health, Port, Protocol, Service

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
PortNumber = Annotated[int, msgspec.Meta(ge=1, le=65_535)]
_PLACE = re.compile(r"(?P<want>.*?)(?: - at `\$?(?P<path>.*)`)?", re.DOTALL)
_FIELD = re.compile(r"(unknown|missing) (?:required )?field `(.*)`")
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")


class EndpointTable(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One endpoint: the members that answers have, so that an answer can be pasted in.

    `url`, `cluster` and `service` follow from the rest and are not looked at.
    """

    host: Text
    port: PortNumber
    protocol: Protocol = "tcp"
    container_port: PortNumber | None = None
    port_name: Text | None = None
    container: Text | None = None
    task_arn: Text | None = None
    task_definition: Text | None = None
    zone: Text | None = None
    health: Health = "unknown"
    weight: Annotated[float, msgspec.Meta(ge=0, le=MAX_WEIGHT)] = 1.0
    labels: dict[str, str] = {}
    url: str | None = None
    cluster: str | None = None
    service: str | None = None


class ServiceTable(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One service: its endpoints, and the cluster that names call it by."""

    endpoints: tuple[EndpointTable, ...]
    cluster: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,255}$")] | None = None


_MEMBERS = {False: ServiceTable.__struct_fields__, True: EndpointTable.__struct_fields__}
_CHOICES = {"protocol": get_args(Protocol), "health": get_args(Health)}


def service_of(name: str, table: object, label: str) -> Service:
    """The service that a table declares. Raises `SourceMalformed` with path, value and want."""
    where = f"services.{name}"
    if not name or len(name) > 255 or any(c in name for c in "/ \t\r\n\0"):
        raise SourceMalformed(f"{where}: {name!r} cannot be a service's name")
    try:
        declared = msgspec.convert(table, ServiceTable)
    except msgspec.ValidationError as exc:
        raise SourceMalformed(_sentence(str(exc), where, table)) from None
    cluster = declared.cluster or label
    ports = {e.port for e in declared.endpoints if e.container_port is None and not e.port_name}
    endpoints = tuple(
        _endpoint(e, f"{where}.endpoints[{n}]", cluster, name, is_only_port=len(ports) == 1)
        for n, e in enumerate(declared.endpoints)
    )
    offered = _ports(endpoints)
    default = offered[0] if len(offered) == 1 else None
    return Service(
        name,
        cluster,
        endpoints=tuple(e for e in endpoints if e.weight),
        exclusions=tuple(_weightless(e) for e in endpoints if not e.weight),
        ports=offered,
        default_port=default,
    )


def _weightless(endpoint: Endpoint) -> Exclusion:
    where = endpoint.task_arn or endpoint.authority
    return Exclusion(where, "its weight is 0", endpoint.container, endpoint.container_port)


def _endpoint(
    table: EndpointTable, where: str, cluster: str, service: str, is_only_port: bool
) -> Endpoint:
    # Without a container port, the port a caller knows is the port itself, unless one service
    # answers on a different port at each place.
    known = table.port if table.port_name or is_only_port else None
    return Endpoint(
        host=_address(table.host, f"{where}.host"),
        port=table.port,
        protocol=table.protocol,
        container_port=table.container_port or known,
        port_name=table.port_name,
        container=table.container,
        task_arn=table.task_arn,
        task_definition=table.task_definition,
        cluster=cluster,
        service=service,
        zone=table.zone,
        health=table.health,
        weight=table.weight,
        labels=table.labels,
    )


def _address(host: str, where: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        want = "an IP address; host names are not resolved"
        raise SourceMalformed(f"{where}: {host!r} cannot be used, want {want}") from None


def _ports(endpoints: tuple[Endpoint, ...]) -> tuple[Port, ...]:
    """Each port once, in the order of the endpoints."""
    ports = (
        Port(e.container_port, e.protocol, e.port_name, e.container)
        for e in endpoints
        if e.container_port is not None
    )
    return tuple(dict.fromkeys(ports))


def _sentence(message: str, where: str, table: object) -> str:
    """msgspec's message in our words: the path with the service's name, the value, the want."""
    match = _PLACE.fullmatch(message)
    path = (match["path"] if match else None) or ""
    want = match["want"] if match else message
    if field := _FIELD.search(want):
        known = ", ".join(_MEMBERS["endpoints[" in path])
        return f"{where}{path}: {field[1]} key {field[2]!r}, there are {known}"
    value = _at(table, path)
    expected, _, _ = want.removeprefix("Expected ").partition(", got ")
    if want.startswith("Invalid enum value"):
        expected = f"one of {', '.join(_CHOICES[path.rpartition('.')[2]])}"
    return f"{where}{path}: {value!r} cannot be used, want {expected.replace('`', '')}"


def _at(value: Any, path: str) -> Any:
    """The value at a path such as `.endpoints[0].port`, as far as the path can be followed."""
    for key, index in _STEP.findall(path):
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list | tuple) and index and int(index) < len(value):
            value = value[int(index)]
    return value

"""Port bindings of a container on its host, and where its process must listen.

Bridge: every mapping gets a host port, dynamic ones of its instance, ranges in one block (or
one by one on hosts that split them). Host and awsvpc have no bindings. On a host with IPv6
bindings each port appears twice, on `0.0.0.0` and `::`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from discovery.local.addresses import port_is_free
from discovery.local.network import Binding
from discovery.local.state import Container, Document, Instance, Task

Listen = tuple[str, int, str]


class NoPort(Exception):
    """No host port can be given."""


def bind(task: Task, container: Container) -> list[Binding]:
    """The container's bindings; its host ports are now the task's."""
    if task.mode != "bridge" or task.instance is None:
        return []
    instance = task.instance
    found: list[Binding] = []
    for mapping in container.definition["portMappings"]:
        first = list(_mapped(task, instance, mapping, "0.0.0.0"))
        found += first
        if instance.ipv6_bindings == "same":
            found += [replace(each, bind_ip="::") for each in first]
        elif instance.ipv6_bindings:
            found += _mapped(task, instance, mapping, "::")
    return sorted(found, key=lambda each: each.container_range is not None)


def _mapped(task: Task, instance: Instance, mapping: Document, ip: str) -> Iterator[Binding]:
    protocol = str(mapping["protocol"])
    ranged = mapping.get("containerPortRange")
    if ranged is None:
        host_port = int(mapping.get("hostPort") or 0) or _block(task, instance, 1, protocol, ip)
        task.host_ports.add((host_port, protocol))
        yield Binding(ip, protocol, int(mapping["containerPort"]), host_port)
        return
    first, last = (int(each) for each in str(ranged).split("-"))
    size = last - first + 1
    if instance.split_ranges:
        for port in range(first, last + 1):
            yield Binding(ip, protocol, port, _block(task, instance, 1, protocol, ip))
        return
    start = _block(task, instance, size, protocol, ip)
    yield Binding(
        ip, protocol, container_range=str(ranged), host_range=f"{start}-{start + size - 1}"
    )


def _block(task: Task, instance: Instance, size: int, protocol: str, ip: str) -> int:
    """The first of `size` free dynamic host ports in a row; they are now the task's."""
    taken = instance.ports() | task.host_ports
    addresses = [_on(instance, ip)]
    if instance.ipv6_bindings == "same":
        addresses.append("::1")
    dynamic = instance.dynamic_ports
    for _ in range(len(dynamic) + 1):  # the turn from the last one to the first is one
        start = instance.next_port
        instance.next_port = start + 1
        if start + size > dynamic.stop:
            instance.next_port = dynamic.start
            continue
        block = range(start, start + size)
        if any((port, protocol) in taken for port in block):
            continue
        if task.simulated or all(
            port_is_free(each, port, protocol) for each in addresses for port in block
        ):
            instance.next_port = start + size
            task.host_ports.update((port, protocol) for port in block)
            return start
    raise NoPort(f"no {size} free host port(s) on {instance.address}")


def address_of(task: Task) -> str:
    """Where the task's processes listen: its interface's address, else its host's."""
    if task.eni is not None:
        return task.eni.address
    return task.instance.address if task.instance is not None else "127.0.0.1"


def listens(task: Task, container: Container) -> list[tuple[Listen, int]]:
    """Every (address, port, protocol) the container should listen on, with its container port."""
    if task.mode == "none":
        return []
    if task.mode == "bridge" and task.instance is not None:
        return [
            ((_on(task.instance, each.bind_ip), host, each.protocol), port)
            for each in container.bindings or ()
            for port, host in _pairs(each)
        ]
    address = address_of(task)
    return [
        ((address, port, str(mapping["protocol"])), port)
        for mapping in container.definition["portMappings"]
        for port in _container_ports(mapping)
    ]


def _on(instance: Instance, bind_ip: str) -> str:
    return "::1" if bind_ip == "::" else instance.address


def _pairs(binding: Binding) -> Iterator[tuple[int, int]]:
    if binding.container_range is None or binding.host_range is None:
        yield binding.container_port or 0, binding.host_port or 0
        return
    first, last = (int(each) for each in binding.container_range.split("-"))
    host = int(binding.host_range.split("-")[0])
    for port in range(first, last + 1):
        yield port, host + port - first


def _container_ports(mapping: Document) -> range:
    ranged = mapping.get("containerPortRange")
    if ranged is None:
        return range(int(mapping["containerPort"]), int(mapping["containerPort"]) + 1)
    first, last = (int(each) for each in str(ranged).split("-"))
    return range(first, last + 1)


def environment(task: Task, container: Container) -> dict[str, str]:
    """`HOST`, `PORT` (the first one), `PORT_<container port>`; `PORT6_…` for `::` bindings."""
    found = {"HOST": address_of(task)}
    for (address, port, _), container_port in listens(task, container):
        if ":" in address:
            found[f"PORT6_{container_port}"] = str(port)
            continue
        found.setdefault("PORT", str(port))
        found[f"PORT_{container_port}"] = str(port)
    return found

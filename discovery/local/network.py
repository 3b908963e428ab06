"""How a container is reached: its port bindings and the interface of its task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Binding:
    """One port of a container on its host, as `networkBindings` shows it."""

    bind_ip: str
    protocol: str
    container_port: int | None = None
    host_port: int | None = None
    container_range: str | None = None
    host_range: str | None = None

    def document(self) -> dict[str, Any]:
        """The binding as the API writes it; a range has no single ports."""
        if self.container_range is not None:
            return {
                "bindIP": self.bind_ip,
                "protocol": self.protocol,
                "containerPortRange": self.container_range,
                "hostPortRange": self.host_range,
            }
        return {
            "bindIP": self.bind_ip,
            "containerPort": self.container_port,
            "hostPort": self.host_port,
            "protocol": self.protocol,
        }


@dataclass(slots=True)
class Eni:
    """The elastic network interface of an awsvpc task: its own loopback address."""

    id: str
    attachment_id: str
    mac: str
    subnet: str
    address: str
    status: str = "PRECREATED"
    ipv6: str | None = None
    public_address: str | None = None

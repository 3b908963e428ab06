"""A small fleet for tests of what answers: services with endpoints, without, and with two ports."""

from dataclasses import replace

from discovery.errors import SourceError
from discovery.model import (
    ClusterReading,
    Endpoint,
    Exclusion,
    Observation,
    Port,
    Service,
)

NOW = 1_000_000.0
AGE_S = 3.0


def endpoint(number: int, service: str = "web", port_name: str = "http") -> Endpoint:
    """One endpoint of a bridge task on its own host."""
    return Endpoint(
        host=f"127.0.0.{number}",
        port=49_152 + number,
        container_port=80 if port_name == "http" else 9_000,
        port_name=port_name,
        container=service,
        task_arn=f"arn:aws:ecs:us-east-1:123456789012:task/prod/{service}{number}",
        cluster="prod",
        service=service,
        zone="us-east-1a",
        health="healthy",
    )


HTTP = Port(80, "tcp", "http", "web")
WEB = Service("web", "prod", endpoints=(endpoint(2), endpoint(3)), ports=(HTTP,), default_port=HTTP)
TWO = Service(
    "two",
    "prod",
    endpoints=(endpoint(4, "two"), endpoint(4, "two", "admin")),
    ports=(Port(80, "tcp", "http", "two"), Port(9_000, "tcp", "admin", "two")),
)
EMPTY = Service(
    "empty", "prod", exclusions=(Exclusion("arn:aws:ecs:::task/prod/e1", "it is stopping"),)
)


def observed(
    *services: Service, at: float = NOW - AGE_S, error: SourceError | None = None
) -> Observation:
    """A whole read of cluster prod, or a failed one."""
    read = tuple(replace(service, observed_at=at) for service in services)
    return Observation(at, (ClusterReading("prod", read, complete=error is None, error=error),))

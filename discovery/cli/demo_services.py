"""What the demo runs: a small fleet that shows the shapes that tasks come in."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

CLUSTER = "demo"
INSTANCES = 3

Parameters = dict[str, Any]
_PROBE = (
    "import os, urllib.request; "
    "urllib.request.urlopen('http://%s:%s/health' % (os.environ['HOST'], os.environ['PORT']))"
)


@dataclass(frozen=True, slots=True)
class Fleet:
    """One family and how many tasks of it run, as a service or standalone."""

    name: str
    about: str
    count: int
    container: Parameters
    network_mode: str = "bridge"
    standalone: bool = False

    def calls(self) -> Iterator[tuple[str, Parameters]]:
        """The ECS API calls, operation and parameters, that make it run."""
        yield (
            "RegisterTaskDefinition",
            {
                "family": self.name,
                "networkMode": self.network_mode,
                "containerDefinitions": [
                    {"name": self.name, "image": f"demo/{self.name}", "memory": 16, "cpu": 16}
                    | self.container
                ],
            },
        )
        placed: Parameters = {"cluster": CLUSTER, "taskDefinition": self.name}
        if self.network_mode == "awsvpc":
            subnets = {"awsvpcConfiguration": {"subnets": ["subnet-0a1b2c3d4e5f60718"]}}
            placed["networkConfiguration"] = subnets
        if self.standalone:
            yield "RunTask", placed | {"count": self.count}
        else:
            service = {"serviceName": self.name, "desiredCount": self.count}
            yield "CreateService", placed | service


def _ports(**ports: int) -> Parameters:
    mappings = [
        {"name": name, "containerPort": port, "hostPort": 0, "protocol": "tcp"}
        for name, port in ports.items()
    ]
    return {"portMappings": mappings}


FLEETS = (
    Fleet("web", "bridge network, a host port chosen at run time", 3, _ports(http=80)),
    Fleet(
        "api",
        "awsvpc network, an address for each task",
        2,
        {"portMappings": [{"name": "http", "containerPort": 8080, "protocol": "tcp"}]},
        network_mode="awsvpc",
    ),
    Fleet("orders", "two ports", 2, _ports(http=8080, admin=9000)),
    Fleet(
        "cart",
        "with a container health check",
        1,
        _ports(http=8080)
        | {
            "healthCheck": {
                "command": ["CMD", sys.executable, "-c", _PROBE],
                "interval": 5,
                "timeout": 3,
                "retries": 2,
            }
        },
    ),
    Fleet("worker", "no port, so no endpoint: see explain", 1, {}),
    Fleet("report", "a standalone task, found by its family", 1, _ports(http=80), standalone=True),
)

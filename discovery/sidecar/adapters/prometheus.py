"""Prometheus's `http_sd_configs`: one target for each TCP port of each task.

Labels are named as Prometheus's own `ecs_sd_configs` names them (prometheus/prometheus,
discovery/aws/ecs.go), so that relabelling written for it goes on working; those of containers,
ports and labels it does not have. A cluster is called as in our names. What is not known is left
out, which to Prometheus is the same as empty. Docker labels and tags come as one,
`__meta_ecs_label_*`; of names that are the same as Prometheus writes them, the last one counts.
"""

import re
from collections.abc import Iterable, Iterator

from discovery.documents import Document
from discovery.model import Endpoint, Service
from discovery.sidecar.adapters.arns import cluster_arn_of, region_of

_PREFIX = "__meta_ecs_"
_NO_LABEL = re.compile(r"[^a-zA-Z0-9_]")
_HEALTH = {"healthy": "HEALTHY", "unhealthy": "UNHEALTHY"}  # as ECS says it, else UNKNOWN


def targets(services: Iterable[Service]) -> list[Document]:
    """The body of `/sd/prometheus`."""
    return [
        {"targets": [endpoint.authority], "labels": dict(_labels(service, endpoint))}
        for service in services
        for endpoint in service.endpoints
        if endpoint.protocol == "tcp"
    ]


def _labels(service: Service, endpoint: Endpoint) -> Iterator[tuple[str, str]]:
    known = {
        "cluster": service.cluster,
        "cluster_arn": cluster_arn_of(endpoint),
        "service": service.name if service.kind == "service" else None,
        "task_group": _group(service, endpoint),
        "task_arn": endpoint.task_arn,
        "task_definition": endpoint.task_definition,
        "region": region_of(endpoint),
        "availability_zone": endpoint.zone,
        "ip_address": endpoint.host,
        "desired_status": "STOPPED" if endpoint.health == "draining" else "RUNNING",
        "last_status": "RUNNING",
        "health_status": _HEALTH.get(endpoint.health, "UNKNOWN"),
        # Prometheus, too, calls everything bridge that has no network interface of its own.
        "network_mode": "awsvpc" if endpoint.host in service.task_addresses else "bridge",
        "container_name": endpoint.container,
        "container_port": endpoint.container_port and str(endpoint.container_port),
        "port_name": endpoint.port_name,
    }
    yield from ((_PREFIX + name, value) for name, value in known.items() if value)
    for name, value in sorted(endpoint.labels.items()):
        yield f"{_PREFIX}label_{_NO_LABEL.sub('_', name)}", value


def _group(service: Service, endpoint: Endpoint) -> str:
    """The group of its task; a family's name that is not the definition's is a text of its own."""
    family = (endpoint.task_definition or "").rpartition("/")[2].partition(":")[0]
    is_text = service.kind == "family" and family not in ("", service.name)
    return service.name if is_text else f"{service.kind}:{service.name}"

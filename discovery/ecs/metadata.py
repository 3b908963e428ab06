"""Who we are when we run in a task: its cluster, region and network, from the metadata endpoint."""

import os
import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urlsplit

from discovery.ecs.fields import Document, address, rows, text, texts
from discovery.errors import SourceMalformed, SourceUnreachable

VARIABLE = "ECS_CONTAINER_METADATA_URI_V4"
TIMEOUT_S = 1.0
_MOST_BYTES = 1 << 20

_ARN = re.compile(r"arn:[\w-]+:ecs:([\w-]+):")


@dataclass(frozen=True, slots=True)
class TaskIdentity:
    """The task that this process runs in. `cluster` is a name; `network_mode` as Docker says it.

    In a bridge or host task `network_mode` is `bridge`, `default` or `host`; else `awsvpc`.
    """

    cluster: str | None = None
    region: str | None = None
    task_arn: str | None = None
    family: str | None = None
    zone: str | None = None
    service: str | None = None
    launch_type: str | None = None
    network_mode: str | None = None
    cluster_arn: str | None = None


def identity(environment: Mapping[str, str] = os.environ) -> TaskIdentity | None:
    """The identity of our task; `None` outside of ECS. May block for a second.

    Raises `SourceUnreachable` where the endpoint does not answer, `SourceMalformed` where what it
    says is no document.
    """
    endpoint = environment.get(VARIABLE)
    return identity_of(_fetch(f"{endpoint}/task")) if endpoint else None


def identity_of(document: Document) -> TaskIdentity:
    """The identity in a document of the metadata endpoint, of a task or of one container."""
    labels = _labels(document)
    cluster = text(document, "Cluster") or labels.get("com.amazonaws.ecs.cluster")
    arn = text(document, "TaskARN") or labels.get("com.amazonaws.ecs.task-arn")
    family = text(document, "Family") or labels.get("com.amazonaws.ecs.task-definition-family")
    region = _ARN.match(arn or "") or _ARN.match(cluster or "")
    return TaskIdentity(
        cluster=cluster.rpartition("/")[2] or None if cluster else None,
        region=region[1] if region else None,
        task_arn=arn,
        family=family,
        zone=text(document, "AvailabilityZone"),
        service=text(document, "ServiceName"),
        launch_type=text(document, "LaunchType"),
        network_mode=_network_mode(document),
        cluster_arn=cluster if cluster and cluster.startswith("arn:") else None,
    )


def addresses_of(document: Document) -> tuple[str, ...]:
    """The addresses of our task's containers, each once."""
    networks = [n for row in _containers(document) for n in rows(row, "Networks")]
    given = [a for n in networks for a in (*texts(n, "IPv4Addresses"), *texts(n, "IPv6Addresses"))]
    return tuple(dict.fromkeys(known for each in given if (known := address(each))))


def _fetch(url: str) -> Document:
    # With the standard library, as it is asked before anything else can start.
    import json
    from http.client import HTTPConnection, HTTPException

    try:
        where = urlsplit(url)
        with closing(HTTPConnection(where.netloc, timeout=TIMEOUT_S)) as connection:
            connection.request("GET", where.path)
            answer = connection.getresponse()
            content = answer.read(_MOST_BYTES)
        if answer.status != 200:
            raise HTTPException(f"status {answer.status}")
        document = json.loads(content)
    except (OSError, HTTPException) as exc:
        raise SourceUnreachable(f"the task metadata endpoint {url} does not answer: {exc}") from exc
    except (ValueError, RecursionError) as exc:
        raise SourceMalformed(f"the task metadata endpoint {url} cannot be read: {exc}") from exc
    if not isinstance(document, Mapping):
        raise SourceMalformed(f"the task metadata endpoint {url} gives no object")
    return document


def _containers(document: Document) -> tuple[Document, ...]:
    return rows(document, "Containers") or (document,)


def _labels(document: Document) -> dict[str, str]:
    """Labels that the agent puts on every container; a container's document has nothing else."""
    found: dict[str, str] = {}
    for container in _containers(document):
        labels = container.get("Labels")
        if isinstance(labels, Mapping):
            found.update((k, v) for k, v in labels.items() if isinstance(v, str) and v)
    return found


def _network_mode(document: Document) -> str | None:
    networks = (n for row in _containers(document) for n in rows(row, "Networks"))
    return next((mode for n in networks if (mode := text(n, "NetworkMode"))), None)

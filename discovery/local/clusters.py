"""Cluster operations: create, delete, list, describe, tags of clusters."""

from __future__ import annotations

import re

from discovery.local.documents import cluster_document
from discovery.local.errors import ApiError, invalid
from discovery.local.ids import last_part
from discovery.local.pages import page
from discovery.local.state import ENDED, Cluster, Document
from discovery.local.world import World

_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}$")
_DESCRIBE_LIMIT = 100


def create_cluster(world: World, request: Document) -> Document:
    """CreateCluster: an existing cluster of that name is answered as it is."""
    name = str(request.get("clusterName") or "default")
    if not _NAME.match(name):
        raise invalid("Invalid identifier: Cluster name should be up to 255 characters.")
    found = world.state.clusters.get(name)
    if found is None or found.status != "ACTIVE":
        found = Cluster(
            arn=world.ids.arn(f"cluster/{name}"),
            name=name,
            document={
                "settings": request.get("settings")
                or [{"name": "containerInsights", "value": "disabled"}],
                "capacityProviders": request.get("capacityProviders") or [],
                "defaultCapacityProviderStrategy": request.get("defaultCapacityProviderStrategy")
                or [],
            },
            tags=list(request.get("tags") or []),
        )
        world.state.clusters[name] = found
    return {"cluster": cluster_document(found, {"TAGS", "SETTINGS"})}


def delete_cluster(world: World, request: Document) -> Document:
    """DeleteCluster: refused while it holds instances, services or tasks."""
    cluster = world.cluster(request.get("cluster"))
    if cluster.instances:
        raise ApiError(
            "ClusterContainsContainerInstancesException",
            "The Cluster cannot be deleted while Container Instances are active or draining.",
        )
    if any(service.status != "INACTIVE" for service in cluster.services.values()):
        raise ApiError(
            "ClusterContainsServicesException",
            "The Cluster cannot be deleted while Services are active.",
        )
    if any(task.status != ENDED for task in cluster.tasks.values()):
        raise ApiError(
            "ClusterContainsTasksException", "The Cluster cannot be deleted while Tasks are active."
        )
    cluster.status = "INACTIVE"
    return {"cluster": cluster_document(cluster, set())}


def list_clusters(world: World, request: Document) -> Document:
    """ListClusters."""
    active = (
        (position, cluster.arn)
        for position, cluster in enumerate(world.state.clusters.values())
        if cluster.status == "ACTIVE"
    )
    arns, token = page(world.run.pages, "ListClusters", request, active)
    return {"clusterArns": arns} | ({"nextToken": token} if token else {})


def describe_clusters(world: World, request: Document) -> Document:
    """DescribeClusters: `default` when none is named; unknown ones are failures."""
    named = request.get("clusters") or ["default"]
    if len(named) > _DESCRIBE_LIMIT:
        raise invalid("Clusters cannot contain more than 100 elements")
    include = set(request.get("include") or ())
    clusters, failures = [], []
    for name in named:
        found = world.state.clusters.get(last_part(str(name)))
        if found is None or (str(name).startswith("arn:") and found.arn != name):
            arn = name if str(name).startswith("arn:") else world.ids.arn(f"cluster/{name}")
            failures.append({"arn": arn, "reason": "MISSING"})
        else:
            clusters.append(cluster_document(found, include))
    return {"clusters": clusters, "failures": failures}


OPERATIONS = {
    "CreateCluster": create_cluster,
    "DeleteCluster": delete_cluster,
    "ListClusters": list_clusters,
    "DescribeClusters": describe_clusters,
}

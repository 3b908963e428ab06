"""Service deployments and service revisions: list, describe, stop, continue.

`releases.py` makes them go on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from discovery.local import releases, services
from discovery.local.documents import present, revision_arn, revision_counts
from discovery.local.errors import ApiError, invalid, service_not_found
from discovery.local.pages import page
from discovery.local.state import Deployment, Document, Release, Service
from discovery.local.world import World

_DESCRIBE_LIMIT = 20


def list_deployments(world: World, request: Document) -> Document:
    """ListServiceDeployments: the newest first."""
    cluster = world.cluster(request.get("cluster"))
    service = services.find(cluster, request.get("service"))
    if service is None:
        raise service_not_found()
    items = [
        (each.sequence, _brief(service, each))
        for each in reversed(service.releases)
        if _matches(each, request)
    ]
    found, token = page(world.run.pages, "ListServiceDeployments", request, items, descending=True)
    return {"serviceDeployments": found} | ({"nextToken": token} if token else {})


def _matches(release: Release, request: Document) -> bool:
    created = request.get("createdAt") or {}
    after, before = created.get("after", 0.0), created.get("before", release.created_at)
    statuses = request.get("status")
    return after <= release.created_at <= before and (not statuses or release.status in statuses)


def _brief(service: Service, release: Release) -> Document:
    return present(
        serviceDeploymentArn=release.arn,
        serviceArn=service.arn,
        clusterArn=service.cluster.arn,
        startedAt=release.created_at,
        createdAt=release.created_at,
        finishedAt=release.finished_at,
        targetServiceRevisionArn=revision_arn(service, release.target),
        status=release.status,
        statusReason=release.reason,
    )


def _everywhere(world: World) -> Iterator[Service]:
    for cluster in world.state.clusters.values():
        yield from cluster.services.values()


def _release(world: World, arn: object) -> tuple[Service, Release] | None:
    for service in _everywhere(world):
        for release in service.releases:
            if release.arn == arn:
                return service, release
    return None


def _named(request: Document, member: str) -> list[str]:
    named: list[str] = request.get(member) or []
    if not named:
        raise invalid(f"{member} cannot be empty.")
    if len(named) > _DESCRIBE_LIMIT:
        raise invalid(f"{member} can have at most 20 items.")
    return named


def describe_deployments(world: World, request: Document) -> Document:
    """DescribeServiceDeployments: at most 20; unknown ones are failures."""
    found, failures = [], []
    for arn in _named(request, "serviceDeploymentArns"):
        known = _release(world, arn)
        if known is None:
            failures.append({"arn": arn, "reason": "MISSING"})
        else:
            found.append(_described(*known))
    return {"serviceDeployments": found, "failures": failures}


def _described(service: Service, release: Release) -> Document:
    return present(
        **_brief(service, release) | {"targetServiceRevisionArn": None},
        stoppedAt=release.stopped_at,
        updatedAt=release.updated_at,
        sourceServiceRevisions=[_summary(service, release, each) for each in release.sources],
        targetServiceRevision=_summary(service, release, release.target),
        lifecycleStage=release.stage,
        lifecycleHookDetails=release.hooks or None,
        deploymentConfiguration=release.configuration,
        rollback=release.rollback,
        deploymentCircuitBreaker=_breaker(release),
        alarms={"status": "DISABLED"},
    )


def _summary(service: Service, release: Release, deployment: Deployment) -> Document:
    weights = {}
    if release.production:
        weights = {
            "requestedTestTrafficWeight": release.test.get(deployment.id, 0.0),
            "requestedProductionTrafficWeight": release.production.get(deployment.id, 0.0),
        }
    return revision_counts(service, deployment) | weights


def _breaker(release: Release) -> Document:
    if not release.configuration["deploymentCircuitBreaker"].get("enable"):
        status = "DISABLED"
    elif release.target.rollout == "FAILED":
        status = "TRIGGERED"
    else:
        status = "MONITORING" if release.open else "MONITORING_COMPLETE"
    return {"status": status, "failureCount": release.target.failed, "threshold": 3}


def describe_revisions(world: World, request: Document) -> Document:
    """DescribeServiceRevisions: at most 20; unknown ones are failures."""
    known = {
        arn: (service, each)
        for service in _everywhere(world)
        for arn, each in service.revisions.items()
    }
    found, failures = [], []
    for arn in _named(request, "serviceRevisionArns"):
        if arn in known:
            found.append(_revision(*known[arn]))
        else:
            failures.append({"arn": arn, "reason": "MISSING"})
    return {"serviceRevisions": found, "failures": failures}


def _revision(service: Service, deployment: Deployment) -> Document:
    settings = deployment.settings
    connect = settings.get("serviceConnectConfiguration") or {"enabled": False}
    images = [
        {
            "containerName": each["name"],
            "imageDigest": f"sha256:{hashlib.sha256(str(each['image']).encode()).hexdigest()}",
            "image": each["image"],
        }
        for each in deployment.definition.containers
    ]
    return present(
        serviceRevisionArn=revision_arn(service, deployment),
        serviceArn=service.arn,
        clusterArn=service.cluster.arn,
        taskDefinition=deployment.definition.arn,
        capacityProviderStrategy=settings.get("capacityProviderStrategy"),
        launchType=settings.get("launchType"),
        platformVersion=settings.get("platformVersion"),
        platformFamily=settings.get("platformFamily"),
        loadBalancers=service.document.get("loadBalancers") or None,
        serviceRegistries=service.document.get("serviceRegistries") or None,
        networkConfiguration=settings.get("networkConfiguration"),
        containerImages=images,
        guardDutyEnabled=False,
        serviceConnectConfiguration=connect,
        createdAt=deployment.created_at,
        resolvedConfiguration=_resolved(deployment),
    )


def _resolved(deployment: Deployment) -> Document | None:
    """Which of two target groups the revision's own tasks are in."""
    if not deployment.balancers:
        return None
    found = []
    for each in deployment.balancers:
        rule = (each.get("advancedConfiguration") or {}).get("productionListenerRule")
        found.append(
            present(targetGroupArn=each.get("targetGroupArn"), productionListenerRule=rule)
        )
    return {"loadBalancers": found}


def _open(world: World, arn: object) -> tuple[Service, Release]:
    known = _release(world, arn)
    if known is None:
        raise ApiError("ServiceDeploymentNotFoundException", "Service deployment not found.")
    return known


def stop_deployment(world: World, request: Document) -> Document:
    """StopServiceDeployment: roll back to the previous revision."""
    service, release = _open(world, request.get("serviceDeploymentArn"))
    if request.get("stopType") not in (None, "ROLLBACK"):
        raise invalid("The stopType must be ROLLBACK.")
    if not release.open or release.rollback is not None:
        raise ApiError(
            "ConflictException", f"The service deployment is in the {release.status} state."
        )
    if not release.sources:
        raise invalid("There is no service revision to roll back to.")
    release.status = "ROLLBACK_REQUESTED"
    reason = "Service deployment rolled back because of a stop request."
    world.run.call_later(world.run.pace.scheduler_s, releases.roll_back, world, service, reason)
    return {"serviceDeploymentArn": release.arn}


def continue_deployment(world: World, request: Document) -> Document:
    """ContinueServiceDeployment: the answer to a PAUSE hook."""
    service, release = _open(world, request.get("serviceDeploymentArn"))
    action = request.get("action") or "CONTINUE"
    if action not in ("CONTINUE", "ROLLBACK"):
        raise invalid("The action must be one of [CONTINUE, ROLLBACK].")
    for hook in release.hooks:
        if hook["hookId"] == request.get("hookId") and hook["status"] == "AWAITING_ACTION":
            releases.answer_hook(world, service, release, hook, action)
            return {"serviceDeploymentArn": release.arn}
    raise invalid("The hook is not awaiting an action.")


OPERATIONS = {
    "ListServiceDeployments": list_deployments,
    "DescribeServiceDeployments": describe_deployments,
    "DescribeServiceRevisions": describe_revisions,
    "StopServiceDeployment": stop_deployment,
    "ContinueServiceDeployment": continue_deployment,
}

"""What `doctor` finds of AWS: credentials, clusters, each action, the queue of events."""

from collections.abc import Iterator, Mapping

from discovery.cli.findings import Finding
from discovery.cli.permissions import PERMISSIONS, Permission, Reading, needed
from discovery.ecs.checkup import Checkup, Who
from discovery.ecs.clients import Access
from discovery.errors import (
    AccessDenied,
    ClusterNotFound,
    CredentialsExpired,
    CredentialsMissing,
    SourceError,
)
from discovery.secret import without_password
from discovery.settings import Settings
from discovery.written import ClusterSettings

SKEW_S = 60.0  # AWS refuses signatures at five minutes
_GRANT = "add it to the task role: ecs-discovery taskdef policy prints what is needed"


def of_aws(settings: Settings, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Credentials, clusters and each action that the settings lead to."""
    if settings.source != "ecs":
        yield Finding(
            "AWS", "skipped", f"{without_password(settings.source)} is read, AWS is not asked"
        )
        return
    checkup = Checkup(environment)
    try:
        for cluster in settings.clusters:
            yield from _of_cluster(checkup, cluster, settings)
        if settings.events is not None:
            yield from _of_queue(checkup, Reading(settings))
    finally:
        checkup.close()


def _of_cluster(
    checkup: Checkup, cluster: ClusterSettings, settings: Settings
) -> Iterator[Finding]:
    access = Access(cluster.region, cluster.role_arn, cluster.external_id)
    name = f"cluster {cluster.label}"
    try:
        who = checkup.who(access)
    except SourceError as error:
        yield Finding(f"{name}: credentials", "failed", str(error), _fix(error))
        return
    yield Finding(f"{name}: credentials", "ok", f"{who.arn} in {who.region}")
    yield from _of_clock(who)
    named = cluster.arn or cluster.name
    try:
        state = checkup.cluster(access, named)
    except SourceError as error:
        yield Finding(name, "failed", str(error), _fix(error))
        if not isinstance(error, AccessDenied):
            return
    else:
        running = f"{state.running_tasks} tasks, {state.services} services"
        said = f"{state.status}, {running}, {state.instances} container instances"
        good = state.status == "ACTIVE"
        fix = None if good else "name a cluster that is ACTIVE"
        yield Finding(name, "ok" if good else "failed", said, fix)
    reading = Reading(settings, checkup.is_anywhere(access, cluster.name))
    for permission in needed(reading, "clusters", "everything"):
        trouble = checkup.trouble(permission.action, access, cluster.name, who)
        yield _tried(name, permission, trouble)


def _of_queue(checkup: Checkup, reading: Reading) -> Iterator[Finding]:
    queue = reading.queue
    assert queue is not None
    permissions = {permission.action: permission for permission in PERMISSIONS}
    for action, trouble in checkup.queue(Access(queue.region), queue):
        yield _tried(f"queue {queue.name}", permissions[action], trouble)


def _tried(what: str, permission: Permission, trouble: SourceError | None) -> Finding:
    check = f"{what}: {permission.action}"
    if trouble is None:
        return Finding(check, "ok", "allowed")
    return Finding(check, "failed", f"{trouble}; without it {permission.without}", _fix(trouble))


def _fix(error: SourceError) -> str:
    if isinstance(error, AccessDenied):
        return _GRANT
    return {
        CredentialsMissing.code: "give the task a role, or set AWS_PROFILE or AWS_ACCESS_KEY_ID",
        CredentialsExpired.code: "renew them; a task role renews itself",
        ClusterNotFound.code: "look at its name, the region and the account",
        SourceError.code: "look at its name, the region and the account",
    }.get(error.code, "look at the region, the network and AWS_ENDPOINT_URL")


def _of_clock(who: Who) -> Iterator[Finding]:
    if who.skew_s is None:
        return
    said = f"{abs(who.skew_s):.0f} s {'ahead of' if who.skew_s > 0 else 'behind'} AWS's"
    if abs(who.skew_s) > SKEW_S:
        yield Finding("clock", "failed", said, "set it by NTP: AWS refuses what is 300 s off")
    else:
        yield Finding("clock", "ok", said)

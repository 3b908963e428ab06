"""What `doctor` finds of the source that is read in place of ECS: a hub, a store or a file."""

import time
from collections.abc import Iterator
from dataclasses import replace

from discovery.cli.findings import Finding
from discovery.client.resolver import Resolver
from discovery.errors import DiscoveryError
from discovery.secret import without_password
from discovery.settings import Settings

PATIENCE_S = 10.0
_FIX = "look at --source, at what answers there, and at its token or password"


def of_source(settings: Settings) -> Iterator[Finding]:
    """Whether it can be read, and how old is what it knows; without fallback and cache."""
    if settings.source == "ecs":
        return
    check = f"source {without_password(settings.source)}"
    alone = replace(settings, fallback="off", cache=None)
    try:
        with Resolver(settings=alone, timeout_s=PATIENCE_S) as resolver:
            services = resolver.services()
            clusters = resolver.snapshot.clusters
    except DiscoveryError as error:
        yield Finding(check, "failed", error.message, _FIX)
        return
    for cluster in clusters:
        count = sum(service.cluster == cluster.label for service in services)
        said = f"cluster {cluster.label}: {count} services, read {_ago(cluster.observed_at)}"
        if cluster.error is None:
            yield Finding(check, "ok", said)
        else:
            yield Finding(check, "failed", f"{said}: {cluster.error}", _FIX)


def _ago(observed_at: float | None) -> str:
    return "never" if observed_at is None else f"{max(0.0, time.time() - observed_at):.0f} s ago"

"""From one snapshot to the next. Pure.

Rule 1: `merged` is the only way from one reading to the next; an error never empties a service,
and nothing older is taken after something newer.
Rule 2: the index grows by one where content changes, that is services, cluster labels, or a
cluster's list becoming known; where only times or errors change it stays, and ages move on.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from discovery.catalog.order import not_older
from discovery.catalog.pending import completed
from discovery.errors import AccessDenied, CredentialsExpired
from discovery.model import Cluster, ClusterReading, Observation, Service, Snapshot

Key = tuple[str, str]


def merged(previous: Snapshot, observation: Observation) -> Snapshot:
    """The snapshot that follows from what was observed. Pure.

    Services read unchanged stay the same objects; their times are in `read_at`. A reading's error
    leaves every service as it was that the reading does not name as read or absent. What waits for
    definitions keeps the names of ports that were known.
    """
    services = dict(previous.services)
    read_at = dict(previous.read_at)
    clusters = {cluster.label: cluster for cluster in previous.clusters}
    for told in observation.clusters:
        reading = not_older(previous, told, observation.observed_at)
        for key in _gone(services, reading):
            del services[key]
            read_at.pop(key, None)
        for service in reading.services:
            services[service.key] = completed(service, previous.services.get(service.key))
            read_at[service.key] = service.observed_at or observation.observed_at
        clusters[reading.label] = _cluster(
            clusters.get(reading.label), reading, reading.observed_at or observation.observed_at
        )
    if observation.labels:
        clusters = _in_order(clusters, observation.labels)
        for key in [key for key in services if key[0] not in clusters]:
            del services[key]
            read_at.pop(key, None)
    after = replace(
        previous,
        observed_at=_observed_at(previous.observed_at, observation),
        clusters=tuple(clusters.values()),
        services=services,
        read_at=read_at,
    )
    return following(previous, after)


def following(before: Snapshot, after: Snapshot) -> Snapshot:
    """`after` as the snapshot that comes after `before`. Pure.

    Its services that are equal to those before are the same objects, and its index is the next one
    where content changed.
    """
    services = {
        key: old if (old := before.services.get(key)) == service and old is not None else service
        for key, service in after.services.items()
    }
    changed = not _same_content(before, after.clusters, services)
    sequence = before.sequence + 1 if changed else before.sequence
    return replace(after, sequence=sequence, services=services)


def fresh_for_s(least_s: float, known: Snapshot, observation: Observation) -> float:
    """How old data may be before it is stale: longer where the source's pace is stretched.

    A load that learned nothing, or only adds to the one before, says nothing about the pace.
    """
    is_whole = not observation.pending and any(r.learned for r in observation.clusters)
    stretched_s = 0.0 if is_whole else known.fresh_for_s
    return max(least_s, 3 * observation.rest_s, observation.fresh_for_s, stretched_s)


def changed_names(before: Snapshot, after: Snapshot) -> tuple[str, ...]:
    """The full names of the services that came, went or differ."""
    keys = dict.fromkeys([*before.services, *after.services])
    pairs = ((before.services.get(key), after.services.get(key)) for key in keys)
    return tuple(
        service.full_name
        for old, new in pairs
        if old is not new and (service := new or old) is not None
    )


def _gone(services: dict[Key, Service], reading: ClusterReading) -> list[Key]:
    read = {service.name for service in reading.services}
    return [
        (cluster, name)
        for cluster, name in services
        if cluster == reading.label
        and name not in read
        and (name in reading.absent or (reading.complete and name not in reading.unread))
    ]


def _observed_at(before: float, observation: Observation) -> float:
    """When anything was read last: what was only told of since, or read slowly, is no later."""
    now = observation.observed_at
    times = [reading.observed_at or now for reading in observation.clusters if reading.learned]
    # A time that is later than now is of a clock that has been set back since.
    return max(*times, min(before, now)) if times else before


def _in_order(clusters: dict[str, Cluster], labels: Sequence[str]) -> dict[str, Cluster]:
    """The clusters that there are, as the source orders them; what it does not name is gone."""
    return {label: clusters.get(label) or Cluster(label) for label in labels}


def _cluster(known: Cluster | None, reading: ClusterReading, at: float) -> Cluster:
    known = known or Cluster(reading.label)
    return Cluster(
        reading.label,
        observed_at=at if reading.complete else known.observed_at,
        error=str(reading.error) if reading.error else None,
        heard=reading.heard or known.heard,
        denied_since=_denied_since(known, reading, at),
    )


def _denied_since(known: Cluster, reading: ClusterReading, at: float) -> float | None:
    """An outage meanwhile does not end it, nor do events; a read that learns something does."""
    is_denied = isinstance(reading.error, AccessDenied | CredentialsExpired)
    if reading.learned:
        return known.denied_since if is_denied else None
    return known.denied_since or (at if is_denied else None)


def _same_content(
    before: Snapshot, clusters: Iterable[Cluster], services: Mapping[Key, Service]
) -> bool:
    if [_known(c) for c in before.clusters] != [_known(c) for c in clusters]:
        return False
    if before.services.keys() != services.keys():
        return False
    return all(services[key] is service for key, service in before.services.items())


def _known(cluster: Cluster) -> tuple[str, bool]:
    return cluster.label, cluster.observed_at is not None

"""What others told, as it is taken: in our clock, nothing older after something newer. Pure."""

from collections.abc import Iterable
from dataclasses import replace

from discovery.catalog.merging import merged
from discovery.catalog.order import is_before
from discovery.errors import SourceError
from discovery.model import Cluster, ClusterReading, Observation, Service, Snapshot
from discovery.snapshots import Told


def shifted(value: Snapshot, by_s: float) -> Snapshot:
    """The snapshot with all its times moved, such as from another machine's clock to ours."""
    return replace(
        value,
        observed_at=value.observed_at + by_s,
        clusters=tuple(_shifted(cluster, by_s) for cluster in value.clusters),
        read_at={
            key: value.read_at.get(key, service.observed_at) + by_s
            for key, service in value.services.items()
        },
    )


def observed(value: Snapshot) -> Observation:
    """The snapshot as what a source learned: one reading a cluster, all of it explained."""
    by_cluster: dict[str, list[Service]] = {label: [] for label in value.labels}
    for service in value.services.values():
        at = value.read_at.get(service.key, service.observed_at)
        read = service if service.observed_at == at else replace(service, observed_at=at)
        by_cluster.setdefault(service.cluster, []).append(read)
    readings = tuple(_reading(c, by_cluster[c.label]) for c in value.clusters)
    return Observation(
        value.observed_at, readings, labels=value.labels, fresh_for_s=value.fresh_for_s
    )


def is_older(value: Told, known: Told | None, since: float, now: float) -> bool:
    """Whether it is from before what is known, or was observed before `since`; all in one clock.

    Of one publisher's epoch the sequence decides; else, since epochs of two do not compare, when
    it was observed.
    """
    one = value.snapshot
    if known is not None:
        other = known.snapshot
        if (value.publisher, one.epoch) != (known.publisher, other.epoch):
            since = max(since, other.observed_at)
        elif one.sequence < other.sequence:
            return True
    return is_before(one.observed_at, since, now)


def newest(known: Told | None, taken: Told) -> Told:
    """What was taken; where others could read less than was known before, that in its place."""
    if known is None:
        return taken
    said, newest = taken.snapshot, merged(known.snapshot, observed(taken.snapshot))
    epoch, sequence, fresh_for_s = said.epoch, said.sequence, said.fresh_for_s
    return replace(
        taken,
        snapshot=replace(newest, epoch=epoch, sequence=sequence, fresh_for_s=fresh_for_s),
    )


def _shifted(value: Cluster, by_s: float) -> Cluster:
    return replace(
        value,
        observed_at=None if value.observed_at is None else value.observed_at + by_s,
        denied_since=None if value.denied_since is None else value.denied_since + by_s,
    )


def _reading(cluster: Cluster, services: Iterable[Service]) -> ClusterReading:
    unread = cluster.error or (None if cluster.observed_at else "it was not read yet")
    return ClusterReading(
        cluster.label,
        tuple(services),
        complete=cluster.observed_at is not None,
        error=SourceError(unread) if unread else None,
        explained=True,
        heard=cluster.heard,
        observed_at=cluster.observed_at or 0.0,  # older than any where there is none
    )

"""Names against one snapshot of whole clusters, without waiting and without asking anyone.

"Not loaded yet", "unknown" and "too old" are three different answers here as everywhere.
"""

from collections.abc import Collection

from discovery.errors import Expired, NotReady, UnknownService
from discovery.model import Cluster, Service, Snapshot
from discovery.names import Name, endpoints_at, find, parse


def any_loaded(snapshot: Snapshot) -> Snapshot:
    """The snapshot, once any cluster of it was read. Raises `NotReady` before that."""
    if any(cluster.observed_at is not None for cluster in snapshot.clusters):
        return snapshot
    raise NotReady("; ".join(unloaded(snapshot)) or "nothing is loaded yet")


def known(snapshot: Snapshot, text: str, zone: str, now: float) -> tuple[Name, Service]:
    """The service of that name, which has the port that the name asks for.

    `now` is seconds since the epoch. Raises `BadName`, `UnknownService`, `UnknownPort`, `NotReady`
    where its cluster or the definition that names ports was never read, and `Expired`.
    """
    cluster = snapshot.cluster(parse(text, snapshot.labels, zone).cluster)
    try:
        name, service = find(snapshot, text, zone)
    except UnknownService:
        if cluster is not None and cluster.observed_at is None:
            raise NotReady(_not_loaded(cluster)) from None
        raise
    if snapshot.is_expired(service, now):
        age = round(snapshot.age_s(service, now))
        raise Expired(
            f"what is known of {service.full_name} is {age} s old and not served any more"
        )
    if name.port is not None:
        endpoints_at(service, name)
    return name, service


def unloaded(snapshot: Snapshot, only: Collection[str] | None = None) -> tuple[str, ...]:
    """One sentence for each cluster that was never read; `only` of these labels, in lower case."""
    never = (c for c in snapshot.clusters if c.observed_at is None)
    return tuple(_not_loaded(c) for c in never if only is None or c.label.lower() in only)


def _not_loaded(cluster: Cluster) -> str:
    why = f": {cluster.error}" if cluster.error else ""
    return f"cluster {cluster.label} is not loaded yet{why}"

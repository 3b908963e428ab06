"""Names against one snapshot of whole clusters, without waiting and without asking anyone.

"Not loaded yet", "unknown" and "too old" are three different answers here as everywhere.
"""

from collections.abc import Collection

from discovery.errors import Expired, NotReady, UnknownService
from discovery.model import Cluster, Service, Snapshot
from discovery.names import Name, close_matches, endpoints_at, look_up


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
    name, service = looked_up(snapshot, text, zone, now)
    if service is None:
        raise UnknownService(text, close_matches(snapshot, name), where=name.cluster)
    if name.port is not None:
        endpoints_at(service, name)
    return name, service


def looked_up(snapshot: Snapshot, text: str, zone: str, now: float) -> tuple[Name, Service | None]:
    """The same without a look at the port, and `None` for a service that is not known."""
    name, service = look_up(snapshot, text, zone)
    if service is None:
        cluster = snapshot.cluster(name.cluster)
        if cluster is not None and cluster.observed_at is None:
            raise NotReady(_not_loaded(cluster))
    elif snapshot.is_expired(service, now):
        age = round(snapshot.age_s(service, now))
        raise Expired(
            f"what is known of {service.full_name} is {age} s old and not served any more"
        )
    return name, service


def unloaded(snapshot: Snapshot, only: Collection[str] | None = None) -> tuple[str, ...]:
    """One sentence for each cluster that was never read; `only` of these labels, in lower case."""
    never = (c for c in snapshot.clusters if c.observed_at is None)
    return tuple(_not_loaded(c) for c in never if only is None or c.label.lower() in only)


def _not_loaded(cluster: Cluster) -> str:
    why = f": {cluster.error}" if cluster.error else ""
    return f"cluster {cluster.label} is not loaded yet{why}"

"""What may come after what is known: nothing that is older. Pure.

Epochs and sequences order what one publisher says, and a source that reads by itself keeps its own
order. What two publishers say only has in common when it was read, and each may have read some
services later than others; so that is compared for each service by itself.
"""

from dataclasses import replace

from discovery.model import ClusterReading, Service, Snapshot

SLACK_S = 1.0  # by which times differ that went from one clock to another


def is_before(at: float, since: float, now: float) -> bool:
    """Whether what was read at `at` is older than what was read at `since`.

    What is later than now was read by a clock that has been set back: it tells nothing.
    """
    return at < since - SLACK_S and since <= now + SLACK_S


def not_older(known: Snapshot, reading: ClusterReading, now: float) -> ClusterReading:
    """The reading, with what it says of services left out that is older than what is known.

    They count as unread, and stay as they are. A list of services that is older tells of nothing
    that it is gone, and what was not read later either, of nothing that it is there. What
    says no time of a list is of now.
    """
    if reading.observed_at is None:
        return reading
    cluster = known.cluster(reading.label)
    listed_at = (cluster.observed_at if cluster else None) or 0.0
    is_old_list = is_before(reading.observed_at, listed_at, now)

    def is_old(service: Service) -> bool:
        at, since = service.observed_at or now, known.read_at.get(service.key)
        if since is None:
            return is_old_list and is_before(at, listed_at, now)
        return is_before(at, since, now)

    old = frozenset(service.name for service in reading.services if is_old(service))
    if not old and not is_old_list:
        return reading
    return replace(
        reading,
        services=tuple(s for s in reading.services if s.name not in old),
        unread=reading.unread | old,
        complete=reading.complete and not is_old_list,
    )

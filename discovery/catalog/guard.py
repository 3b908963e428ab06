"""The drop guard: when a read is too bad to be believed at once. Pure.

A wrong endpoint, a wrong cluster and a broken answer all look like "nothing runs any more". So
where every task of a cluster is gone in one read and the source cannot say why, a second read has
to agree before it is published.
"""

from dataclasses import replace

from discovery.errors import SourceError
from discovery.model import ClusterReading, Observation, Service, Snapshot


class Guard:
    """Holds doubtful readings back until a second one agrees. Has one owner."""

    def __init__(self) -> None:
        self._doubted: frozenset[str] = frozenset()

    def believed(
        self, known: Snapshot, observation: Observation
    ) -> tuple[Observation, frozenset[str]]:
        """What may be published, and the labels of the clusters that need a second reading."""
        doubted = frozenset(
            reading.label
            for reading in observation.clusters
            if reading.label not in self._doubted and is_doubtful(known, reading)
        )
        read = {reading.label for reading in observation.clusters if reading.error is None}
        self._doubted = (self._doubted - read) | doubted
        if not doubted:
            return observation, doubted
        readings = tuple(held_back(r) if r.label in doubted else r for r in observation.clusters)
        return replace(observation, clusters=readings), doubted


def is_doubtful(previous: Snapshot, reading: ClusterReading) -> bool:
    """Whether all tasks that this reading speaks of are gone, unexplained."""
    if reading.explained or any(_runs(service) for service in reading.services):
        return False
    return any(_runs(s) for s in previous.services.values() if speaks_of(reading, s))


def speaks_of(reading: ClusterReading, service: Service) -> bool:
    """Whether the reading says anything of that service: what it is now, or that it is gone."""
    if service.cluster != reading.label or service.name in reading.unread:
        return False
    if reading.complete or service.name in reading.absent:
        return True
    return any(service.name == read.name for read in reading.services)


def held_back(reading: ClusterReading) -> ClusterReading:
    """What is published instead: nothing was learned, and why."""
    reason = f"every task of {reading.label} was gone in one read; a second read has to agree"
    return ClusterReading(reading.label, error=SourceError(reason))


def _runs(service: Service) -> bool:
    return bool(service.endpoints or service.exclusions)

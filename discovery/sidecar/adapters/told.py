"""When who replaces all it has may be told: not while names of ports are missing for a moment.

After a cold start, or with a deployment that replaces all tasks at once, a service may be known
before the task definition that names its ports. Without these names a proxy would drop what it
routes to; told nothing, it keeps what it has. Bounded in time: what cannot be read does not hold up
everything else.
"""

from collections.abc import Sequence

from discovery.errors import NotReady
from discovery.model import Service

PATIENCE_S = 30.0


class Told:
    """What was told of each cluster last. Belongs to one event loop."""

    def __init__(self) -> None:
        self._told: dict[str, dict[str, Service]] = {}  # by label of the cluster, then by name
        self._since: dict[str, float] = {}  # by label, how long one of its services lacks names

    def check(self, services: Sequence[Service], now: float) -> None:
        """These are to be told, being all of their clusters; `now` is in seconds.

        Raises `NotReady` while one of them lacks names that it had, or may have where nothing was
        told yet.
        """
        lacking = {s.cluster: s for s in services if s.definitions_pending and self._lacks(s)}
        for label in {service.cluster for service in services} - lacking.keys():
            self._since.pop(label, None)
        waited = {label: now - self._since.setdefault(label, now) for label in lacking}
        for label, service in lacking.items():
            if waited[label] < PATIENCE_S:
                raise NotReady(f"{service.full_name}: what names its ports is not read yet")
        told: dict[str, dict[str, Service]] = {}
        for service in services:
            told.setdefault(service.cluster, {})[service.name] = service
        self._told |= told

    def _lacks(self, service: Service) -> bool:
        told = self._told.get(service.cluster)
        if told is None:
            return True
        before = told.get(service.name)
        return before is not None and not _labels(before) <= _labels(service)


def _labels(service: Service) -> frozenset[str]:
    return frozenset(port.label for port in service.ports)

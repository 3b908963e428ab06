"""In which availability zone we are, asked once and off the hot path: its endpoints come first."""

import logging
import os
from collections.abc import Mapping

from discovery.errors import SourceError
from discovery.model import Observation
from discovery.sources.base import Source, Wanted

_log = logging.getLogger("discovery")


class Placed:
    """A source that asks the task's metadata for our zone before its first load.

    Loads run on a thread that may block; whoever needs a pool has waited for a load by then.
    Outside of ECS nothing is asked, and `zone` stays `None`; also where the metadata says nothing.
    """

    def __init__(self, source: Source, environment: Mapping[str, str] = os.environ) -> None:
        self._source = source
        self._environment = environment
        self._asked = False
        self.zone: str | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """See `Source.labels`."""
        return self._source.labels

    def load(self, wanted: Wanted) -> Observation:
        """See `Source.load`."""
        if not self._asked:
            self._asked = True
            self.zone = _zone(self._environment)
        return self._source.load(wanted)

    def load_pending(self) -> Observation:
        """See `Source.load_pending`."""
        return self._source.load_pending()

    def close(self) -> None:
        """See `Source.close`."""
        self._source.close()


def _zone(environment: Mapping[str, str]) -> str | None:
    from discovery.ecs import metadata

    try:
        own = metadata.identity(environment)
    except SourceError as error:
        _log.warning("endpoints are chosen in all zones alike: %s", error)
        return None
    return own.zone if own else None

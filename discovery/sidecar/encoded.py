"""Endpoints and exclusions as JSON, encoded once for as long as their service is the same.

Whoever waits for changes asks again at each one, and many wait for the same; a large service is
hundreds of kilobytes.
"""

from contextlib import suppress
from dataclasses import dataclass

import msgspec
from cachetools import LRUCache

from discovery import documents
from discovery.documents import Document
from discovery.model import Service
from discovery.names import Name, endpoints_at

MOST_OCTETS = 8 << 20
OVERHEAD = 2_000  # of what is kept, with a name of a port that is as long as one can be

_Key = tuple[str, str, str | None, str | None]


@dataclass(frozen=True, slots=True)
class _Made:
    service: Service
    endpoints: msgspec.Raw
    excluded: msgspec.Raw

    @property
    def octets(self) -> int:
        return OVERHEAD + len(self.endpoints) + len(self.excluded)


class Encoded:
    """Members of bodies. Belongs to one event loop."""

    def __init__(self, most_octets: int = MOST_OCTETS) -> None:
        self._kept: LRUCache[_Key, _Made] = LRUCache(most_octets, getsizeof=lambda m: m.octets)

    def members(self, service: Service, name: Name) -> Document:
        """`endpoints` at the port that the name asks for, and `excluded`.

        Raises what `endpoints_at` does.
        """
        key = (*service.key, name.port, name.protocol)
        made = self._kept.get(key)
        if made is None or made.service is not service:
            made = _Made(
                service,
                _raw([documents.endpoint(e) for e in endpoints_at(service, name)]),
                _raw([documents.exclusion(e) for e in service.exclusions]),
            )
            with suppress(ValueError):  # larger than all that may be kept
                self._kept[key] = made
        return {"endpoints": made.endpoints, "excluded": made.excluded}


def _raw(several: list[Document]) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(several))

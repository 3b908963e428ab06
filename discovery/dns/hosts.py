"""Which services are at an address: an index that follows snapshots by what changed in them.

Owned by one thread. Addresses are in canonical text.
"""

from collections.abc import Iterable

from discovery.dns import records
from discovery.model import Service

_Key = tuple[str, str]


class Hosts:
    """The services at each address of their endpoints."""

    def __init__(self) -> None:
        self._known: dict[_Key, Service] = {}
        self._at: dict[str, dict[_Key, Service]] = {}

    def follow(self, services: Iterable[Service]) -> None:
        """Know these services from now on; the same objects as before cost nearly nothing."""
        now = {service.key: service for service in services}
        for key, service in self._known.items():
            if now.get(key) is not service:
                self._leave(service)
        for key, service in now.items():
            if self._known.get(key) is not service:
                self._enter(service)
        self._known = now

    def at(self, address: str) -> tuple[Service, ...]:
        """The services at an address."""
        return tuple(self._at.get(address, {}).values())

    def _enter(self, service: Service) -> None:
        for address in addresses_of(service):
            self._at.setdefault(address, {})[service.key] = service

    def _leave(self, service: Service) -> None:
        for address in addresses_of(service):
            there = self._at[address]
            del there[service.key]
            if not there:
                del self._at[address]


def addresses_of(service: Service) -> set[str]:
    """Every address at which an endpoint of the service answers."""
    found = {endpoint.host for endpoint in service.endpoints}
    for host in found & service.other_addresses.keys():
        found.update(service.other_addresses[host])
    return {canonical(address) for address in found}


def canonical(address: str) -> str:
    """IPv6 addresses can be written in many ways; what is no address is left as it is."""
    if ":" not in address:
        return address
    return str(records.parsed_address(address) or address)

"""DNS-SD (RFC 6763): which kinds of ports there are, and who offers one of a kind.

Instances are called `SERVICE._PORT._PROTO.CLUSTER.ZONE`, so that a person's first label is the
service; the zone and each cluster in it can be browsed.
"""

from collections.abc import Iterable, Mapping

from discovery.dns import wire
from discovery.dns.nodes import EMPTY, Node
from discovery.model import Port, Service

KINDS = (b"_services", b"_dns-sd", b"_udp")  # RFC 6763 §9
Kind = tuple[bytes, bytes]
Offers = Mapping[tuple[bytes, ...], tuple[Service, ...]]


def offers_of(services: Iterable[Service]) -> Offers:
    """The services that offer each kind of port, such as `_http._tcp`."""
    kinds: dict[Kind, dict[tuple[str, str], Service]] = {}
    for service in services:
        for kind in {_kind(port) for port in service.ports}:
            if len(kind[0]) <= wire.MAX_LABEL:
                kinds.setdefault(kind, {})[service.key] = service
    return {kind: tuple(found.values()) for kind, found in kinds.items()}


def found_at(
    labels: tuple[bytes, ...],
    offers: Offers,
    clusters: frozenset[str],
    suffix: tuple[bytes, ...],
    zone: tuple[bytes, ...],
) -> Node | None:
    """What a name that ends in `_tcp` or `_udp` before `suffix` has, among these clusters."""
    if len(labels) == 1 or labels == KINDS[1:]:
        return EMPTY
    if labels == KINDS:
        there = (k for k, several in offers.items() if any(s.cluster in clusters for s in several))
        return _pointers(wire.name_of(*kind, *suffix) for kind in sorted(there))
    several = [s for s in offers.get(labels, ()) if s.cluster in clusters]
    if not several:
        return None
    return _pointers(
        wire.name_of(s.name.encode(), *labels, s.cluster.encode(), *zone) for s in several
    )


def _pointers(targets: Iterable[bytes]) -> Node:
    found = tuple(target for target in targets if len(target) <= wire.MAX_NAME)
    return Node({wire.PTR: found} if found else {})


def _kind(port: Port) -> Kind:
    name, _, protocol = f"_{port.label}".lower().encode().rpartition(b".")
    return name, protocol

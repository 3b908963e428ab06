"""What proxies and monitors are told of: names, and the endpoints behind each.

A service is offered by its full name where a rule says which port that means, and by each port's
name beside it where it has several. Only TCP is: nothing here is for UDP.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from discovery.errors import AmbiguousPort, BadName
from discovery.model import Endpoint, Port, Service
from discovery.names import Name, endpoints_at, parse

_UNIT = 100  # a weight of 1 as an integer leaves room for fractions, as in SRV records
_MOST = 0xFFFF


@dataclass(frozen=True, slots=True)
class Offer:
    """A name that finds these endpoints everywhere else, too; there may be none.

    `port` is what they are endpoints of, where that is known without them.
    """

    name: str
    endpoints: tuple[Endpoint, ...]
    port: Port | None = None

    @property
    def is_secure(self) -> bool:
        """Whether TLS is spoken there; as `Endpoint.url` has it."""
        return self.port is not None and (
            self.port.container_port == 443 or (self.port.name or "").lower() == "https"
        )

    @property
    def is_grpc(self) -> bool:
        """Whether HTTP/2 is spoken there from the first octet, by the port's name."""
        return self.port is not None and (self.port.name or "").lower().startswith("grpc")


def offers(service: Service) -> Iterator[Offer]:
    """Every name under which a service is offered; none where no name can carry the service's."""
    plain = Name(service.name, service.cluster)
    if not _is_a_name(plain):
        return
    labels = {port.label: port for port in service.ports if port.protocol == "tcp"}
    only = next(iter(labels.values())) if len(labels) == 1 else None
    names = [(plain, service.default_port or only)]
    names += [(_at(plain, label), port) for label, port in labels.items() if not only]
    for name, port in names:
        try:
            found = endpoints_at(service, name)
        except AmbiguousPort:
            continue  # those of its ports are its names
        if not found or any(e.protocol == "tcp" for e in found):
            yield Offer(str(name), tuple(e for e in found if e.protocol == "tcp"), port)


def integer_weight(weight: float) -> int:
    """A weight as proxies take it: 100 for 1, at least 1 unless it is 0."""
    return max(round(min(weight * _UNIT, _MOST)), 1) if weight > 0 else 0


def weights(endpoints: Sequence[Endpoint]) -> list[int] | None:
    """The endpoints' weights as integers; `None` where they say nothing, as all are equal."""
    if len({endpoint.weight for endpoint in endpoints}) < 2:
        return None
    return [integer_weight(endpoint.weight) for endpoint in endpoints]


def _at(name: Name, label: str) -> Name:
    port, _, _ = label.rpartition("._")
    return Name(name.service, name.cluster, port, "tcp")


def _is_a_name(name: Name) -> bool:
    try:
        parse(str(name), (name.cluster,))
    except BadName:
        return False
    return True

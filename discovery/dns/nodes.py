"""What the names under one service have: `SERVICE.CLUSTER.ZONE` and everything to the left of it.

A `Node` holds record data by type, for whoever answers to put under the name that was asked for.
Nodes of a service are made when first asked for and kept as long as the service is the same one.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from discovery import names
from discovery.dns import records, wire
from discovery.errors import NotReady, UnknownPort
from discovery.model import Endpoint, Protocol, Service
from discovery.names import Name

SHORT_ID = 8
PROTOCOLS = (b"_tcp", b"_udp")
ZONES = b"_zone"
PINNED, PREFERRED = b"pin", b"prefer"
MAX_NODES = 256  # per service
_NOBODYS = b""  # stands for every availability zone that no endpoint is in
_WEIGHT_UNIT = 100  # an SRV weight of 100 for a weight of 1 leaves room for fractions
_LAST_RESORT_RANK = {"draining": 0, "starting": 1, "unhealthy": 2}

Sets = Mapping[int, tuple[bytes, ...]]
Glue = Mapping[bytes, tuple[wire.Record, ...]]
Weights = Mapping[bytes, float]


@dataclass(frozen=True, slots=True)
class Node:
    """What one name has. Without any set it is an empty non-terminal, or all it had is gone.

    `glue` has the address records of SRV targets, by target. `pending` means that what was asked
    for may yet turn up when task definitions have been read. `weights` are those of the endpoints
    behind addresses and services, by data.
    """

    sets: Sets = field(default_factory=dict)
    glue: Glue = field(default_factory=dict)
    pending: bool = False
    weights: Weights = field(default_factory=dict)


EMPTY = Node()


class ServiceNodes:
    """The names under one service. `suffix` are the labels of its cluster and zone."""

    def __init__(self, service: Service, suffix: tuple[bytes, ...], ttl_s: int) -> None:
        self.service = service
        self._own = wire.name_of(service.name.encode(), *suffix)
        self._node = wire.name_of(b"node", *suffix)
        self._ttl_s = ttl_s
        self._nodes: dict[tuple[bytes, ...], Node | None] = {}
        self._task_ids = sorted({i for i in map(task_id, service.endpoints) if i})
        self._zones = {_zone_of(endpoint) for endpoint in service.endpoints} - {_NOBODYS}

    def find(self, labels: tuple[bytes, ...]) -> Node | None:
        """What the name of these labels to the left of the service has; `None`: no such name."""
        labels = self._with_known_zone(labels)
        node = self._nodes.get(labels) or self._made(labels)
        if node is not None:
            if len(self._nodes) >= MAX_NODES:
                self._nodes.clear()
            self._nodes[labels] = node
        return node

    def target(self, endpoint: Endpoint) -> bytes | None:
        """The name that SRV and PTR records give an endpoint's address; `None` if too long."""
        labels = [(records.node_label(endpoint.host), self._node)]
        if endpoint.host in self.service.task_addresses:
            labels.insert(0, (self._task_label(task_id(endpoint)), self._own))
        for label, above in labels:
            if label and len(label) + len(above) < wire.MAX_NAME:
                return bytes((len(label),)) + label + above
        return None

    def addresses(self, endpoints: Iterable[Endpoint]) -> Sets:
        """A and AAAA of endpoints, each address once, in the order of the endpoints."""
        found: dict[tuple[int, bytes], None] = {}
        for host in dict.fromkeys(e.host for e in endpoints):
            for address in (host, *self.service.other_addresses.get(host, ())):
                record = records.a_or_aaaa(address)
                if record is not None:
                    found[record] = None
        return _by_type(found)

    def _with_known_zone(self, labels: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """The same, with one label for all zones that nobody is in: anybody can invent them."""
        if labels[-1:] != (ZONES,) or len(labels) < 3 or labels[-3] in self._zones:
            return labels
        return (*labels[:-3], _NOBODYS, *labels[-2:])

    def _made(self, labels: tuple[bytes, ...]) -> Node | None:
        if labels[-1:] == (ZONES,):
            return self._zoned(labels[:-1])
        if len(labels) == 1 and (task := self._task(labels[0])):
            return Node(self.addresses(task))
        return self._among(labels, self.service.endpoints)

    def _zoned(self, labels: tuple[bytes, ...]) -> Node | None:
        """`AZ.pin._zone` and `AZ.prefer._zone`; every zone exists, as it may be empty just now."""
        if not labels:
            return EMPTY
        if labels[-1] not in (PINNED, PREFERRED):
            return None
        if len(labels) == 1:
            return EMPTY
        zone, rest = labels[-2], labels[:-2]
        inside = tuple(e for e in self.service.endpoints if zone and _zone_of(e) == zone)
        if labels[-1] == PREFERRED and not inside and (not rest or rest[-1] in PROTOCOLS):
            return self.find(rest)
        return self._among(rest, inside)

    def _among(self, labels: tuple[bytes, ...], endpoints: tuple[Endpoint, ...]) -> Node | None:
        """The service itself and its ports, as far as these endpoints go."""
        if not labels:
            return self._whole(endpoints)
        if labels[-1] not in PROTOCOLS:
            return None
        if len(labels) == 1:
            return EMPTY
        if len(labels) > 2 or labels[0][:1] != b"_":
            return None
        return self._port(labels[0][1:], labels[1][1:], endpoints)

    def _whole(self, endpoints: tuple[Endpoint, ...]) -> Node:
        node = self._services(endpoints)
        sets = {**node.sets, **self.addresses(endpoints), wire.TXT: (self._text(endpoints),)}
        return Node(sets, node.glue, weights={**self._weights(endpoints), **node.weights})

    def _weights(self, endpoints: Iterable[Endpoint]) -> Weights:
        """How much is behind each address; a task with several ports counts once."""
        tasks: dict[tuple[str, str | int], float] = {}
        for endpoint in endpoints:
            for address in (endpoint.host, *self.service.other_addresses.get(endpoint.host, ())):
                task = address, endpoint.task_arn or endpoint.port
                tasks[task] = max(tasks.get(task, 0.0), endpoint.weight)
        found: dict[bytes, float] = {}
        for (address, _), weight in tasks.items():
            record = records.a_or_aaaa(address)
            if record is not None:
                found[record[1]] = found.get(record[1], 0.0) + weight
        return found

    def _port(self, port: bytes, protocol: bytes, endpoints: tuple[Endpoint, ...]) -> Node | None:
        asked = port.decode("ascii", "replace")
        name = Name(self.service.name, self.service.cluster, asked, _protocol(protocol))
        try:
            there = names.endpoints_at(self.service, name)
        except NotReady:
            return Node(pending=True)
        except UnknownPort:
            return None
        inside = {id(e) for e in endpoints}
        return self._services(tuple(e for e in there if id(e) in inside))

    def _services(self, endpoints: tuple[Endpoint, ...]) -> Node:
        """SRV of these endpoints, each target and port once, and the addresses of the targets."""
        found: dict[bytes, float] = {}
        glue: dict[bytes, tuple[wire.Record, ...]] = {}
        for endpoint in endpoints:
            target = self.target(endpoint)
            if target is None:
                continue
            data = records.srv(*self._preference(endpoint), endpoint.port, target)
            found[data] = endpoint.weight
            if target not in glue:
                glue[target] = self._glue(target, endpoint)
        return Node({wire.SRV: tuple(found)} if found else {}, glue, weights=found)

    def _glue(self, target: bytes, endpoint: Endpoint) -> tuple[wire.Record, ...]:
        sets = self.addresses((endpoint,))
        return tuple(
            wire.Record(target, kind, self._ttl_s, data)
            for kind, several in sets.items()
            for data in several
        )

    def _preference(self, endpoint: Endpoint) -> tuple[int, int]:
        """Priority and weight: what runs but is not well comes in order, best first."""
        rank = _LAST_RESORT_RANK.get(endpoint.health, 0)
        return rank, max(0, min(round(endpoint.weight * _WEIGHT_UNIT), 0xFFFF))

    def _text(self, endpoints: tuple[Endpoint, ...]) -> bytes:
        service = self.service
        ports = [
            f"port.{p.name or p.container_port}={p.container_port}/{p.protocol}"
            for p in service.ports
        ]
        return records.txt(
            (
                f"service={service.name}",
                f"cluster={service.cluster}",
                f"kind={service.kind}",
                f"endpoints={len(endpoints)}",
                *dict.fromkeys(ports),
            )
        )

    def _task(self, label: bytes) -> tuple[Endpoint, ...]:
        """The endpoints of the task whose id is, or alone begins with, this label."""
        at = bisect_left(self._task_ids, label)
        alike = [i for i in self._task_ids[at : at + 2] if i.startswith(label)]
        if not alike or (label != alike[0] and (len(alike) > 1 or len(label) < SHORT_ID)):
            return ()
        return tuple(e for e in self.service.endpoints if task_id(e) == alike[0])

    def _task_label(self, whole: bytes) -> bytes:
        """The beginning of a task's id if no other begins so, else all of it."""
        short = whole[:SHORT_ID]
        at = bisect_left(self._task_ids, short)
        alike = [i for i in self._task_ids[at : at + 2] if i.startswith(short)]
        return whole if len(alike) > 1 else short


def task_id(endpoint: Endpoint) -> bytes:
    """The last part of the task's ARN, as a label; empty where there is none that DNS can carry."""
    last = (endpoint.task_arn or "").rpartition("/")[2].lower()
    return last.encode() if names.fits_dns(last) else b""


def _zone_of(endpoint: Endpoint) -> bytes:
    return (endpoint.zone or "").lower().encode()


def _protocol(label: bytes) -> Protocol:
    return "udp" if label == b"udp" else "tcp"


def _by_type(found: Iterable[tuple[int, bytes]]) -> Sets:
    sets: dict[int, list[bytes]] = {}
    for kind, data in found:
        sets.setdefault(kind, []).append(data)
    return {kind: tuple(several) for kind, several in sets.items()}

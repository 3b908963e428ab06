"""What a name means: `[_PORT._PROTO.]SERVICE[.CLUSTER][.ZONE]`, compared without case.

Splitting needs the known cluster labels, because services on ECS, families and free-text groups
may hold nearly any character; nothing here asks anyone.
"""

import difflib
import heapq
import ipaddress
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast, get_args

from discovery.errors import AmbiguousPort, BadName, NotReady, UnknownPort, UnknownService
from discovery.model import Endpoint, Port, Protocol, Service, Snapshot

MAX_LABEL = 63  # RFC 1035 §2.3.4
_LIKELY = 20
MAX_NAME = 1_024  # ECS allows 255 octets each for service and cluster; the rest is room for ports


@dataclass(frozen=True, slots=True)
class Name:
    """A parsed name. `port` is a port's name or number as text; `cluster` is a known label."""

    service: str
    cluster: str
    port: str | None = None
    protocol: Protocol | None = None

    def __str__(self) -> str:
        prefix = f"_{self.port}._{self.protocol}." if self.port else ""
        return f"{prefix}{self.service}.{self.cluster}"


def parse(text: str, labels: tuple[str, ...], zone: str = "ecs.internal") -> Name:
    """The parts of a name, given the known cluster labels (the default first).

    Raises `BadName` for what no name can be, and where there is no cluster at all.
    """
    rest = _without_zone(text.strip().rstrip("."), zone)
    if not rest or len(rest) > MAX_NAME or any(c in rest for c in "/ \t\r\n\0"):
        raise BadName(text, "want [_PORT._PROTO.]SERVICE[.CLUSTER], such as orders or orders.prod")
    if not labels:
        raise BadName(text, "no cluster is configured")
    port, protocol, rest = _split_port(text, rest)
    service, cluster = _split_cluster(rest, labels)
    if not service:
        raise BadName(text, "it has a cluster and no service")
    return Name(service, cluster, port, protocol)


def find(snapshot: Snapshot, text: str, zone: str = "ecs.internal") -> tuple[Name, Service]:
    """The service of that name. Raises `BadName`, or `UnknownService` with close matches.

    A group with dots in its name is found as it stands, unless it ends in a cluster's label.
    """
    name, service = look_up(snapshot, text, zone)
    if service is None:
        raise UnknownService(text, close_matches(snapshot, name), where=name.cluster)
    return name, service


def look_up(
    snapshot: Snapshot, text: str, zone: str = "ecs.internal"
) -> tuple[Name, Service | None]:
    """The same without the work for suggestions: `None` for a service that is not known."""
    name = parse(text, snapshot.labels, zone)
    found = snapshot.named(name.cluster, name.service)
    if len(found) > 1:
        both = " and ".join(service.name for service in found)
        raise BadName(text, f"{both} differ in case only: write one of them exactly")
    return name, found[0] if found else None


def endpoints_at(service: Service, name: Name) -> tuple[Endpoint, ...]:
    """The service's endpoints at the port that the name asks for, else at the default port.

    Raises `AmbiguousPort` where several ports are equal, `UnknownPort` where there is no such one,
    `NotReady` where a task definition that is not read yet may still name it. A service of which
    nothing runs may not say which ports it would have: it has no endpoints at any.
    """
    if name.port is not None:
        there = tuple(e for e in service.endpoints if _asked(e, name.port, name.protocol))
        if not there and not ports_at(service, name.port, name.protocol):
            _refuse_port(service, name.port)
        return there
    if service.default_port is not None:
        meant = ((service.default_port_of(e), e) for e in service.endpoints)
        return tuple(e for port, e in meant if port is not None and port.is_of(e))
    if len({(e.container, e.container_port, e.protocol) for e in service.endpoints}) > 1:
        raise AmbiguousPort(service.full_name, [p.label for p in service.ports])
    return service.endpoints


def ports_at(service: Service, port: str, protocol: str | None) -> tuple[Port, ...]:
    """The service's ports that a name's `_PORT._PROTO` asks for, by name or by number."""
    return tuple(p for p in service.ports if _asked(p, port, protocol))


def close_matches(snapshot: Snapshot, name: Name) -> list[str]:
    """Up to three full names that a person may have meant, the likeliest first."""
    service, full = name.service.lower(), f"{name.service}.{name.cluster}".lower()
    here: dict[str, str] = {}
    everywhere: dict[str, str] = {}
    for cluster, known in _known(snapshot):
        everywhere[f"{known}.{cluster}".lower()] = f"{known}.{cluster}"
        if cluster == name.cluster:
            here[known.lower()] = f"{known}.{cluster}"
    likely = [
        *(everywhere[low] for low in everywhere if low.rpartition(".")[0] == service),
        # What follows may be a cluster that is not read.
        *(here[low] for low in (service.partition(".")[0],) if low in here),
        *(here[low] for low in _closest(service, here, 0.6)),
        # The shared cluster alone makes full names alike, so these have to be closer.
        *(everywhere[low] for low in _closest(full, everywhere, 0.8)),
    ]
    return list(dict.fromkeys(likely))[:3]


def _closest(word: str, candidates: Iterable[str], cutoff: float) -> list[str]:
    """The close matches among those that share most letters and pairs of letters with it.

    To compare with all of them in full would take a tenth of a second for a thousand services.
    """
    traits = {*word, *itertools.pairwise(word)}

    def likeness(other: str) -> float:
        shared = traits.intersection(itertools.chain(other, itertools.pairwise(other)))
        return len(shared) / (len(word) + len(other))

    likely = heapq.nlargest(_LIKELY, candidates, key=likeness)
    return difflib.get_close_matches(word, likely, 3, cutoff)


def _known(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """Cluster and name of every service read, and of those that are only known to exist."""
    yield from snapshot.services
    for cluster in snapshot.clusters:
        yield from ((cluster.label, name) for name in sorted(cluster.heard))


def fits_dns(label: str) -> bool:
    """Whether a DNS label can carry this service or cluster name (RFC 1035 §2.3.4)."""
    return 0 < len(label.encode()) <= MAX_LABEL and "." not in label and label.isascii()


def is_address(host: str) -> bool:
    """Whether it is the text of an IP address, which is nobody's name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _refuse_port(service: Service, port: str) -> None:
    if service.definitions_pending:
        raise NotReady(f"{service.full_name}: the task definition that names ports is not read yet")
    if service.ports or service.endpoints:
        raise UnknownPort(port, [p.label for p in service.ports], service.full_name)


def _asked(at: Endpoint | Port, port: str, protocol: str | None) -> bool:
    if protocol is not None and at.protocol != protocol:
        return False
    name = at.port_name if isinstance(at, Endpoint) else at.name
    return str(at.container_port) == port or (name is not None and name.lower() == port.lower())


def _without_zone(text: str, zone: str) -> str:
    suffix = f".{zone}"
    return text[: -len(suffix)] if text.lower().endswith(suffix.lower()) else text


def _split_port(text: str, rest: str) -> tuple[str | None, Protocol | None, str]:
    head, _, tail = rest.partition(".")
    protocol, _, service = tail.partition(".")
    if not head.startswith("_") or protocol.lower().lstrip("_") not in get_args(Protocol):
        return None, None, rest
    if not service or len(head) < 2 or not protocol.startswith("_"):
        raise BadName(text, "want _PORT._tcp.SERVICE or _PORT._udp.SERVICE")
    return head[1:], cast(Protocol, protocol[1:].lower()), service


def _split_cluster(rest: str, labels: tuple[str, ...]) -> tuple[str, str]:
    for label in labels:
        if rest.lower().endswith(f".{label.lower()}"):
            return rest[: -len(label) - 1], label
    return rest, labels[0]

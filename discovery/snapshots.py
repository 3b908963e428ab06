"""Snapshot documents: what `/v1/snapshot` says and disks keep, written here and read here.

Rule 1: a reader ignores members that it does not know, has a default for each that a writer before
it left out, and reads its own format and the one before it. Whatever it could misread, such as a
new value of a member it knows, is a new format.
Rule 2: a document is believed whole or not at all; what is wrong is a `SourceMalformed`.
Rule 3: times are the writer's clock; whoever reads moves them to its own (`sources.hearsay`).
Rule 4: with `since` a document is what changed since that index and can be read only on top of the
snapshot of that index; times are always all there, as `[time, services]` runs in order of services.
"""

import ipaddress
import itertools
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated

import msgspec

from discovery.documents import Document, endpoint, endpoints, in_order
from discovery.errors import SourceMalformed
from discovery.model import (
    MAX_WEIGHT,
    Cluster,
    Endpoint,
    Exclusion,
    Identity,
    Kind,
    Placement,
    Port,
    Protocol,
    Service,
    Snapshot,
)

Key = tuple[str, str]
_Length = Annotated[int, msgspec.Meta(ge=1)]
_Followers = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
Runs = tuple[tuple[float, _Length], ...]  # a time, and how many services in a row have it

FORMAT = 1
MAX_BYTES = 64 << 20  # of a document, ten times what 10,000 tasks take
FORMATS = range(max(1, FORMAT - 1), FORMAT + 1)  # that are read
_MOST_WEIGHT = MAX_WEIGHT**2  # a tag's, scaled to a share of the traffic
_EITHER = 32 + zlib.MAX_WBITS  # zlib or gzip, as the header says
_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs from the snapshot of the index `since`: services, and those that are gone."""

    since: int
    changed: Set[Key] = frozenset()
    gone: Collection[Key] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """A snapshot as its publisher knows it, and who that is: indices compare within one only.

    `followers` is how many follow the publisher, as far as it said.
    """

    snapshot: Snapshot
    publisher: str = ""
    followers: int = 0

    @property
    def token(self) -> str:
        """What to tell the publisher in order to get changes only."""
        return token_of(self.publisher, self.snapshot.index)


def token_of(publisher: str, index: int) -> str:
    """Content by publisher and index: `1f2e3d.123`."""
    return f"{publisher}.{index}"


def document(
    value: Snapshot,
    now: float,
    *,
    publisher: str = "",
    followers: int = 0,
    changes: Changes | None = None,
) -> Iterator[bytes]:
    """The body of `/v1/snapshot` in pieces, none of which takes long to make.

    `age_s` and `stale` of its services are as of `now`, seconds since the epoch.
    """
    services = in_order(value)
    head: Document = {
        "format": FORMAT,
        "index": value.index,
        "observed_at": value.observed_at,
        "publisher": publisher,
        "followers": followers,
        "epoch": value.epoch,
        "sequence": value.sequence,
        "fresh_for_s": value.fresh_for_s,
        "stale_limit_s": value.stale_limit_s,
        "clusters": [_cluster(cluster, services) for cluster in value.clusters],
        "read_at": runs(value.read_at.get(s.key, s.observed_at) for s in services),
    }
    if changes is not None:
        head |= {"since": changes.since, "gone": sorted(changes.gone)}
        services = [service for service in services if service.key in changes.changed]
    yield _ENCODER.encode(head)[:-1] + b',"services":['
    for number, service in enumerate(services):
        yield (b",\n" if number else b"\n") + _ENCODER.encode(_service(service, value, now))
    yield b"]}\n"


def runs(times: Iterable[float]) -> Runs:
    """Times with repetitions counted: services of one sweep have few different ones."""
    return tuple((time, sum(1 for _ in same)) for time, same in itertools.groupby(times))


def told(content: bytes, known: Told | None = None) -> Told:
    """What a document says; one of changes is read on top of `known`. Raises `SourceMalformed`."""
    found = _decoded(content)
    services = {read.key: _known(read) for read in found.services}
    if found.since is not None:
        services = _on_top(services, found, known)
    return Told(_snapshot(found, services), found.publisher, found.followers)


def inflated(content: bytes) -> bytes:
    """What was compressed by zlib or gzip, within bounds. Raises `SourceMalformed`."""
    inflate = zlib.decompressobj(_EITHER)
    try:
        whole = inflate.decompress(content, MAX_BYTES)
    except zlib.error as exc:
        raise SourceMalformed(f"it cannot be decompressed: {exc}") from exc
    if not inflate.eof:
        raise SourceMalformed(f"it is cut off or over {MAX_BYTES >> 20} MiB")
    return whole


# Writing


def _cluster(value: Cluster, services: Iterable[Service]) -> Document:
    here = {service.name for service in services if service.cluster == value.label}
    return {
        "label": value.label,
        "observed_at": value.observed_at,
        "error": value.error,
        "denied_since": value.denied_since,
        "heard": sorted(value.heard - here),
    }


def _service(value: Service, snapshot: Snapshot, now: float) -> Document:
    """As `/v1/endpoints` has it, and all else that an answer may depend on."""
    return endpoints(value, snapshot, now) | {
        "kind": value.kind,
        "excluded": value.exclusions,
        "ports": value.ports,
        "default_port": value.default_port,
        "other_default_ports": value.other_default_ports,
        "definitions_pending": value.definitions_pending,
        "other_addresses": value.other_addresses,
        "task_addresses": sorted(value.task_addresses),
        "spares": [endpoint(spare) for spare in value.spares],
        "placements": value.placements,
        "notes": [(*identity, note) for identity, note in value.notes.items()],
    }


# Reading


class _Service(msgspec.Struct, frozen=True):
    """A service of a document; writers before this version leave out all after `age_s`."""

    service: str
    cluster: str
    endpoints: tuple[Endpoint, ...]
    excluded: tuple[Exclusion, ...] = ()
    age_s: float = 0.0
    kind: Kind = "service"
    ports: tuple[Port, ...] | None = None
    default_port: Port | None = None
    other_default_ports: dict[str, Port] = {}
    definitions_pending: bool = False
    other_addresses: dict[str, tuple[str, ...]] = {}
    task_addresses: frozenset[str] = frozenset()
    spares: tuple[Endpoint, ...] = ()
    placements: dict[str, Placement] = {}
    notes: tuple[tuple[str, str | None, int | None, Protocol, str], ...] = ()

    @property
    def key(self) -> Key:
        return self.cluster, self.service


class _Document(msgspec.Struct, frozen=True):
    format: int
    index: int
    observed_at: float
    services: tuple[_Service, ...]
    publisher: str = ""
    followers: _Followers = 0
    epoch: int | None = None
    sequence: int | None = None
    fresh_for_s: float = 30.0
    stale_limit_s: float = 86_400.0
    clusters: tuple[Cluster, ...] = ()
    read_at: Runs | None = None
    since: int | None = None
    gone: tuple[Key, ...] = ()


class _Format(msgspec.Struct, frozen=True):
    format: int


_DECODER = msgspec.json.Decoder(_Document)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _decoded(content: bytes) -> _Document:
    """What it says. Of a format that is not read nothing but that: it may have any shape."""
    try:
        found = _DECODER.decode(content)
    except _UNREADABLE as exc:
        with suppress(*_UNREADABLE):
            _refuse_unread(msgspec.json.decode(content, type=_Format).format)
        raise SourceMalformed(f"no snapshot document: {exc}") from exc
    _refuse_unread(found.format)
    return found


def _refuse_unread(found: int) -> None:
    if found not in FORMATS:
        read = " and ".join(map(str, FORMATS))
        raise SourceMalformed(f"format {found} is not one that this version reads: {read}")


def _known(read: _Service) -> Service:
    for each in (*read.endpoints, *read.spares):
        _check(each)
    for more in read.other_addresses.values():
        for host in more:
            _check_address(host)
    notes: dict[Identity, str] = {(a, b, c, d): note for a, b, c, d, note in read.notes}
    ports, default_port = read.ports, read.default_port
    if ports is None:
        ports = _ports(read.endpoints)
        default_port = ports[0] if len(ports) == 1 else None
    return Service(
        read.service,
        read.cluster,
        read.kind,
        read.endpoints,
        read.excluded,
        ports,
        default_port,
        read.definitions_pending,
        read.other_addresses,
        task_addresses=read.task_addresses,
        other_default_ports=read.other_default_ports,
        spares=read.spares,
        placements=read.placements,
        notes=notes,
    )


def _ports(known: Iterable[Endpoint]) -> tuple[Port, ...]:
    """The ports that endpoints say they have, for documents that say it nowhere else."""
    ports = (
        Port(e.container_port, e.protocol, e.port_name, e.container)
        for e in known
        if e.container_port is not None
    )
    return tuple(dict.fromkeys(ports))


def _check(value: Endpoint) -> None:
    if not 0 < value.port < 65_536:
        raise SourceMalformed(f"{value.service}: port {value.port} of {value.host} is no port")
    if not 0 <= value.weight <= _MOST_WEIGHT:
        raise SourceMalformed(f"{value.service}: weight {value.weight} of {value.host} is none")
    _check_address(value.host)


def _check_address(host: str) -> None:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise SourceMalformed(f"{host!r} is no IP address") from None


def _on_top(
    changed: Mapping[Key, Service], found: _Document, known: Told | None
) -> dict[Key, Service]:
    before = known.snapshot if known is not None else Snapshot()
    if known is None or (known.publisher, before.index) != (found.publisher, found.since):
        raise SourceMalformed(f"changes since {found.since}, which is not what was read before")
    gone = frozenset(found.gone)
    kept = {key: s for key, s in before.services.items() if key not in gone}
    return {**kept, **changed}


def _snapshot(found: _Document, services: dict[Key, Service]) -> Snapshot:
    labels = dict.fromkeys(cluster for cluster, _ in services)
    clusters = found.clusters or tuple(Cluster(label, found.observed_at) for label in labels)
    if unknown := labels.keys() - {cluster.label for cluster in clusters}:
        raise SourceMalformed(f"cluster {unknown.pop()!r} has services and is not listed")
    epoch, sequence = divmod(found.index, 1 << 20)
    value = Snapshot(
        epoch=epoch if found.epoch is None else found.epoch,
        sequence=sequence if found.sequence is None else found.sequence,
        observed_at=found.observed_at,
        clusters=clusters,
        services=services,
        fresh_for_s=found.fresh_for_s,
        stale_limit_s=found.stale_limit_s,
    )
    if value.index != found.index:
        raise SourceMalformed(f"index {found.index} is not that of its epoch and sequence")
    return replace(value, read_at=_times(found, value))


def _times(found: _Document, value: Snapshot) -> dict[Key, float]:
    """When each service was read; before there were runs, their ages told it."""
    if found.read_at is None:
        least = min((read.age_s for read in found.services), default=0.0)
        return {read.key: found.observed_at - (read.age_s - least) for read in found.services}
    if sum(count for _, count in found.read_at) != len(value.services):
        raise SourceMalformed("read_at has times for another number of services")
    times = itertools.chain.from_iterable(itertools.repeat(at, n) for at, n in found.read_at)
    return {service.key: at for service, at in zip(in_order(value), times, strict=True)}

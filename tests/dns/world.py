"""A small world by hand: what the DNS tests ask about."""

import struct

import dns.rdata
import dns.rdataclass
import dns.rdatatype

from discovery.dns import wire
from discovery.dns.zone import Apex
from discovery.model import Cluster, Endpoint, Port, Service, Snapshot

NOW = 1_000_000.0
HTTP = Port(80, "tcp", "http", "web")
ADMIN = Port(9_000, "tcp", None, "web")
STATS = Port(80, "udp", "stats", "web")
APEX = Apex((b"ecs", b"internal"), 5, 2, ("127.0.0.1",))


def task_arn(task_id: str, cluster: str = "prod") -> str:
    """An ARN in the long form."""
    return f"arn:aws:ecs:eu-west-1:123456789012:task/{cluster}/{task_id}"


def endpoint(
    task: str,
    host: str,
    port: int,
    at: Port = HTTP,
    service: str = "orders",
    cluster: str = "prod",
    zone: str | None = "eu-west-1a",
    weight: float = 1.0,
) -> Endpoint:
    """One port of one task."""
    return Endpoint(
        *(host, port, at.protocol, at.container_port, at.name, at.container),
        task_arn=task_arn(task, cluster),
        cluster=cluster,
        service=service,
        zone=zone,
        weight=weight,
    )


TASKS = tuple(f"{n:08x}" + 24 * "a" for n in range(1, 5))

ORDERS = Service(
    "orders",
    "prod",
    endpoints=(
        endpoint(TASKS[0], "10.0.1.10", 32_768),
        endpoint(TASKS[1], "10.0.1.10", 32_769),
        endpoint(TASKS[2], "10.0.1.11", 32_768, zone="eu-west-1b"),
        endpoint(TASKS[2], "10.0.1.11", 32_770, ADMIN, zone="eu-west-1b"),
    ),
    ports=(HTTP, ADMIN),
    default_port=HTTP,
)
PAY = Service(
    "Pay",
    "prod",
    endpoints=(
        endpoint(TASKS[0], "10.0.5.1", 80, service="Pay"),
        endpoint(TASKS[1], "10.0.5.2", 80, service="Pay", weight=2.5),
        endpoint(TASKS[1], "10.0.5.2", 80, STATS, service="Pay"),
        endpoint(TASKS[3], "2001:db8::3", 80, service="Pay"),
    ),
    ports=(HTTP, STATS),
    task_addresses=frozenset({"10.0.5.1", "10.0.5.2", "2001:db8::3"}),
    other_addresses={"10.0.5.2": ("2001:db8::2",)},
)
IDLE = Service("idle", "prod", ports=(HTTP,))
COLD = Service(
    "cold",
    "prod",
    endpoints=(
        Endpoint(
            "10.0.1.10", 4_000, container_port=80, task_arn=task_arn("c" * 32), service="cold"
        ),
    ),
    ports=(Port(80, container="web"),),
    definitions_pending=True,
)
UPPER, LOWER = Service("Twin", "prod"), Service("twin", "prod")
LONG = Service("x" * 64, "prod")
BILLING = Service(
    "billing",
    "staging",
    endpoints=(endpoint(TASKS[0], "10.9.0.1", 8_080, service="billing", cluster="staging"),),
    ports=(HTTP,),
)
CLUSTERS = (Cluster("prod", NOW), Cluster("staging", NOW), Cluster("late"))
SERVICES = (ORDERS, PAY, IDLE, COLD, UPPER, LOWER, LONG, BILLING)


def snapshot(
    *services: Service, clusters: tuple[Cluster, ...] = CLUSTERS, read_at: float = NOW
) -> Snapshot:
    """A snapshot of these services, all read at one moment."""
    known = services or SERVICES
    return Snapshot(
        epoch=1,
        sequence=7,
        observed_at=read_at,
        clusters=clusters,
        services={s.key: s for s in known},
        read_at={s.key: read_at for s in known},
    )


SNAPSHOT = snapshot()


def many(count: int, name: str = "many") -> Service:
    """A bridge service of `count` endpoints on as many hosts."""
    endpoints = tuple(
        endpoint(f"{n:032x}", f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 32_768, service=name)
        for n in range(count)
    )
    return Service(name, "prod", endpoints=endpoints, ports=(HTTP,), default_port=HTTP)


def as_text(kind: int, data: bytes) -> str:
    """Record data as dnspython understands it."""
    rdtype = dns.rdatatype.RdataType.make(kind)
    return dns.rdata.from_wire(dns.rdataclass.IN, rdtype, data, 0, len(data)).to_text()


def question(name: str, kind: int = wire.A, cls: int = wire.IN) -> bytes:
    """A question section of one name as it is written, case and all."""
    labels = [label.encode() for label in name.rstrip(".").split(".") if label]
    wired = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    return wired + struct.pack("!2H", kind, cls)


def packet(
    asked: bytes,
    *extra: bytes,
    ident: int = 0x1234,
    flags: int = wire.RD,
    counts: tuple[int, int, int] | None = None,
    questions: int = 1,
) -> bytes:
    """A query; what follows the question are additional records unless `counts` says otherwise."""
    header = struct.pack("!6H", ident, flags, questions, *(counts or (0, 0, len(extra))))
    return header + asked + b"".join(extra)


def opt(*options: tuple[int, bytes], size: int = 1_232, version: int = 0, flags: int = 0) -> bytes:
    """The OPT record of a query."""
    data = b"".join(struct.pack("!2H", code, len(value)) + value for code, value in options)
    return b"\0" + struct.pack("!HHBBHH", wire.OPT, size, 0, version, flags, len(data)) + data

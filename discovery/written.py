"""What can be written for a setting, and the value that it stands for.

Each function takes text, or what TOML makes of it, and raises `ValueError` with what is wanted.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

_UNITS_S = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_CLUSTER_ARN = re.compile(r"arn:[\w-]+:ecs:(?P<region>[\w-]+):\d*:cluster/(?P<name>[\w-]+)")
_CLUSTER = re.compile(r"(?:(?P<region>[a-z]+(?:-[a-z]+)+-\d+)/)?(?P<name>[A-Za-z0-9_-]{1,255})")
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,255}")
_QUEUE = re.compile(
    r"https?://[^/\s]+/\d+/[\w.-]+|(?:arn:[\w-]+:sqs:[\w-]+:\d+:)?[\w-]{1,80}(?:\.fifo)?"
)
_CLUSTER_WANT = "NAME, REGION/NAME or a cluster's ARN"
_FORWARD_WANT = "a resolver's ADDR or ADDR:PORT, auto, or ZONE=ADDR, such as corp.example=10.0.0.2"
_ROLE_ARN = re.compile(r"arn:[\w-]+:iam::\d{12}:role/[\w+=,.@/-]+")
_SOME_ROLE = "arn:aws:iam::123456789012:role/discovery"
_CLUSTER_KEYS = ("name", "region", "role_arn", "external_id", "alias")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: an IP address and a port (0 for any free one)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """One cluster to read, in which region, and with which role (assumed, with an external id).

    With an `arn`, no cluster of that name in another account will do.
    """

    name: str
    region: str | None = None
    role_arn: str | None = None
    external_id: str | None = None
    alias: str | None = None
    arn: str | None = None

    @property
    def label(self) -> str:
        """What names call it: the alias, needed where two clusters share a name."""
        return self.alias or self.name


@dataclass(frozen=True, slots=True)
class Upstream:
    """A local TCP port that leads to a service: the name to resolve, and where to listen."""

    name: str
    address: Address

    def __str__(self) -> str:
        return f"{self.name}={self.address}"


@dataclass(frozen=True, slots=True)
class Forward:
    """A resolver to ask for the names of a zone, the empty one for all that have no other.

    Without an address: those in `/etc/resolv.conf`.
    """

    zone: str
    resolver: Address | None

    def __str__(self) -> str:
        where = AUTO if self.resolver is None else str(self.resolver)
        return f"{self.zone}={where}" if self.zone else where


AUTO = "auto"
DNS_ADDRESS = Address("127.0.0.1", 1053)
HTTP_ADDRESS = Address("127.0.0.1", 8053)


def duration(value: object) -> float:
    """Seconds, from a number or from text such as `30s`, `500ms`, `5m`, `24h`."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|[smhd]?)\s*", str(value))
    if isinstance(value, bool) or not match:
        raise ValueError("a duration, such as 10s, 500ms or 5m")
    return float(match[1]) * _UNITS_S[match[2]]


def positive_duration(value: object) -> float:
    """Seconds, more than none."""
    seconds = duration(value)
    if seconds <= 0:
        raise ValueError("a duration over 0, such as 10s")
    return seconds


def ttl(value: object) -> int:
    """A TTL in whole seconds; DNS carries no fractions."""
    seconds = duration(value)
    if seconds != int(seconds) or seconds > 86_400:
        raise ValueError("whole seconds up to a day, such as 5s")
    return int(seconds)


def share(value: object) -> float:
    """A factor over 0 and up to 10."""
    try:
        factor = float(str(value))
    except ValueError:
        factor = 0.0
    if isinstance(value, bool) or not 0 < factor <= 10:
        raise ValueError("a number over 0 and up to 10")
    return factor


def boolean(value: object) -> bool:
    """True or false, as TOML or as text."""
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if str(value).lower() not in known:
        raise ValueError("true or false")
    return known[str(value).lower()]


def text(value: object) -> str:
    """Any text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("some text")
    return value.strip()


def zone(value: object) -> str:
    """A DNS zone name, without the last dot."""
    name = text(value).rstrip(".").lower()
    labels = name.split(".")
    if len(name) > 200 or not all(re.fullmatch(r"[a-z0-9_-]{1,63}", label) for label in labels):
        raise ValueError("a DNS name, such as ecs.internal")
    return name


def address(value: object) -> Address:
    """`ADDR:PORT`, with brackets around an IPv6 address."""
    want = "ADDR:PORT, such as 127.0.0.1:1053 or [::1]:1053"
    host, _, port = text(value).rpartition(":")
    if not port.isdecimal() or int(port) > 65_535:
        raise ValueError(want)
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError(want)
    try:
        return Address(str(ipaddress.ip_address(host.strip("[]"))), int(port))
    except ValueError:
        raise ValueError(want) from None


def ip_family(value: object) -> Literal["ipv4", "ipv6"]:
    """Which address to prefer where a task has both."""
    if value not in ("ipv4", "ipv6"):
        raise ValueError("ipv4 or ipv6")
    return value


def texts(value: object) -> tuple[str, ...]:
    """Several texts: a list, or one text with commas."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, Sequence):
        raise ValueError("a list, or text with commas")
    return tuple(text(item) for item in items)


def upstreams(value: object) -> tuple[Upstream, ...]:
    """Local ports and the services that they lead to: `NAME=ADDR:PORT`, each address once."""
    found = tuple(_upstream(item) for item in texts(value))
    taken = [upstream.address for upstream in found if upstream.address.port]
    if len(set(taken)) < len(taken):
        raise ValueError("another address for each")
    return found


def forwards(value: object) -> tuple[Forward, ...]:
    """Resolvers for names that are not ours: `ADDR[:PORT]` or `auto`, for one zone `ZONE=…`."""
    return tuple(_forward(item) for item in texts(value))


def _forward(item: str) -> Forward:
    above, equals, where = item.rpartition("=")
    name = zone(above) if equals else ""
    if where.strip() == AUTO:
        return Forward(name, None)
    try:
        resolver = Address(str(ipaddress.ip_address(where.strip().strip("[]"))), 53)
    except ValueError:
        try:
            resolver = address(where)
        except ValueError:
            raise ValueError(_FORWARD_WANT) from None
    return Forward(name, resolver)


def networks(value: object) -> tuple[str, ...]:
    """Networks such as `10.0.0.0/8`; a single address is one, too."""
    found = []
    for item in texts(value):
        try:
            found.append(str(ipaddress.ip_network(item)))
        except ValueError:
            raise ValueError("networks, such as 10.0.0.0/8 or fd00::/8") from None
    return tuple(found)


def order(value: object) -> Literal["balanced", "weighted", "stable"]:
    """In which order the records of an answer stand."""
    if value not in ("balanced", "weighted", "stable"):
        raise ValueError("balanced, weighted or stable")
    return value


def queue(value: object) -> str:
    """An SQS queue: a URL, an ARN or a name."""
    written = text(value)
    if not _QUEUE.fullmatch(written):
        raise ValueError("the name, ARN or URL of an SQS queue")
    return written


def path_or_off(value: object) -> str | None:
    """A file, or `off` for none."""
    written = text(value)
    return None if written == "off" else written


def fallback(value: object) -> Literal["off", "ecs"]:
    """What to read while no hub answers."""
    if value not in ("off", "ecs"):
        raise ValueError("off or ecs")
    return value


def enable(value: object) -> Literal["all", "tagged"]:
    """Which services have endpoints."""
    if value not in ("all", "tagged"):
        raise ValueError("all or tagged")
    return value


def log_format(value: object) -> Literal["text", "json"]:
    """How lines of the log look."""
    if value not in ("text", "json"):
        raise ValueError("text or json")
    return value


def _upstream(item: str) -> Upstream:
    name, equals, where = item.partition("=")
    if not equals or not name.strip():
        raise ValueError("NAME=ADDR:PORT, such as orders=127.0.0.1:9001")
    return Upstream(name.strip(), address(where))


def clusters(value: object) -> tuple[ClusterSettings, ...]:
    """Clusters by name, region and name, ARN, or as tables; their labels differ."""
    items: Iterable[object] = value.split(",") if isinstance(value, str) else _list(value)
    found = tuple(_cluster(item) for item in items)
    labels = [c.label.lower() for c in found]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise ValueError(f"an alias for one of the two clusters called {twice}")
    return found


def _list(value: object) -> Sequence[object]:
    if isinstance(value, ClusterSettings):
        return (value,)
    if not isinstance(value, Sequence):
        raise ValueError(_CLUSTER_WANT)
    return value


def _cluster(item: object) -> ClusterSettings:
    if isinstance(item, ClusterSettings):
        return item
    if isinstance(item, Mapping):
        return _cluster_table(item)
    written = text(item)
    arn = _CLUSTER_ARN.fullmatch(written)
    match = arn or _CLUSTER.fullmatch(written)
    if not match:
        raise ValueError(_CLUSTER_WANT)
    return ClusterSettings(match["name"], match["region"], arn=written if arn else None)


def _cluster_table(table: Mapping[str, object]) -> ClusterSettings:
    unknown = [key for key in table if key not in _CLUSTER_KEYS]
    if unknown or "name" not in table:
        raise ValueError(f"a table with name and any of {', '.join(_CLUSTER_KEYS[1:])}")
    given = {key: text(value) for key, value in table.items()}
    if not _LABEL.fullmatch(given.get("alias", "x")):
        raise ValueError("an alias of letters, digits, - and _")
    if not _ROLE_ARN.fullmatch(given.get("role_arn", _SOME_ROLE)):
        raise ValueError(f"a role_arn such as {_SOME_ROLE}")
    named = _cluster(given.pop("name"))
    region = given.pop("region", named.region)
    return ClusterSettings(named.name, region, **given, arn=named.arn)

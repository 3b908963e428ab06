"""Every setting: its key, meaning and default; what can be written for it is in `written`.

Settings merge layers of plain values; whoever reads flags, environment, files and metadata hands
the layers in, the strongest first. A wrong value is a `BadSetting` that names where it was found.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any, Literal

from discovery.errors import BadSetting
from discovery.probe import Probe, count, probes
from discovery.secret import Secret, secret
from discovery.written import (
    DNS_ADDRESS,
    HTTP_ADDRESS,
    Address,
    ClusterSettings,
    Forward,
    Upstream,
    address,
    boolean,
    clusters,
    duration,
    enable,
    fallback,
    forwards,
    ip_family,
    log_format,
    networks,
    order,
    path_or_off,
    positive_duration,
    queue,
    share,
    text,
    texts,
    ttl,
    upstreams,
    zone,
)

ENVIRONMENT_PREFIX = "ECS_DISCOVERY_"


def _setting(default: Any, key: str, decode: Callable[[object], Any], meaning: str) -> Any:
    return field(default=default, metadata={"key": key, "decode": decode, "meaning": meaning})


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings with their defaults. `key` is how files and flags call one."""

    clusters: tuple[ClusterSettings, ...] = _setting(
        (), "clusters", clusters, "clusters to read, the default first"
    )
    zone: str = _setting("ecs.internal", "zone", zone, "DNS zone that names end in")
    dns: Address = _setting(DNS_ADDRESS, "dns", address, "address of the DNS server, UDP and TCP")
    http: Address = _setting(HTTP_ADDRESS, "http", address, "address of the HTTP server")
    source: str = _setting(
        "ecs",
        "source",
        text,
        "what to read: ecs, file:PATH, http://HUB:PORT (several with commas), redis://STORE:PORT",
    )
    cache: str | None = _setting(
        None, "cache", path_or_off, "file for the last good snapshot, to start from in an outage"
    )
    hub_token: Secret | None = _setting(
        None, "hub_token", secret, "bearer token for hubs, or file:PATH"
    )
    hub_ca: str | None = _setting(
        None, "hub_ca", text, "PEM file of the authorities that sign hubs' certificates"
    )
    fallback: Literal["off", "ecs"] = _setting(
        "off", "fallback", fallback, "what to read while no hub answers: ecs, or off for nothing"
    )
    http_token: Secret | None = _setting(
        None, "http_token", secret, "bearer token that HTTP requests must have, or file:PATH"
    )
    tls_cert: str | None = _setting(
        None,
        "tls_cert",
        text,
        "PEM file of the HTTP server's certificate and its chain: HTTPS only",
    )
    tls_key: str | None = _setting(
        None, "tls_key", text, "PEM file of the certificate's key, where it is not in the same file"
    )
    events: str | None = _setting(
        None, "events", queue, "SQS queue that EventBridge feeds, for this process alone"
    )
    interval_s: float = _setting(
        10.0, "interval", positive_duration, "pause between refreshes; jittered, stretched to fit"
    )
    ttl_s: int = _setting(5, "ttl", ttl, "TTL of DNS answers")
    negative_ttl_s: int = _setting(2, "negative_ttl", ttl, "TTL of negative DNS answers")
    stale_limit_s: float = _setting(
        86_400.0, "stale_limit", positive_duration, "age from which data is not served any more"
    )
    share: float = _setting(1.0, "share", share, "factor on our share of the API's rate limits")
    ip_family: Literal["ipv4", "ipv6"] = _setting(
        "ipv4", "ip_family", ip_family, "address to prefer where a task has both"
    )
    public_addresses: bool = _setting(
        False, "public_addresses", boolean, "answer with the public addresses of awsvpc tasks"
    )
    target_health: bool = _setting(
        True,
        "target_health",
        boolean,
        "leave out targets that a service's load balancers leave out",
    )
    allowed_hosts: tuple[str, ...] = _setting(
        (), "allowed_hosts", texts, "further Host headers that the HTTP server takes"
    )
    upstreams: tuple[Upstream, ...] = _setting(
        (), "upstreams", upstreams, "local TCP ports that lead to services"
    )
    forward: tuple[Forward, ...] = _setting(
        (), "forward", forwards, "resolvers for other names; auto: those in /etc/resolv.conf"
    )
    dns_clients: tuple[str, ...] = _setting(
        (), "dns_clients", networks, "networks that may ask the DNS server, instead of private ones"
    )
    dns_order: Literal["balanced", "weighted", "stable"] = _setting(
        "balanced", "dns_order", order, "order of records in DNS answers"
    )
    enable: Literal["all", "tagged"] = _setting(
        "all", "enable", enable, "all services, or those tagged ecs-discovery.enable = true only"
    )
    overrides: str | None = _setting(
        None, "overrides", text, "TOML file of what is decided by hand, read again when it changes"
    )
    availability_zone: str | None = _setting(
        None, "availability_zone", text, "zone whose endpoints are used first; any: none is"
    )
    lame_duck_s: float = _setting(
        5.0, "lame_duck", duration, "how long answers go on after SIGTERM"
    )
    share_address: bool = _setting(
        False, "share_address", boolean, "let the next sidecar take over our addresses (Linux)"
    )
    log_format: Literal["text", "json"] = _setting(
        "text", "log_format", log_format, "form of the log: text, or json with an object a line"
    )
    traces: bool = _setting(
        False, "traces", boolean, "OpenTelemetry spans of refreshes and AWS calls, sent by OTLP"
    )
    emf: bool = _setting(
        False, "emf", boolean, "metrics for CloudWatch on standard output, a line of JSON a minute"
    )
    boot_check: bool = _setting(
        True, "boot_check", boolean, "admit a task that just started once it accepts connections"
    )
    probes: tuple[Probe, ...] = _setting(
        (), "probes", probes, "active probes, such as tcp, orders=http:/health or api-*=grpc"
    )
    probe_interval_s: float = _setting(
        10.0, "probe_interval", positive_duration, "pause between probes of an endpoint; jittered"
    )
    probe_rise: int = _setting(
        2, "probe_rise", count, "probes in a row that must pass to take an endpoint in again"
    )
    probe_fall: int = _setting(
        3, "probe_fall", count, "probes in a row that must fail to take an endpoint out"
    )


def declared() -> tuple[Field[Any], ...]:
    """The declared settings, in order; `metadata` has `key`, `decode` and `meaning`."""
    return fields(Settings)


def variable(key: str) -> str:
    """The environment variable of a setting: `ECS_DISCOVERY_TTL`, `ECS_DISCOVERY_CLUSTER`."""
    return ENVIRONMENT_PREFIX + ("CLUSTER" if key == "clusters" else key.upper())


def from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The layer of values that the environment sets; empty variables count as not set."""
    keys = [declaration.metadata["key"] for declaration in declared()]
    return {key: environment[variable(key)] for key in keys if environment.get(variable(key))}


def merge(*layers: tuple[str, Mapping[str, object]]) -> tuple[Settings, dict[str, str]]:
    """Settings from layers `(origin, values)`, the strongest first, and each key's origin.

    Values of `None` count as not set. Raises `BadSetting` for a value that cannot be used and for
    a key that is no setting.
    """
    _refuse_unknown(layers)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for declaration in declared():
        key = declaration.metadata["key"]
        origin, raw = next(
            ((o, layer[key]) for o, layer in layers if layer.get(key) is not None),
            ("default", None),
        )
        origins[key] = origin
        if raw is not None:
            values[declaration.name] = _decoded(declaration, key, origin, raw)
    return Settings(**values), origins


def _decoded(declaration: Field[Any], key: str, origin: str, raw: object) -> object:
    try:
        return declaration.metadata["decode"](raw)
    except ValueError as why:
        raise BadSetting(f"{key} ({origin})", _written(declaration, raw), str(why)) from None


def _written(declaration: Field[Any], raw: object) -> object:
    """The value as it was written: no tuple, which repeated options are, and no secret."""
    if declaration.metadata["decode"] is secret:
        return "(not shown)"
    return ",".join(map(str, raw)) if isinstance(raw, tuple) else raw


def _refuse_unknown(layers: Sequence[tuple[str, Mapping[str, object]]]) -> None:
    known = [declaration.metadata["key"] for declaration in declared()]
    for origin, layer in layers:
        for key in layer:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                meant = f", such as {near[0]}" if near else ""
                want = f"the key of a setting{meant}: ecs-discovery config prints all"
                raise BadSetting(origin, key, want)

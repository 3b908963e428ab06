"""What `doctor` finds of the sidecar that runs here, else of the addresses where one could."""

import os
import socket
from collections.abc import Iterator, Sequence
from typing import TypedDict

import msgspec

from discovery.cli import addresses, asking
from discovery.cli.findings import Finding
from discovery.errors import BadSetting, Unauthorized
from discovery.settings import Settings, variable
from discovery.sources.secrets import revealed
from discovery.written import Address

ASK_TIMEOUT_S = 3.0


class _Cluster(TypedDict):
    name: str
    age_s: float | None
    error: str | None
    services: int
    endpoints: int


class _Budget(TypedDict):
    endpoint: str
    group: str
    available: float
    capacity: float
    per_s: float
    factor: float


class _Status(TypedDict):
    """What of `/v1/status` is looked at."""

    stale_after_s: float
    clusters: list[_Cluster]
    budgets: list[_Budget]


def of_sidecar(settings: Settings) -> Iterator[Finding]:
    """The sidecar that runs here, else whether one could listen."""
    address = str(settings.http)
    try:
        heard = asking.ask(address, "/ready", ASK_TIMEOUT_S)
    except asking.NoAnswer:
        yield Finding("sidecar", "skipped", f"none answers at {address}")
        yield _of_address("DNS", settings.dns, addresses.DNS)
        yield _of_address("HTTP", settings.http, addresses.HTTP)
        return
    if heard.status == 200:
        yield Finding("sidecar", "ok", f"ready at {address}")
    else:
        try:
            missing = "; ".join(msgspec.json.decode(heard.body)["waiting_for"])
        except (msgspec.DecodeError, KeyError, TypeError):
            fix = "name another address with --http"
            yield Finding("sidecar", "failed", f"what answers at {address} is no sidecar", fix)
            return
        fix = "its log says more; the other red lines here may be the reason"
        yield Finding("sidecar", "failed", f"not ready at {address}: {missing}", fix)
    yield from _of_status(address, settings)


def _of_status(address: str, settings: Settings) -> Iterator[Finding]:
    """How old what it knows is, and what is left of its budgets."""
    try:
        token = revealed(settings.http_token, "http_token") if settings.http_token else None
        heard = asking.ask(address, "/v1/status", ASK_TIMEOUT_S, token)
        if heard.status == Unauthorized.status:
            fix = f"use --http-token TOKEN or {variable('http_token')}"
            yield Finding("sidecar: status", "failed", "it wants another token", fix)
            return
        status = msgspec.json.decode(heard.body, type=_Status)
    except BadSetting as error:
        yield Finding("sidecar: status", "failed", error.message, "name the file of its token")
        return
    except (asking.NoAnswer, msgspec.DecodeError) as error:
        fix = "look at its version, and at what stands between it and us"
        yield Finding("sidecar: status", "failed", str(error), fix)
        return
    for cluster in status["clusters"]:
        yield _of_cluster(cluster, status["stale_after_s"])
    for endpoint in sorted({budget["endpoint"] for budget in status["budgets"]}):
        yield _of_budgets([each for each in status["budgets"] if each["endpoint"] == endpoint])


def _of_cluster(cluster: _Cluster, stale_after_s: float) -> Finding:
    check, age_s = f"sidecar: cluster {cluster['name']}", cluster["age_s"]
    if age_s is None:
        said, is_old = "never read", True
    else:
        counts = f"{cluster['services']} services, {cluster['endpoints']} endpoints"
        said, is_old = f"{counts}, read {age_s:.0f} s ago", age_s > stale_after_s
    if cluster["error"]:
        said = f"{said}: {cluster['error']}"
    fix = "its log says since when; the red lines of the cluster say why"
    if is_old:
        return Finding(check, "failed", said, fix)
    return Finding(check, "warning", said, fix) if cluster["error"] else Finding(check, "ok", said)


def _of_budgets(budgets: Sequence[_Budget]) -> Finding:
    """Of one endpoint's; the throttle group that has the least left is shown."""
    check = f"sidecar: calls to {budgets[0]['endpoint']}"
    least = min(budgets, key=lambda each: (each["factor"], each["available"] / each["capacity"]))
    said = (
        f"{least['group']}: {least['available']:.0f} of {least['capacity']:.0f} left,"
        f" {least['per_s']:.1f} a second more"
    )
    if least["factor"] == 1:
        return Finding(check, "ok", said)
    fix = (
        "find who else calls so often in this account (CloudTrail tells), or let one sidecar read"
        " for all: --source http://HUB:8053"
    )
    said = f"{said}: AWS throttled, which left {least['factor']:.0%} of our share"
    return Finding(check, "warning", said, fix)


def _of_address(name: str, address: Address, kinds: tuple[socket.SocketKind, ...]) -> Finding:
    check = f"{name} address"
    error = addresses.refusal(address, kinds)
    if error is None:
        return Finding(check, "ok", f"{address} is free")
    fix = f"end what listens there (ss -lnp), or use --{name.lower()} ADDR:PORT"
    if isinstance(error, PermissionError):
        fix = "ports under 1024 need root or net.ipv4.ip_unprivileged_port_start"
    said = f"{address} cannot be used: {os.strerror(error.errno or 0).lower()}"
    return Finding(check, "failed", said, fix)

"""What `doctor` finds, one function a subject; each red finding has its fix."""

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from discovery.catalog.connecting import connected
from discovery.cli import asking
from discovery.cli.permissions import PERMISSIONS
from discovery.ecs import metadata
from discovery.ecs.checkup import Checkup, Who
from discovery.ecs.clients import Access
from discovery.errors import (
    AccessDenied,
    ClusterNotFound,
    CredentialsExpired,
    CredentialsMissing,
    SourceError,
)
from discovery.model import Endpoint
from discovery.secret import without_password
from discovery.settings import Settings
from discovery.written import Address, ClusterSettings

State = Literal["ok", "warning", "failed", "skipped"]
SKEW_S = 60.0  # AWS refuses signatures at five minutes
ASK_TIMEOUT_S = 3.0
CONNECT_TIMEOUT_S = 2.0
STOP_TIMEOUT_S = 30.0  # of ECS, where a container definition says nothing
_GRANT = "add it to the task role: ecs-discovery taskdef policy prints what is needed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `fix` is what to do where something is wrong."""

    check: str
    state: State
    detail: str
    fix: str | None = None


def of_aws(settings: Settings, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Credentials, clusters and each action that the settings lead to."""
    if settings.source != "ecs":
        yield Finding(
            "AWS", "skipped", f"{without_password(settings.source)} is read, AWS is not asked"
        )
        return
    checkup = Checkup(environment)
    try:
        for cluster in settings.clusters:
            yield from _of_cluster(checkup, cluster, settings)
    finally:
        checkup.close()


def _of_cluster(
    checkup: Checkup, cluster: ClusterSettings, settings: Settings
) -> Iterator[Finding]:
    access = Access(cluster.region, cluster.role_arn, cluster.external_id)
    name = f"cluster {cluster.label}"
    try:
        who = checkup.who(access)
    except SourceError as error:
        yield Finding(f"{name}: credentials", "failed", str(error), _fix(error))
        return
    yield Finding(f"{name}: credentials", "ok", f"{who.arn} in {who.region}")
    yield from _of_clock(who)
    named = cluster.arn or cluster.name
    try:
        state = checkup.cluster(access, named)
    except SourceError as error:
        yield Finding(name, "failed", str(error), _fix(error))
        if not isinstance(error, AccessDenied):
            return
    else:
        running = f"{state.running_tasks} tasks, {state.services} services"
        said = f"{state.status}, {running}, {state.instances} container instances"
        good = state.status == "ACTIVE"
        fix = None if good else "name a cluster that is ACTIVE"
        yield Finding(name, "ok" if good else "failed", said, fix)
    for permission in PERMISSIONS:
        if permission.is_needed(settings):
            trouble = checkup.trouble(permission.action, access, cluster.name, who)
            check = f"{name}: {permission.action}"
            if trouble is None:
                yield Finding(check, "ok", "allowed")
            else:
                cost = f"{trouble}; without it {permission.without}"
                yield Finding(check, "failed", cost, _fix(trouble))


def _fix(error: SourceError) -> str:
    if isinstance(error, AccessDenied):
        return _GRANT
    return {
        CredentialsMissing.code: "give the task a role, or set AWS_PROFILE or AWS_ACCESS_KEY_ID",
        CredentialsExpired.code: "renew them; a task role renews itself",
        ClusterNotFound.code: "look at its name, the region and the account",
    }.get(error.code, "look at the region, the network and AWS_ENDPOINT_URL")


def _of_clock(who: Who) -> Iterator[Finding]:
    if who.skew_s is None:
        return
    said = f"{abs(who.skew_s):.0f} s {'ahead of' if who.skew_s > 0 else 'behind'} AWS's"
    if abs(who.skew_s) > SKEW_S:
        yield Finding("clock", "failed", said, "set it by NTP: AWS refuses what is 300 s off")
    else:
        yield Finding("clock", "ok", said)


def of_metadata(environment: Mapping[str, str]) -> Iterator[Finding]:
    """The task that we run in."""
    if metadata.VARIABLE not in environment:
        yield Finding("task metadata", "skipped", "this is no ECS task")
        return
    try:
        found = metadata.identity(environment)
    except SourceError as error:
        fix = "look at the agent, and at what stands between it and this container"
        yield Finding("task metadata", "failed", str(error), fix)
        return
    assert found is not None
    where = f"task {found.task_arn}, {found.network_mode}, zone {found.zone}"
    yield Finding("task metadata", "ok", where)


def of_sidecar(settings: Settings) -> Iterator[Finding]:
    """The sidecar that runs here, else whether one could listen."""
    address = str(settings.http)
    try:
        heard = asking.ask(address, "/ready", ASK_TIMEOUT_S)
    except asking.NoAnswer:
        yield Finding("sidecar", "skipped", f"none answers at {address}")
        yield from _of_port("DNS", settings.dns, (socket.SOCK_DGRAM, socket.SOCK_STREAM))
        yield from _of_port("HTTP", settings.http, (socket.SOCK_STREAM,))
        return
    if heard.status == 200:
        yield Finding("sidecar", "ok", f"ready at {address}")
        return
    try:
        missing = "; ".join(msgspec.json.decode(heard.body)["waiting_for"])
    except (msgspec.DecodeError, KeyError, TypeError):
        fix = "name another address with --http"
        yield Finding("sidecar", "failed", f"what answers at {address} is no sidecar", fix)
    else:
        fix = "its log says more; the other red lines here may be the reason"
        yield Finding("sidecar", "failed", f"not ready at {address}: {missing}", fix)


def _of_port(name: str, address: Address, kinds: Sequence[int]) -> Iterator[Finding]:
    check = f"{name} address"
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    for kind in kinds:
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, kind == socket.SOCK_STREAM)
            try:
                probe.bind((address.host, address.port))
            except OSError as error:
                fix = f"end what listens there (ss -lnp), or use --{name.lower()} ADDR:PORT"
                if isinstance(error, PermissionError):
                    fix = "ports under 1024 need root or net.ipv4.ip_unprivileged_port_start"
                said = f"{address} cannot be used: {os.strerror(error.errno or 0).lower()}"
                yield Finding(check, "failed", said, fix)
                return
    yield Finding(check, "ok", f"{address} is free")


def of_times(settings: Settings, client_cache_s: float) -> Iterator[Finding]:
    """How long callers go on asking for a task that ends, against how long ECS lets it live."""
    parts = {"interval": settings.interval_s, "TTL": settings.ttl_s, "their own": client_cache_s}
    longest_s = sum(parts.values())
    terms = " + ".join(f"{name} {value:g} s" for name, value in parts.items() if value)
    said = f"callers by DNS may use a task for {longest_s:g} s after its end began ({terms})"
    if longest_s < STOP_TIMEOUT_S:
        fix = f"start the services' programs with exec --drain {longest_s:g}, to lose no request"
        yield Finding("caches of callers", "ok", f"{said}; ECS waits {STOP_TIMEOUT_S:g} s: {fix}")
    else:
        fix = (
            f"set stopTimeout over {longest_s:g} s in the services' task definitions and start"
            f" them with exec --drain {longest_s:g}, or lower --interval and --ttl"
        )
        yield Finding("caches of callers", "warning", said, fix)


def of_endpoints(name: str, endpoints: Sequence[Endpoint]) -> Iterator[Finding]:
    """Whether each can be connected to from here."""
    if not endpoints:
        fix = f"see ecs-discovery explain {name}"
        yield Finding(f"connect {name}", "failed", "no endpoint to connect to", fix)
    tcp = [e for e in endpoints if e.protocol == "tcp"]
    results = connected(((e.host, e.port) for e in tcp), CONNECT_TIMEOUT_S)
    for endpoint in tcp:
        yield _connected(name, endpoint, results.get((endpoint.host, endpoint.port)))


def _connected(name: str, endpoint: Endpoint, result: tuple[str, str] | None) -> Finding:
    check = f"connect {name} {endpoint.authority}"
    kind, why = result or ("untried", "this machine has no socket left")
    if kind == "accepted":
        return Finding(check, "ok", "accepts connections")
    if kind == "refused":
        fix = "its container does not listen there: look at its port mapping and its log"
        return Finding(check, "failed", "refused", fix)
    if kind == "silent":
        fix = "open its security group for this address, or look at routes and network ACLs"
        return Finding(check, "failed", f"no answer: {why}", fix)
    return Finding(check, "warning", f"not tried: {why}")

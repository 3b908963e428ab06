"""What `doctor` finds, one function a subject; each red finding has its fix.

What asks AWS is in `findings_aws`, what asks a running sidecar in `findings_sidecar`,
and what reads another source in `findings_source`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from discovery.catalog.connecting import connected
from discovery.ecs import metadata
from discovery.errors import SourceError
from discovery.model import Endpoint
from discovery.settings import Settings

State = Literal["ok", "warning", "failed", "skipped"]
CONNECT_TIMEOUT_S = 2.0
STOP_TIMEOUT_S = 30.0  # of ECS, where a container definition says nothing


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `fix` is what to do where something is wrong."""

    check: str
    state: State
    detail: str
    fix: str | None = None


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

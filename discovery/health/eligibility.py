"""Which running containers serve, and which only do when nothing better runs.

HEALTHY is in and UNHEALTHY is out. UNKNOWN is in where the definition has no health check; with
one it means "no verdict yet" at first, and later only that ECS lost sight: the last verdict holds.
What is being stopped, or has not come up, serves as a last resort, and says so.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from discovery.model import SERVES, Endpoint, Exclusion, Health, Placement, Port

CheckKey = tuple[str, str, str | None]
Verdicts = Mapping[CheckKey, Health]

RANK: Mapping[Health, int] = {
    **dict.fromkeys(SERVES, 0),
    "draining": 1,
    "starting": 2,
    "unhealthy": 3,
}
_REPORTED: Mapping[str, Health] = {"HEALTHY": "healthy", "UNHEALTHY": "unhealthy"}
_WHY: Mapping[Health, str] = {
    "draining": "it is being stopped",
    "starting": "its health check has no verdict yet",
    "unhealthy": "its health check fails",
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A running container's port with what is known of its health.

    `check` identifies the run of the container that verdicts are about. `reported` is ECS's word
    for the container's health. `phase` is set, with the reason, where the task's own state outdoes
    health: it is draining or still starting. `is_own_address`: the host is the task's own network
    interface, which has `other_address` where it is a dual stack.
    """

    endpoint: Endpoint
    check: CheckKey
    reported: str | None = None
    has_health_check: bool = False
    phase: Health | None = None
    phase_reason: str = ""
    is_own_address: bool = False
    other_address: str | None = None
    placement: Placement = field(default_factory=Placement)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What serves, what does not and why, and the verdicts to remember for these containers.

    `spares` are the endpoints among the excluded, should what serves turn out not to.
    """

    endpoints: tuple[Endpoint, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()
    spares: tuple[Endpoint, ...] = ()
    verdicts: Verdicts = field(default_factory=dict)


def port_of(endpoint: Endpoint) -> object:
    """What makes endpoints alternatives of each other: the same port of the same container."""
    return endpoint.container, endpoint.container_port, endpoint.protocol


def role_of(endpoint: Endpoint, default: Port | None) -> object:
    """What it stands for: equal for endpoints that a caller may take for each other."""
    if default is not None and default.is_of(endpoint):
        return "default"
    named = endpoint.port_name
    return named or (endpoint.container, endpoint.container_port), endpoint.protocol


def judged(
    candidates: Iterable[Candidate],
    verdicts: Verdicts,
    role: Callable[[Endpoint], object] = port_of,
) -> Judgement:
    """Sort the candidates of one service, given the last verdicts on their containers.

    Whether something better runs is asked among those of the same `role`: a metrics port that
    serves is no reason to give up the application's. Endpoints come in a stable order, and after
    them, as a last resort, all that run in roles in which nothing serves, best first.
    """
    rated = sorted(
        ((_health(candidate, verdicts), candidate) for candidate in candidates),
        key=lambda pair: _order(pair[1].endpoint),
    )
    served = {role(c.endpoint) for health, c in rated if health in SERVES}
    kept = [(h, c) for h, c in rated if h in SERVES or role(c.endpoint) not in served]
    kept.sort(key=lambda pair: RANK[pair[0]])
    out = [(h, c) for h, c in rated if h not in SERVES and role(c.endpoint) in served]
    return Judgement(
        tuple(_judged(c.endpoint, health) for health, c in kept),
        tuple(_excluded(health, c) for health, c in out),
        tuple(_judged(c.endpoint, health) for health, c in out),
        _remembered(rated, verdicts),
    )


def _judged(endpoint: Endpoint, health: Health) -> Endpoint:
    return endpoint if endpoint.health == health else replace(endpoint, health=health)


def _health(candidate: Candidate, verdicts: Verdicts) -> Health:
    if candidate.phase is not None:
        return candidate.phase
    reported = _REPORTED.get(candidate.reported or "")
    if reported is not None:
        return reported
    if not candidate.has_health_check:
        return "unknown"
    return verdicts.get(candidate.check, "starting")


def _remembered(rated: list[tuple[Health, Candidate]], verdicts: Verdicts) -> Verdicts:
    found: dict[CheckKey, Health] = {}
    for _, candidate in rated:
        verdict = _REPORTED.get(candidate.reported or "") or verdicts.get(candidate.check)
        if verdict is not None:
            found[candidate.check] = verdict
    return found


def _excluded(health: Health, candidate: Candidate) -> Exclusion:
    endpoint = candidate.endpoint
    return Exclusion(
        task_arn=endpoint.task_arn or "",
        reason=candidate.phase_reason or _WHY[health],
        container=endpoint.container,
        container_port=endpoint.container_port,
    )


def _order(endpoint: Endpoint) -> tuple[str, str, int, str]:
    return (
        endpoint.task_arn or "",
        endpoint.container or "",
        endpoint.container_port or 0,
        endpoint.protocol,
    )

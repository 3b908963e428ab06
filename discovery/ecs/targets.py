"""What load balancers say of a service's targets, and what it means for the service's endpoints.

A target is an instance id and its port, or an address and its port, as the target group's type has
it. `initial`, `unhealthy` and `draining` targets do not serve; `unused` and `unavailable` say that
the load balancer has no opinion. Source: the Elastic Load Balancing API reference, TargetHealth.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from discovery.ecs.fields import Document, part, port, rows, text
from discovery.health.eligibility import Candidate
from discovery.model import Health

_PHASES: Mapping[str, Health] = {
    "initial": "starting",
    "unhealthy": "unhealthy",
    "draining": "draining",
    "unhealthy.draining": "draining",
}

Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class TargetGroup:
    """A target group that the tasks of a service are registered with, by a container's port."""

    arn: str
    container: str | None = None
    container_port: int | None = None

    def has(self, candidate: Candidate) -> bool:
        """Whether the port of the candidate is what is registered."""
        endpoint = candidate.endpoint
        if endpoint.protocol != "tcp" or self.container not in (None, endpoint.container):
            return False
        return self.container_port in (None, endpoint.container_port)


@dataclass(frozen=True, slots=True)
class Target:
    """One target's state, and the load balancer's reason for it (`Target.Timeout`, say)."""

    state: str
    reason: str | None = None

    @property
    def serves(self) -> bool:
        """Whether the load balancer would send it something, or has no opinion."""
        return self.state not in _PHASES

    @property
    def why(self) -> str:
        """The state in words for a person."""
        return f"its target is {self.state}" + (f" ({self.reason})" if self.reason else "")


@dataclass(frozen=True, slots=True)
class TargetHealth:
    """What was last read of one target group, and when."""

    targets: Mapping[Key, Target] = field(default_factory=dict)
    read_at: float = 0.0


def groups_in(service: Document) -> tuple[TargetGroup, ...]:
    """The target groups of a service and of its task sets, both sides of a blue/green pair."""
    found: dict[TargetGroup, None] = {}
    for owner in (service, *rows(service, "taskSets")):
        for entry in rows(owner, "loadBalancers"):
            alternate = text(part(entry, "advancedConfiguration"), "alternateTargetGroupArn")
            for arn in (text(entry, "targetGroupArn"), alternate):
                if arn is not None:
                    group = TargetGroup(
                        arn, text(entry, "containerName"), port(entry, "containerPort")
                    )
                    found[group] = None
    return tuple(found)


def targets_in(answer: Document) -> dict[Key, Target]:
    """The targets in an answer of DescribeTargetHealth."""
    found: dict[Key, Target] = {}
    for row in rows(answer, "TargetHealthDescriptions"):
        target, health = part(row, "Target"), part(row, "TargetHealth")
        name, number, state = text(target, "Id"), port(target, "Port"), text(health, "State")
        if name is not None and number is not None and state is not None:
            found[name, number] = Target(state, text(health, "Reason"))
    return found


def heard(
    candidates: Iterable[Candidate],
    machine: str | None,
    groups: Sequence[TargetGroup],
    healths: Mapping[str, TargetHealth],
) -> list[Candidate]:
    """The candidates of one task, in the phase that their targets are in.

    `machine` is the id of the task's EC2 instance. A target that serves in one group serves; what
    is in none is as it is.
    """
    return [_heard(each, machine, groups, healths) for each in candidates]


def _heard(
    candidate: Candidate,
    machine: str | None,
    groups: Sequence[TargetGroup],
    healths: Mapping[str, TargetHealth],
) -> Candidate:
    if candidate.phase is not None:
        return candidate
    hosts = (machine, candidate.endpoint.host, candidate.other_address)
    keys = [(host, candidate.endpoint.port) for host in hosts if host]
    known = [healths[g.arn].targets for g in groups if g.arn in healths and g.has(candidate)]
    found = [targets[key] for targets in known for key in keys if key in targets]
    if not found or any(target.serves for target in found):
        return candidate
    worst = found[0]
    return replace(candidate, phase=_PHASES[worst.state], phase_reason=worst.why)

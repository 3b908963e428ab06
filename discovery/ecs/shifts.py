"""Finding out how the traffic of services shifts between their deployments, while it does.

Rule 1: a service whose traffic does not shift costs no call. Rule 2: without the permission, what
is being replaced serves for as long as it runs, which DescribeServices tells; it is said once an
hour, and asked for again then.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from discovery.ecs import calls
from discovery.ecs.calls import Call, Steps
from discovery.ecs.memory import Memory, Scope
from discovery.ecs.services import ServiceFacts
from discovery.ecs.traffic import (
    Traffic,
    Weight,
    definitions_in,
    latest_in,
    told,
    unmatched,
    weights_in,
)
from discovery.errors import AccessDenied, SourceError, SourceMalformed

AT_ONCE = 20  # service deployments, or revisions, that one call describes
UNDER_WAY = (
    *("PENDING", "IN_PROGRESS", "STOP_REQUESTED"),
    *("ROLLBACK_REQUESTED", "ROLLBACK_IN_PROGRESS"),
)
REASON = "know which deployments serve production"

Weights = Mapping[str, tuple[Weight, ...]]


@dataclass(slots=True)
class Shifts:
    """The traffic of services by name, and why that of others could not be read."""

    told: dict[str, Traffic] = field(default_factory=dict)
    failed: dict[str, SourceError] = field(default_factory=dict)


def shifts(
    scope: Scope, memory: Memory, shifting: Mapping[str, ServiceFacts], now: float
) -> Steps[Shifts]:
    """Ask for the shares of services whose traffic shifts now."""
    found = Shifts()
    denied = memory.denial("DescribeServiceDeployments", "ListServiceDeployments")
    if denied is not None:
        found.told = {n: _denied(memory, n, facts, denied) for n, facts in shifting.items()}
        return found
    arns = yield from _deployments(scope, shifting, found)
    weights = yield from _weights(arns, found)
    definitions = yield from _definitions(memory, weights, shifting)
    for name, each in weights.items():
        traffic = told(each, shifting[name].deployments, definitions)
        if traffic is not None:
            found.told[name] = traffic
    for name, error in list(found.failed.items()):
        if isinstance(error, AccessDenied):
            memory.deny(error, now)
            found.told[name] = _denied(memory, name, shifting[name], error)
            del found.failed[name]
    return found


def _deployments(
    scope: Scope, shifting: Mapping[str, ServiceFacts], found: Shifts
) -> Steps[dict[str, str]]:
    """The service deployment of each service: the service names it, or has to be asked for it."""
    arns = {name: arn for name, facts in shifting.items() if (arn := facts.deployment_arn)}
    unnamed = sorted(shifting.keys() - arns.keys())
    asked = [calls.pages(_list(scope, name), limit=1) for name in unnamed]
    for name, listing in zip(unnamed, (yield from calls.together(*asked)), strict=True):
        latest = latest_in(listing.pages)
        if latest is not None:
            arns[name] = latest
        elif listing.error is not None:
            found.failed[name] = listing.error
    return arns


def _weights(arns: Mapping[str, str], found: Shifts) -> Steps[Weights]:
    names = {arn: name for name, arn in arns.items()}
    chunks = _chunks(sorted(names))
    asked = [_describe("DescribeServiceDeployments", "serviceDeploymentArns", c) for c in chunks]
    weights: dict[str, tuple[Weight, ...]] = {}
    for chunk, answer in zip(chunks, (yield from calls.all_of(asked)), strict=True):
        error: SourceError = SourceMalformed(f"no word of {len(chunk)} service deployments")
        read: dict[str, tuple[Weight, ...]] = {}
        if isinstance(answer, SourceError):
            error = answer
        else:
            read = weights_in(answer)
        weights.update({names[arn]: read[arn] for arn in chunk if arn in read})
        found.failed.update({names[arn]: error for arn in chunk if arn not in read})
    return weights


def _definitions(
    memory: Memory, weights: Weights, shifting: Mapping[str, ServiceFacts]
) -> Steps[Mapping[str, str]]:
    """Definitions of revisions whose number is no deployment's; a revision never changes."""
    unknown = {a for n, each in weights.items() for a in unmatched(each, shifting[n].deployments)}
    chunks = _chunks(sorted(unknown - memory.revisions.keys()))
    asked = [_describe("DescribeServiceRevisions", "serviceRevisionArns", c) for c in chunks]
    for answer in (yield from calls.all_of(asked)):
        if not isinstance(answer, SourceError):  # the number is all there is then
            memory.revisions.update(definitions_in(answer))
    return memory.revisions


def _denied(memory: Memory, name: str, facts: ServiceFacts, error: SourceError) -> Traffic:
    """What was told once of this deployment, while that runs; else what is being replaced."""
    before = memory.services.get(name)
    earlier = before.told if before and facts.is_shifting_as(before) else None
    if earlier is not None and any(map(earlier.serves, facts.live)):
        return earlier
    known = facts.traffic or Traffic(dict.fromkeys(facts.deployments, 100.0))
    return replace(known, why=f"may serve production or not: {error}")


def _list(scope: Scope, name: str) -> Call:
    parameters = {"cluster": scope.cluster, "service": name, "status": list(UNDER_WAY)}
    return Call("ListServiceDeployments", parameters, REASON, calls.DEPLOYMENTS)


def _describe(operation: str, member: str, arns: Iterable[str]) -> Call:
    return Call(operation, {member: list(arns)}, REASON, calls.DEPLOYMENTS)


def _chunks(arns: Sequence[str]) -> list[Sequence[str]]:
    return [arns[start : start + AT_ONCE] for start in range(0, len(arns), AT_ONCE)]

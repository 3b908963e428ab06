"""A service as ECS describes it: what its tasks do not tell.

Which port it is registered with, tags, which definitions and deployments it runs, and, while a
blue/green deployment is under way, which of them serve production.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from discovery.ecs.fields import Document, number, pairs, part, port, ratio, rows, text, texts

_SHIFTS_TRAFFIC = {"BLUE_GREEN", "LINEAR", "CANARY"}


@dataclass(frozen=True, slots=True)
class RegisteredPort:
    """The port of a service registry or load balancer; a registry may name the port alone."""

    port: int
    container: str | None = None


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """One service. `production` maps deployment ids to shares of the traffic.

    `production` is `None` where every deployment serves. `deployment_arn` is the service deployment
    to ask for shares; `running` counts tasks that run or start; `is_rolling` is true while one
    deployment replaces another.
    """

    name: str
    status: str | None = None
    definitions: tuple[str, ...] = ()
    deployments: frozenset[str] = frozenset()
    registered: RegisteredPort | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    running: int = 0
    is_rolling: bool = False
    production: Mapping[str, float] | None = None
    deployment_arn: str | None = None
    read_at: float = 0.0


def services_in(answer: Document, read_at: float) -> dict[str, ServiceFacts]:
    """The services in an answer of DescribeServices, by name; deleted ones are left out."""
    found = {}
    for row in rows(answer, "services"):
        name = text(row, "serviceName") or _name_in(text(row, "serviceArn"))
        # A deleted service stays describable as INACTIVE for a while; DRAINING still runs tasks.
        if name is not None and text(row, "status") != "INACTIVE":
            found[name] = _service(name, row, read_at)
    return found


def gone_in(answer: Document) -> set[str]:
    """The services that an answer of DescribeServices says to be deleted or not to exist."""
    inactive = {
        _name_in(text(row, "serviceArn")) or text(row, "serviceName")
        for row in rows(answer, "services")
        if text(row, "status") == "INACTIVE"
    }
    failures = [row for row in rows(answer, "failures") if text(row, "reason") == "MISSING"]
    missing = {_name_in(text(row, "arn")) for row in failures}
    return {name for name in inactive | missing if name}


def names_in(answer: Document) -> tuple[str, ...]:
    """The service names in a page of ListServices."""
    return tuple(name for arn in texts(answer, "serviceArns") if (name := _name_in(arn)))


def shares_in(answer: Document) -> dict[str, dict[str, float]]:
    """Production shares in an answer of DescribeServiceDeployments: by service, by deployment.

    Empty where none is told, as before the traffic shifts. The last part of a service revision's
    ARN is the number of the deployment's id.
    """
    found: dict[str, dict[str, float]] = {}
    for row in rows(answer, "serviceDeployments"):
        name = _name_in(text(row, "serviceArn"))
        if name is None:
            continue
        shares = found.setdefault(name, {})
        revisions = (*rows(row, "sourceServiceRevisions"), part(row, "targetServiceRevision"))
        for revision in revisions:
            share = ratio(revision, "requestedProductionTrafficWeight")
            arn = text(revision, "arn")
            if arn is not None and share is not None:
                shares[f"ecs-svc/{arn.rpartition('/')[2]}"] = share
    return {name: shares if any(shares.values()) else {} for name, shares in found.items()}


def _service(name: str, row: Document, read_at: float) -> ServiceFacts:
    sets, deployments = rows(row, "taskSets"), rows(row, "deployments")
    revisions = (*deployments, *sets)
    definitions = (text(row, "taskDefinition"), *(text(r, "taskDefinition") for r in revisions))
    shifting = _is_shifting(row, deployments)
    return ServiceFacts(
        name=name,
        status=text(row, "status"),
        definitions=tuple(dict.fromkeys(arn for arn in definitions if arn)),
        deployments=frozenset(i for r in revisions if (i := text(r, "id"))),
        registered=_registered(row, sets),
        tags=pairs(rows(row, "tags"), "key"),
        running=(number(row, "runningCount") or 0) + (number(row, "pendingCount") or 0),
        is_rolling=len(sets) > 1 or _is_rolling(deployments),
        production=_production(row, sets) or (_before(deployments) if shifting else None),
        deployment_arn=text(row, "currentServiceDeployment") if shifting else None,
        read_at=read_at,
    )


def _registered(row: Document, sets: tuple[Document, ...]) -> RegisteredPort | None:
    """`serviceRegistries[0]`, else `loadBalancers[0]`; task sets have their own (CodeDeploy)."""
    primary = next((s for s in sets if text(s, "status") == "PRIMARY"), {})
    for key in ("serviceRegistries", "loadBalancers"):
        for entry in (rows(row, key) or rows(primary, key))[:1]:
            # A registry may be an ARN alone, and unset ports come as 0.
            known = port(entry, "containerPort") or port(entry, "port")
            if known is not None:
                return RegisteredPort(known, text(entry, "containerName"))
    return None


def _production(row: Document, sets: tuple[Document, ...]) -> dict[str, float] | None:
    """With an external or CodeDeploy controller the primary task set serves, and no other."""
    if text(part(row, "deploymentController"), "type") not in ("CODE_DEPLOY", "EXTERNAL"):
        return None
    primary = {i: 100.0 for s in sets if text(s, "status") == "PRIMARY" and (i := text(s, "id"))}
    return primary or None


def _is_rolling(deployments: tuple[Document, ...]) -> bool:
    states = {text(deployment, "rolloutState") for deployment in deployments}
    return "IN_PROGRESS" in states or (len(deployments) > 1 and states == {None})


def _is_shifting(row: Document, deployments: tuple[Document, ...]) -> bool:
    strategy = text(part(row, "deploymentConfiguration"), "strategy")
    return strategy in _SHIFTS_TRAFFIC and len(deployments) > 1


def _before(deployments: tuple[Document, ...]) -> dict[str, float] | None:
    """Where ECS tells no shares yet: what is being replaced still serves, if it runs at all."""
    active = [d for d in deployments if text(d, "status") == "ACTIVE"]
    running = [d for d in active if number(d, "runningCount") != 0]
    return {i: 100.0 for d in running if (i := text(d, "id"))} or None


def _name_in(arn: str | None) -> str | None:
    """Service ARNs come with and without the cluster's name; the last part is the service's."""
    return arn.rpartition("/")[2] or None if arn else None

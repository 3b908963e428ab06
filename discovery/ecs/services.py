"""A service as ECS describes it: what its tasks do not tell.

Which port it is registered with, tags, which definitions and deployments it runs, and, while its
traffic shifts, which of them serve production.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from discovery.ecs import traffic
from discovery.ecs.fields import Document, number, pairs, port, rows, text, texts
from discovery.ecs.targets import TargetGroup, groups_in
from discovery.ecs.traffic import Traffic


@dataclass(frozen=True, slots=True)
class RegisteredPort:
    """The port of a service registry or load balancer; a registry may name the port alone."""

    port: int
    container: str | None = None


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """One service. `deployments` are ids of deployments and task sets, with their definitions.

    `traffic` is `None` where every deployment serves. While a service `is_shifting` its shares are
    to be asked for, of the service deployment `deployment_arn`. `live` are the deployments that run
    tasks; `running` counts tasks that run or start; `is_rolling` is true while one deployment
    replaces another.
    """

    name: str
    status: str | None = None
    definitions: tuple[str, ...] = ()
    deployments: Mapping[str, str | None] = field(default_factory=dict)
    live: frozenset[str] = frozenset()
    registered: RegisteredPort | None = None
    target_groups: tuple[TargetGroup, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    running: int = 0
    is_rolling: bool = False
    traffic: Traffic | None = None
    is_shifting: bool = False
    deployment_arn: str | None = None
    read_at: float = field(default=0.0, compare=False)

    @property
    def told(self) -> Traffic | None:
        """The traffic, if ECS told its shares."""
        return self.traffic if self.traffic is not None and self.traffic.is_told else None

    def is_shifting_as(self, before: "ServiceFacts") -> bool:
        """Whether the deployment that was under way then is under way still."""
        if not (self.is_shifting and before.is_shifting):
            return False
        if self.deployment_arn is None:
            return self.deployments == before.deployments
        return self.deployment_arn == before.deployment_arn


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


def by_deployment(services: Mapping[str, ServiceFacts]) -> dict[str, str]:
    """The service of each deployment id."""
    return {i: name for name, facts in services.items() for i in facts.deployments}


def _service(name: str, row: Document, read_at: float) -> ServiceFacts:
    sets, deployments = rows(row, "taskSets"), rows(row, "deployments")
    revisions = (*deployments, *sets)
    definitions = (text(row, "taskDefinition"), *(text(r, "taskDefinition") for r in revisions))
    shifting = traffic.is_shifting(row)
    return ServiceFacts(
        name=name,
        status=text(row, "status"),
        definitions=tuple(dict.fromkeys(arn for arn in definitions if arn)),
        deployments={i: text(r, "taskDefinition") for r in revisions if (i := text(r, "id"))},
        live=frozenset(
            i for r in revisions if (i := text(r, "id")) and number(r, "runningCount") != 0
        ),
        registered=_registered(row, sets),
        target_groups=groups_in(row),
        tags=pairs(rows(row, "tags"), "key"),
        running=(number(row, "runningCount") or 0) + (number(row, "pendingCount") or 0),
        is_rolling=len(sets) > 1 or _is_rolling(deployments),
        traffic=traffic.by_task_sets(row) or (traffic.replaced(row) if shifting else None),
        is_shifting=shifting,
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


def _is_rolling(deployments: tuple[Document, ...]) -> bool:
    states = {text(deployment, "rolloutState") for deployment in deployments}
    return "IN_PROGRESS" in states or (len(deployments) > 1 and states == {None})


def _name_in(arn: str | None) -> str | None:
    """Service ARNs come with and without the cluster's name; the last part is the service's."""
    return arn.rpartition("/")[2] or None if arn else None

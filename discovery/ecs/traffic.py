"""Which revisions of a service serve production, and with what share of its traffic.

A revision goes by the id of its deployment or task set (`ecs-svc/…`), which its tasks carry as
`startedBy`. A rolling deployment shares the traffic as its tasks are: it has no `Traffic`.
Sources: the API reference on TaskSet, Deployment and ServiceRevisionSummary.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from discovery.ecs.fields import Document, number, part, ratio, rows, text
from discovery.ecs.tasks import Task
from discovery.model import Endpoint

SHIFTS_TRAFFIC = {"BLUE_GREEN", "LINEAR", "CANARY"}
BY_TASK_SETS = {"CODE_DEPLOY", "EXTERNAL"}

NOT_PRIMARY = "is not the primary task set"
NO_SHARE = "has no share of the production traffic"
NOT_YET = "gets production traffic only when ECS tells its share"
WHOLE = 100.5  # percent, with room for rounding


@dataclass(frozen=True, slots=True)
class Traffic:
    """Shares of the traffic in percent, by revision; whatever is not in it has none.

    `target` is the revision being rolled out, `why` the reason for which others are out. `is_told`
    where ECS told the shares, not only which revisions there are.
    """

    shares: Mapping[str, float] = field(default_factory=dict)
    target: str | None = None
    why: str = NO_SHARE
    is_told: bool = False

    def serves(self, revision: str) -> bool:
        """Whether any traffic is for it."""
        return self.shares.get(revision, 0.0) > 0

    def reason(self, revision: str) -> str:
        """Why a task of the revision is out."""
        return f"its deployment {revision or '(not reported)'} {self.why}"

    def parts(self, sizes: Mapping[str, float]) -> dict[str, float]:
        """The part of the whole for each revision that runs, given how much of it there is.

        ECS may give the whole of what is left to each of several old revisions: they share it as
        large as they are.
        """
        shares = {i: self.shares[i] for i in sizes if self.serves(i)}
        new = shares.get(self.target or "", 0.0)
        if sum(shares.values()) > WHOLE and 0 < new < 100:
            old = sum(sizes[i] for i in shares if i != self.target)
            rest = {i: (100 - new) * sizes[i] / old for i in shares if i != self.target}
            shares = {**rest, self.target or "": new}
        total = sum(shares.values())
        return {i: share / total for i, share in shares.items()}


@dataclass(frozen=True, slots=True)
class Weight:
    """What a service deployment says of one service revision; `running` counts its tasks."""

    revision: str
    share: float
    is_target: bool = False
    running: int | None = None


def by_task_sets(row: Document) -> Traffic | None:
    """With CodeDeploy or an external controller the primary task set serves, and no other.

    Unless it is scaled down in favour of others: then each gets what it is scaled to. What weights
    a load balancer gives, ECS does not tell.
    """
    if text(part(row, "deploymentController"), "type") not in BY_TASK_SETS:
        return None
    scales = {i: _scale(s) for s in rows(row, "taskSets") if (i := text(s, "id")) and _stays(s)}
    primary = next(
        (text(s, "id") for s in rows(row, "taskSets") if text(s, "status") == "PRIMARY"), None
    )
    if primary is None:
        return None
    if 0 < scales[primary] < 100 and sum(scales.values()) <= WHOLE:
        return Traffic(scales, why=NOT_PRIMARY)
    return Traffic({primary: 100.0}, why=NOT_PRIMARY)


def is_shifting(row: Document) -> bool:
    """Whether ECS itself moves a service's traffic from one deployment to another now."""
    strategy = text(part(row, "deploymentConfiguration"), "strategy")
    return strategy in SHIFTS_TRAFFIC and len(rows(row, "deployments")) > 1


def replaced(row: Document) -> Traffic | None:
    """Where nobody tells shares: what is being replaced still serves, if it runs at all."""
    active = [d for d in rows(row, "deployments") if text(d, "status") == "ACTIVE"]
    running = [d for d in active if number(d, "runningCount") != 0]
    shares = {i: 100.0 for d in running if (i := text(d, "id"))}
    return Traffic(shares, why=NOT_YET) if shares else None


def weights_in(answer: Document) -> dict[str, tuple[Weight, ...]]:
    """The weights in an answer of DescribeServiceDeployments, by ARN of the deployment."""
    found: dict[str, tuple[Weight, ...]] = {}
    for row in rows(answer, "serviceDeployments"):
        arn = text(row, "serviceDeploymentArn")
        if arn is not None:
            sources = [(s, False) for s in rows(row, "sourceServiceRevisions")]
            revisions = [*sources, (part(row, "targetServiceRevision"), True)]
            found[arn] = tuple(w for r, is_target in revisions if (w := _weight(r, is_target)))
    return found


def definitions_in(answer: Document) -> dict[str, str]:
    """The task definitions in an answer of DescribeServiceRevisions, by ARN of the revision."""
    return {
        arn: definition
        for row in rows(answer, "serviceRevisions")
        if (arn := text(row, "serviceRevisionArn")) and (definition := text(row, "taskDefinition"))
    }


def latest_in(pages: Iterable[Document]) -> str | None:
    """The newest service deployment in pages of ListServiceDeployments, which come newest first."""
    listed = (row for page in pages for row in rows(page, "serviceDeployments"))
    return next((arn for row in listed if (arn := text(row, "serviceDeploymentArn"))), None)


def unmatched(weights: Iterable[Weight], deployments: Mapping[str, str | None]) -> set[str]:
    """ARNs of revisions that run and that only their definition can tell the deployment of."""
    return {w.revision for w in weights if w.running != 0 and _id(w) not in deployments}


def told(
    weights: Sequence[Weight],
    deployments: Mapping[str, str | None],
    definitions: Mapping[str, str],
) -> Traffic | None:
    """The traffic that weights of revisions tell; `None` before any is given.

    `deployments` are the service's, with their definitions; `definitions` those of revisions.
    """
    shares: dict[str, float] = {}
    target = None
    for weight in weights:
        deployment = _deployment(weight, deployments, definitions)
        if weight.running == 0 and deployment not in deployments:
            continue
        shares[deployment] = max(weight.share, shares.get(deployment, 0.0))
        target = deployment if weight.is_target else target
    return Traffic(shares, target, is_told=True) if any(shares.values()) else None


def revisions_of(tasks: Sequence[Task], deployments: Mapping[str, str | None]) -> dict[str, str]:
    """The revision of each task by its ARN; empty where no task is of any that is known.

    Where none carries a deployment's id, the definition tells, if only one deployment has it.
    """
    if any(task.started_by in deployments for task in tasks):
        return {task.arn: task.started_by or "" for task in tasks}
    found = {t.arn: i for t in tasks if (i := _of_definition(t.definition, deployments))}
    return {task.arn: found.get(task.arn, "") for task in tasks} if found else {}


def weighted(
    endpoints: tuple[Endpoint, ...],
    revisions: Mapping[str, str],
    traffic: Traffic | None,
    role: Callable[[Endpoint], object],
) -> tuple[Endpoint, ...]:
    """Weights that give each revision its share, however many tasks it has.

    Within a revision the endpoints' own weights count; each role is a pool of its own.
    """
    sizes: dict[object, dict[str, float]] = {}
    of = [revisions.get(e.task_arn or "", "") for e in endpoints]
    for endpoint, revision in zip(endpoints, of, strict=True):
        pool = sizes.setdefault(role(endpoint), {})
        pool[revision] = pool.get(revision, 0.0) + endpoint.weight
    if traffic is None or all(len(pool) < 2 for pool in sizes.values()):
        return endpoints
    factors = {of_role: _factors(pool, traffic) for of_role, pool in sizes.items()}
    return tuple(
        replace(e, weight=round(e.weight * factors[role(e)].get(revision, 1.0), 6))
        for e, revision in zip(endpoints, of, strict=True)
    )


def _factors(sizes: Mapping[str, float], traffic: Traffic) -> dict[str, float]:
    total = sum(sizes.values())
    return {i: share * total / sizes[i] for i, share in traffic.parts(sizes).items()}


def _stays(task_set: Document) -> bool:
    return text(task_set, "status") in ("PRIMARY", "ACTIVE")


def _scale(task_set: Document) -> float:
    scale = ratio(part(task_set, "scale"), "value")
    return 100.0 if scale is None else scale


def _weight(revision: Document, is_target: bool) -> Weight | None:
    arn, share = text(revision, "arn"), ratio(revision, "requestedProductionTrafficWeight")
    if arn is None or share is None:
        return None
    return Weight(arn, share, is_target, number(revision, "runningTaskCount"))


def _id(weight: Weight) -> str:
    """The last part of a revision's ARN is the number in its deployment's id."""
    return f"ecs-svc/{weight.revision.rpartition('/')[2]}"


def _deployment(
    weight: Weight, deployments: Mapping[str, str | None], definitions: Mapping[str, str]
) -> str:
    """By number; else by definition, where that is one deployment's alone."""
    by_number = _id(weight)
    if by_number in deployments:
        return by_number
    return _of_definition(definitions.get(weight.revision), deployments) or by_number


def _of_definition(definition: str | None, deployments: Mapping[str, str | None]) -> str | None:
    same = [i for i, each in deployments.items() if definition is not None and each == definition]
    return same[0] if len(same) == 1 else None

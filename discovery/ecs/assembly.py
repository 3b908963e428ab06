"""From a cluster's tasks to its services: who owns which task, what serves, which ports there are.

Names of services win over families of standalone tasks. Of two tasks at one address the newer one
is right: host ports and addresses are reused, and a list may be a moment old.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace

from discovery.ecs.facts import Facts, Owner
from discovery.ecs.offers import offer
from discovery.ecs.services import ServiceFacts
from discovery.ecs.shapes import Outcome, Where, endpoints_of, place_of
from discovery.ecs.targets import TargetHealth, heard
from discovery.ecs.tasks import Task
from discovery.ecs.traffic import Traffic, revisions_of, weighted
from discovery.health.eligibility import Candidate, Verdicts, judged
from discovery.model import Exclusion, Kind, Placement, Service


@dataclass(frozen=True, slots=True)
class Known:
    """What a cluster's services are made from. `names` are services that may have no task.

    `before` is what was made last: of what is the same, the same service.
    """

    label: str
    tasks: tuple[Task, ...] = ()
    names: Set[str] = frozenset()
    services: Mapping[str, ServiceFacts] = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)
    verdicts: Verdicts = field(default_factory=dict)
    targets: Mapping[str, TargetHealth] = field(default_factory=dict)
    before: "Mapping[str, Made]" = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Made:
    """A service with what it was made from: of the same it need not be made again."""

    inputs: tuple[object, ...]
    mapped: Outcome
    outcome: Outcome
    service: Service
    verdicts: Verdicts


@dataclass(frozen=True, slots=True)
class Assembly:
    """The services, the verdicts on their containers to remember, and what to make the next of."""

    services: tuple[Service, ...] = ()
    verdicts: Verdicts = field(default_factory=dict)
    made: Mapping[str, Made] = field(default_factory=dict)


def names_of(task: Task, deployments: Mapping[str, str]) -> tuple[tuple[Kind, str], ...]:
    """Kind and name of all that a task belongs to; `deployments` maps their ids to services.

    The deployment tells the service where the group that names it is missing.
    """
    if task.group is None and task.started_by in deployments:
        return (("service", deployments[task.started_by or ""]),)
    return task.names


def assembled(known: Known, wanted: Set[str] | None, observed_at: float) -> Assembly:
    """All services, or those of the wanted names, without regard to case."""
    folded = None if wanted is None else {name.lower() for name in wanted}
    owned = _owned(known)
    chosen = {n: group for n, group in owned.items() if folded is None or n.lower() in folded}
    inputs = {name: _inputs(group, known) for name, group in chosen.items()}
    same = {n: m for n, m in known.before.items() if n in inputs and m.inputs == inputs[n]}
    mapped = {
        name: same[name].mapped if name in same else _outcome(group, known)
        for name, group in chosen.items()
    }
    made: dict[str, Made] = {}
    for name, outcome in _without_collisions(mapped).items():
        before = same.get(name)
        if before is not None and before.outcome == outcome:
            made[name] = before
            continue
        service, verdicts = _service(name, chosen[name], outcome, known)
        made[name] = Made(inputs[name], mapped[name], outcome, service, verdicts)
    services = tuple(replace(each.service, observed_at=observed_at) for each in made.values())
    return Assembly(services, _joined(made.values()), {**known.before, **made})


def _service(
    name: str, group: "_Group", outcome: Outcome, known: Known
) -> tuple[Service, Verdicts]:
    facts = group.facts
    running = [candidate.endpoint for candidate in outcome.candidates]
    offered = offer(group.tasks, facts, known.facts, running)
    judgement = judged(outcome.candidates, known.verdicts, offered.role)
    revisions, traffic = _split(group)
    of_traffic = revisions if traffic is not None else {}
    service = Service(
        name=name,
        cluster=known.label,
        kind=group.owner.kind,
        endpoints=weighted(judgement.endpoints, revisions, traffic, offered.role),
        exclusions=_in_order(outcome.exclusions + judgement.exclusions),
        ports=offered.ports,
        default_port=offered.default,
        other_default_ports=offered.other_defaults,
        definitions_pending=offered.is_pending,
        other_addresses=_other_addresses(outcome.candidates),
        task_addresses=_task_addresses(outcome.candidates),
        spares=judgement.spares,
        placements=_placements(outcome.candidates, of_traffic),
    )
    return service, judgement.verdicts


def _placements(
    candidates: Iterable[Candidate], revisions: Mapping[str, str]
) -> dict[str, Placement]:
    found = {c.endpoint.task_arn or "": c.placement for c in candidates}
    if not revisions:
        return found
    return {arn: replace(each, revision=revisions.get(arn)) for arn, each in found.items()}


def _joined(made: Iterable[Made]) -> Verdicts:
    return {key: verdict for each in made for key, verdict in each.verdicts.items()}


def _inputs(group: "_Group", known: Known) -> tuple[object, ...]:
    """All that the service is made from but its own last verdicts, which change nothing again."""
    facts, tasks = known.facts, group.tasks
    of_service = group.facts.definitions if group.facts else ()
    definitions = dict.fromkeys((*of_service, *(t.definition for t in tasks)))
    instances = dict.fromkeys(t.instance for t in tasks)
    groups = group.facts.target_groups if group.facts else ()
    told = (known.targets.get(each.arn) for each in groups)
    interfaces = {i.network_interface_id for t in tasks for i in t.attachments}
    keys = [key for key in (*definitions, *instances) if key]
    return (
        group.owner,
        group.facts,
        tuple(tasks),
        tuple(group.strangers),
        tuple(facts.definitions.get(arn or "") for arn in definitions),
        tuple(facts.hosts.get(arn or "") for arn in instances),
        tuple(facts.problems.get(key) for key in keys),
        tuple(each and each.targets for each in told),
        {i: facts.public.get(i or "") for i in interfaces} if facts.public is not None else None,
    )


@dataclass(slots=True)
class _Group:
    owner: Owner
    facts: ServiceFacts | None = None
    tasks: list[Task] = field(default_factory=list)
    strangers: list[Task] = field(default_factory=list)


def _owned(known: Known) -> dict[str, _Group]:
    """Tasks by the name they go by; services first, for they win over families."""
    deployments = {i: name for name, s in known.services.items() for i in s.deployments}
    found = {name: _group(known, "service", name) for name in sorted(known.names)}
    members: dict[tuple[Kind, str], list[Task]] = {}
    for task in known.tasks:
        for named in names_of(task, deployments):
            members.setdefault(named, []).append(task)
    for kind, name in sorted(members, key=lambda named: (named[0] != "service", named[1])):
        group = found.get(name) or found.setdefault(name, _group(known, kind, name))
        tasks = sorted(members[kind, name], key=lambda task: task.arn)
        (group.tasks if group.owner.kind == kind else group.strangers).extend(tasks)
    return found


def _group(known: Known, kind: Kind, name: str) -> _Group:
    facts = known.services.get(name) if kind == "service" else None
    return _Group(Owner(name, known.label, kind, facts.tags if facts else {}), facts)


def _outcome(group: _Group, known: Known) -> Outcome:
    candidates: list[Candidate] = []
    exclusions = [
        Exclusion(t.arn, "it is a standalone task: the name is the service's")
        for t in group.strangers
    ]
    revisions, traffic = _split(group)
    for task in group.tasks:
        revision = revisions.get(task.arn, "")
        if traffic is not None and not traffic.serves(revision):
            exclusions.append(Exclusion(task.arn, traffic.reason(revision)))
            continue
        outcome = endpoints_of(task, group.owner, known.facts)
        candidates += _heard(task, outcome, known, group.facts)
        exclusions += outcome.exclusions
    return Outcome(tuple(candidates), tuple(exclusions), tuple(map(_where, candidates)))


def _heard(
    task: Task, outcome: Outcome, known: Known, service: ServiceFacts | None
) -> Iterable[Candidate]:
    """The candidates of a task, with what load balancers say of them."""
    if service is None or not service.target_groups:
        return outcome.candidates
    host = known.facts.hosts.get(task.instance or "")
    machine = host.machine_id if host else None
    return heard(outcome.candidates, machine, service.target_groups, known.targets)


def _split(group: _Group) -> tuple[Mapping[str, str], Traffic | None]:
    """The revisions of its tasks, and their traffic unless the tasks are of none that we know."""
    if group.facts is None or group.facts.traffic is None:
        return {}, None
    traffic = group.facts.traffic
    revisions = revisions_of(
        group.tasks, {**dict.fromkeys(traffic.shares), **group.facts.deployments}
    )
    return revisions, traffic if revisions else None


def _without_collisions(outcomes: dict[str, Outcome]) -> dict[str, Outcome]:
    places = [outcome.places for outcome in outcomes.values()]
    if len(set().union(*places)) == sum(map(len, places)):
        return outcomes
    newest: dict[Where, Candidate] = {}
    for outcome in outcomes.values():
        for candidate in outcome.candidates:
            best = newest.setdefault(_where(candidate), candidate)
            if _age_key(candidate) > _age_key(best):
                newest[_where(candidate)] = candidate
    return {name: _without_older(outcome, newest) for name, outcome in outcomes.items()}


def _without_older(outcome: Outcome, newest: Mapping[Where, Candidate]) -> Outcome:
    kept: list[Candidate] = []
    dropped: list[Exclusion] = []
    for candidate in outcome.candidates:
        endpoint, winner = candidate.endpoint, newest[_where(candidate)].endpoint
        if endpoint.task_arn == winner.task_arn:
            kept.append(candidate)
            continue
        reason = f"the newer task {winner.task_arn} has its address {endpoint.authority}"
        dropped.append(
            Exclusion(endpoint.task_arn or "", reason, endpoint.container, endpoint.container_port)
        )
    return Outcome(tuple(kept), (*outcome.exclusions, *dropped)) if dropped else outcome


def _where(candidate: Candidate) -> Where:
    return place_of(candidate.endpoint)


def _age_key(candidate: Candidate) -> tuple[float, str]:
    placement = candidate.placement
    since = placement.started_at or placement.created_at or 0.0
    return since, candidate.endpoint.task_arn or ""


def _task_addresses(candidates: Iterable[Candidate]) -> frozenset[str]:
    return frozenset(c.endpoint.host for c in candidates if c.is_own_address)


def _other_addresses(candidates: Iterable[Candidate]) -> dict[str, tuple[str, ...]]:
    return {c.endpoint.host: (c.other_address,) for c in candidates if c.other_address}


def _in_order(exclusions: tuple[Exclusion, ...]) -> tuple[Exclusion, ...]:
    def order(e: Exclusion) -> tuple[str, str, int, str]:
        return e.task_arn, e.container or "", e.container_port or 0, e.reason

    return tuple(sorted(exclusions, key=order))

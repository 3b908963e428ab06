"""From a cluster's tasks to its services: who owns which task, what serves, which ports there are.

Names of services win over families of standalone tasks. Of two tasks at one address the newer one
is right: host ports and addresses are reused, and a list may be a moment old.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace

from discovery.ecs.facts import Facts, Owner
from discovery.ecs.members import Members
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
    members: Members = field(default_factory=Members)
    names: Set[str] = frozenset()
    services: Mapping[str, ServiceFacts] = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)
    verdicts: Verdicts = field(default_factory=dict)
    targets: Mapping[str, TargetHealth] = field(default_factory=dict)
    before: "Mapping[str, Made]" = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Group:
    """A service's tasks and what ECS says of it; the same object while these are.

    `strangers` are standalone tasks of a family of its name. The rest are the keys of the facts
    that it depends on.
    """

    owner: Owner
    facts: ServiceFacts | None
    tasks: tuple[Task, ...]
    strangers: tuple[Task, ...]
    definitions: tuple[str, ...]
    instances: tuple[str, ...]
    interfaces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Made:
    """A service with what it was made from: of the same it need not be made again."""

    group: _Group
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


def assembled(known: Known, wanted: Set[str] | None, observed_at: float) -> Assembly:
    """All services, or those of the wanted names, without regard to case."""
    folded = None if wanted is None else {name.lower() for name in wanted}
    names = known.names | {name for _, name in known.members.by_name}
    chosen = sorted(n for n in names if folded is None or n.lower() in folded)
    groups = {name: _group(name, known) for name in chosen}
    inputs = {name: _inputs(group, known) for name, group in groups.items()}
    same = {n: m for n, m in known.before.items() if n in inputs and m.inputs == inputs[n]}
    mapped = {
        name: same[name].mapped if name in same else _outcome(group, known)
        for name, group in groups.items()
    }
    made: dict[str, Made] = {}
    for name, outcome in _without_collisions(mapped).items():
        before, group = same.get(name), groups[name]
        if before is not None and before.outcome == outcome:
            is_same = before.group is group
            made[name] = before if is_same else replace(before, group=group, inputs=inputs[name])
            continue
        service, verdicts = _service(name, group, outcome, known)
        made[name] = Made(group, inputs[name], mapped[name], outcome, service, verdicts)
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


def _group(name: str, known: Known) -> _Group:
    """Services win over families of their name."""
    of_service, of_family = known.members.of("service", name), known.members.of("family", name)
    is_service = name in known.names or bool(of_service)
    facts = known.services.get(name) if is_service else None
    tasks, strangers = (of_service, of_family) if is_service else (of_family, ())
    made = known.before.get(name)
    if made is not None:
        before = made.group
        if before.facts is facts and before.tasks is tasks and before.strangers is strangers:
            return before
    kind: Kind = "service" if is_service else "family"
    of_facts = facts.definitions if facts else ()
    return _Group(
        Owner(name, known.label, kind, facts.tags if facts else {}),
        facts,
        tasks,
        strangers,
        _keys((*of_facts, *(t.definition for t in tasks))),
        _keys(t.instance for t in tasks),
        _keys(i.network_interface_id for t in tasks for i in t.attachments),
    )


def _inputs(group: _Group, known: Known) -> tuple[object, ...]:
    """All that the service is made from but its own last verdicts, which change nothing again."""
    facts, groups = known.facts, group.facts.target_groups if group.facts else ()
    told = [known.targets.get(each.arn) for each in groups]
    return (
        group,
        tuple(map(facts.definitions.get, group.definitions)),
        tuple(map(facts.hosts.get, group.instances)),
        tuple(map(facts.problems.get, (*group.definitions, *group.instances))),
        tuple([each and each.targets for each in told]),
        tuple(map(facts.public.get, group.interfaces)) if facts.public is not None else None,
    )


def _keys(values: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))


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

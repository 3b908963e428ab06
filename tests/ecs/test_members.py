"""What is kept from one read to the next is what would be made anew, and costs what has changed."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from itertools import accumulate

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from discovery.ecs.assembly import Known, Made, assembled
from discovery.ecs.definitions import ContainerDefinition, Definition
from discovery.ecs.facts import Facts
from discovery.ecs.hosts import Host, Machine
from discovery.ecs.members import Members, members_of
from discovery.ecs.services import ServiceFacts, by_deployment
from discovery.ecs.tasks import Binding, Container, Task
from discovery.health.eligibility import CheckKey, Verdicts
from discovery.model import Health, Port

A, B = Task("arn:1", group="service:a"), Task("arn:2", group="service:b")


def test_where_nothing_changed_the_members_are_the_same() -> None:
    """Not equal ones: nobody has to compare them."""
    known = members_of([A, B])
    assert known.now({"arn:1": A, "arn:2": B}, {}) is known


def test_a_change_leaves_the_members_of_other_names_as_they_are() -> None:
    """A task that stopped, and is described anew, is another one."""
    known = members_of([A, B])
    stopped = Task("arn:1", group="service:a", last_status="STOPPED")
    after = known.now({"arn:1": stopped, "arn:2": B}, {})
    assert after.of("service", "a") == (stopped,)
    assert after.of("service", "b") is known.of("service", "b")


def test_members_come_in_the_order_of_their_arns() -> None:
    """However they came."""
    third = Task("arn:3", group="service:b")
    known = members_of([third, A]).now({"arn:3": third, "arn:2": B}, {})
    assert known.by_name == {("service", "b"): (B, third)}


def test_a_deployment_that_is_new_names_the_tasks_that_there_were() -> None:
    """The shape of 2016 has no group."""
    bare = Task("arn:1", started_by="ecs-svc/1", definition="x:task-definition/shop:1")
    known = members_of([bare])
    assert known.of("family", "shop") == (bare,)
    after = known.now({"arn:1": bare}, {"ecs-svc/1": "orders"})
    assert after.by_name == {("service", "orders"): (bare,)}


@dataclass(frozen=True)
class World:
    """A cluster at one moment."""

    tasks: tuple[Task, ...] = ()
    services: tuple[ServiceFacts, ...] = ()
    definitions: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    addresses: tuple[str | None, str | None] = (None, None)
    wanted: frozenset[str] | None = None


DEFINITIONS = {
    f"x:task-definition/a:{number}": Definition(
        f"x:task-definition/a:{number}",
        containers={
            "app": ContainerDefinition(
                "app", (Port(80, name="http", container="app"),), has_health_check=number == 2
            )
        },
    )
    for number in (1, 2)
}
some_tasks = st.builds(
    lambda number, group, by, definition, instance, health, state, port: Task(
        f"arn:{number}",
        group=group,
        started_by=by,
        definition=definition,
        instance=instance,
        last_status=state,
        desired_status=state,
        containers=(
            Container("app", state, health, bindings=(Binding(container_port=80, host_port=port),)),
        ),
    ),
    st.integers(1, 5),
    st.sampled_from(["service:a", "service:b", "free", None]),
    st.sampled_from(["ecs-svc/1", "ecs-svc/2"]),
    st.sampled_from(sorted(DEFINITIONS)),
    st.sampled_from(["i-1", "i-2"]),
    st.sampled_from([None, "HEALTHY", "UNHEALTHY", "UNKNOWN"]),
    st.sampled_from(["RUNNING", "STOPPED"]),
    st.sampled_from([32_768, 32_769]),
)
some_services = st.builds(
    ServiceFacts,
    name=st.sampled_from("ab"),
    definitions=st.sampled_from([(), *((arn,) for arn in DEFINITIONS)]),
    deployments=st.sampled_from([{}, {"ecs-svc/1": None}, {"ecs-svc/2": None}]),
    tags=st.sampled_from([{}, {"team": "shop"}]),
)
worlds = st.builds(
    World,
    tasks=st.lists(some_tasks, max_size=6).map(tuple),
    services=st.lists(some_services, max_size=2).map(tuple),
    definitions=st.frozensets(st.sampled_from(sorted(DEFINITIONS))),
    refused=st.frozensets(st.sampled_from([*sorted(DEFINITIONS), "i-1"])),
    addresses=st.tuples(*[st.sampled_from(["10.0.0.1", "10.0.0.2", None])] * 2),
    wanted=st.sampled_from([None, None, frozenset("a")]),
)


def known_of(world: World, members: Members, verdicts: Verdicts) -> Known:
    """All that is known at that moment."""
    hosts = {f"i-{n}": Host(Machine(ipv4=ip)) for n, ip in enumerate(world.addresses, 1)}
    services = {facts.name: facts for facts in world.services}
    return Known(
        label="prod",
        members=members,
        names=services.keys(),
        services=services,
        facts=Facts(
            {arn: DEFINITIONS[arn] for arn in world.definitions},
            hosts,
            problems=dict.fromkeys(world.refused, "refused"),
        ),
        verdicts=verdicts,
    )


changes = st.one_of(
    st.tuples(st.sampled_from([each.name for each in fields(World)]), worlds),
    st.builds(lambda task: ("task", World(tasks=(task,))), some_tasks),
)


@given(
    world=worlds,
    later=st.lists(changes, min_size=1, max_size=6),
    again=st.sampled_from([True, True, False]),
)
@settings(max_examples=300)
def test_what_is_kept_is_what_would_be_made_anew(
    world: World, later: list[tuple[str, World]], again: bool
) -> None:
    """Whatever changes: tasks, facts of services, definitions, addresses, and what is wanted.

    With `again` unchanged tasks are the same objects, as they are when they come as the same text.
    """
    members, verdicts = Members(), dict[CheckKey, Health]()
    made: Mapping[str, Made] = {}
    seen: dict[str, Task] = {}
    for moment in accumulate(later, _changed, initial=world):
        tasks = [seen.setdefault(repr(t), t) if again else t for t in _each_once(moment.tasks)]
        deployments = by_deployment({facts.name: facts for facts in moment.services})
        members = members.now({task.arn: task for task in tasks}, deployments)
        anew = members_of(tasks, deployments)
        assert members.by_name == anew.by_name
        known = known_of(moment, members, verdicts)
        kept = assembled(replace(known, before=made), moment.wanted, 7.0)
        other = assembled(replace(known, members=anew), moment.wanted, 7.0)
        assert (kept.services, kept.verdicts) == (other.services, other.verdicts)
        made = kept.made
        verdicts.update(kept.verdicts)


def _changed(world: World, change: tuple[str, World]) -> World:
    """One thing of it is as in the other world, or one task comes or is another one."""
    what, other = change
    if what == "task":
        return replace(world, tasks=(*world.tasks, *other.tasks))
    return replace(world, **{what: getattr(other, what)})


def _each_once(tasks: tuple[Task, ...]) -> list[Task]:
    """Copies, as those are that come as another text."""
    return list({task.arn: structs.replace(task) for task in tasks}.values())

"""Which revisions serve production, and what weights give each its share."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from discovery.ecs.assembly import Known, assembled
from discovery.ecs.facts import Facts
from discovery.ecs.hosts import Host, Machine
from discovery.ecs.members import members_of
from discovery.ecs.services import ServiceFacts, services_in
from discovery.ecs.tasks import tasks_in
from discovery.ecs.traffic import Traffic, Weight, definitions_in, told, weights_in
from discovery.health.demotion import judged_by
from discovery.health.evidence import Verdict
from discovery.model import Cluster, Service, Snapshot
from discovery.overrides.applied import Decisions
from discovery.overrides.rules import FOREVER, Overrides, Rule
from tests.ecs.documents import (
    ACCOUNT,
    DEFINITION,
    INSTANCE,
    Document,
    binding,
    checked,
    container,
    service,
    services,
    task,
    task_arn,
    tasks,
)

BLUE, GREEN = "ecs-svc/1", "ecs-svc/2"
REVISION = f"{ACCOUNT}:service-revision/prod/orders"
DEPLOYMENT = f"{ACCOUNT}:service-deployment/prod/orders/d1"


def side(revision: str, count: int, first: int = 1, **more: Any) -> list[Document]:
    """Running bridge tasks of a revision."""
    return [
        task(container("app", binding(8080, 32_767 + n)), number=n, startedBy=revision, **more)
        for n in range(first, first + count)
    ]


def blue_and_green(blue: int = 2, green: int = 1) -> list[Document]:
    """Tasks of the old deployment, and of the new."""
    return [*side(BLUE, blue), *side(GREEN, green, blue + 1)]


def read(document: Document) -> ServiceFacts:
    """What is known of the one service."""
    return services_in(services(document), 1.0)["orders"]


def made(documents: Iterable[Document], facts: ServiceFacts) -> Service:
    """The service that the tasks and the facts give."""
    hosts = {INSTANCE: Host(Machine("10.0.1.5"))}
    known = Known(
        label="prod",
        members=members_of(tasks_in(tasks(*documents))),
        names=frozenset({"orders"}),
        services={"orders": facts},
        facts=Facts(hosts=hosts),
    )
    (found,) = assembled(known, None, 7.0).services
    return found


def shifting(strategy: str = "CANARY", **more: Any) -> Document:
    """A service in the middle of a deployment that shifts traffic."""
    deployments = [
        {"id": GREEN, "status": "PRIMARY", "taskDefinition": DEFINITION},
        {"id": BLUE, "status": "ACTIVE", "taskDefinition": DEFINITION},
    ]
    return service(
        deploymentConfiguration={"strategy": strategy},
        currentServiceDeployment=DEPLOYMENT,
        **{"deployments": deployments, **more},
    )


def answer(target: Document, *sources: Document) -> Document:
    """What DescribeServiceDeployments says of the traffic."""
    row = {
        "serviceDeploymentArn": DEPLOYMENT,
        "targetServiceRevision": target,
        "sourceServiceRevisions": list(sources),
    }
    return checked("ecs", "DescribeServiceDeployments", {"serviceDeployments": [row]})


def revision(number: int, share: float, running: int = 1) -> Document:
    """One service revision with its share of production traffic."""
    arn = f"{REVISION}/{number}"
    return {
        "arn": arn,
        "requestedProductionTrafficWeight": share,
        "runningTaskCount": running,
    }


def shared(green: float, documents: list[Document], *others: Document) -> Service:
    """The service while its new revision has that share of the traffic."""
    facts = read(shifting())
    sources = others or (revision(1, 100 - green),)
    weights = weights_in(answer(revision(2, green), *sources))[DEPLOYMENT]
    traffic = told(weights, facts.deployments, {})
    return made(documents, replace(facts, traffic=traffic))


def part_of(found: Service, arns: Iterable[str]) -> float:
    """Which part of all weight these tasks have."""
    arns = set(arns)
    total = sum(e.weight for e in found.endpoints)
    return sum(e.weight for e in found.endpoints if e.task_arn in arns) / total


def task_set(identity: str, status: str, scale: float = 100.0) -> Document:
    """A task set."""
    percent = {"value": scale, "unit": "PERCENT"}
    return {"id": identity, "status": status, "taskDefinition": DEFINITION, "scale": percent}


# controller, status and scale of the new task set, scale of the primary → tasks that serve
TASK_SETS: list[tuple[str, str, float, float, int]] = [
    ("CODE_DEPLOY", "ACTIVE", 100.0, 100.0, 2),
    ("EXTERNAL", "ACTIVE", 100.0, 100.0, 2),
    ("EXTERNAL", "ACTIVE", 20.0, 100.0, 2),
    ("EXTERNAL", "ACTIVE", 20.0, 80.0, 3),
    ("EXTERNAL", "DRAINING", 0.0, 100.0, 2),
]


@pytest.mark.parametrize(("controller", "status", "scale", "primary", "serving"), TASK_SETS)
def test_the_primary_task_set_serves(
    controller: str, status: str, scale: float, primary: float, serving: int
) -> None:
    """The replacement has no production traffic, unless the primary is scaled down for it."""
    document = service(
        deploymentController={"type": controller},
        taskSets=[task_set(GREEN, status, scale), task_set(BLUE, "PRIMARY", primary)],
        deployments=[],
    )
    found = made(blue_and_green(), read(document))
    assert len(found.endpoints) == serving
    assert [e.task_arn for e in found.exclusions] == [task_arn(3)][: 3 - serving]
    assert all("is not the primary task set" in e.reason for e in found.exclusions)


def test_task_sets_that_share_the_scale_share_the_traffic() -> None:
    """80 % and 20 %, with any number of tasks."""
    document = service(
        deploymentController={"type": "EXTERNAL"},
        taskSets=[task_set(BLUE, "PRIMARY", 80.0), task_set(GREEN, "ACTIVE", 20.0)],
        deployments=[],
    )
    found = made(blue_and_green(2, 2), read(document))
    assert part_of(found, [task_arn(3), task_arn(4)]) == pytest.approx(0.2)


def test_without_a_primary_task_set_all_serve() -> None:
    """ECS says of none that it is production."""
    document = service(
        deploymentController={"type": "EXTERNAL"}, taskSets=[task_set(BLUE, "ACTIVE")]
    )
    assert len(made(blue_and_green(), read(document)).endpoints) == 3


def test_the_old_deployment_serves_while_shares_are_not_known() -> None:
    """It serves production until the shift, and can until it is gone."""
    found = made(blue_and_green(), read(shifting("BLUE_GREEN")))
    assert [e.task_arn for e in found.endpoints] == [task_arn(1), task_arn(2)]


def test_a_rolling_deployment_serves_from_all_tasks() -> None:
    """Old and new share the traffic as they are."""
    found = made(blue_and_green(), read(shifting("ROLLING")))
    assert [e.weight for e in found.endpoints] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("green", [1.0, 10.0, 25.0, 50.0, 90.0, 99.0])
@pytest.mark.parametrize(("old", "new"), [(1, 1), (2, 1), (10, 1), (1, 10), (100, 100)])
def test_weights_give_each_deployment_its_share(green: float, old: int, new: int) -> None:
    """However many tasks it has; those of one deployment are alike."""
    found = shared(green, blue_and_green(old, new))
    newer = {task_arn(n) for n in range(old + 1, old + new + 1)}
    assert part_of(found, newer) == pytest.approx(green / 100, rel=1e-4)
    assert len({e.weight for e in found.endpoints if e.task_arn in newer}) == 1
    assert len({e.weight for e in found.endpoints if e.task_arn not in newer}) == 1


def test_the_users_weights_count_within_a_deployment() -> None:
    """One task of the old has three times the weight of the other; the shares stay."""
    heavy = [{"key": "ecs-discovery.weight", "value": "3"}]
    documents = [*side(BLUE, 1, tags=heavy), *side(BLUE, 1, 2), *side(GREEN, 1, 3)]
    found = shared(20.0, documents)
    weights = {e.task_arn: e.weight for e in found.endpoints}
    assert weights[task_arn(1)] == pytest.approx(3 * weights[task_arn(2)])
    assert part_of(found, [task_arn(3)]) == pytest.approx(0.2)


def test_a_deployment_that_loses_a_task_to_a_refusal_keeps_its_share() -> None:
    """What is left of it gets the traffic of what left."""
    found = shared(20, blue_and_green(2, 4))
    gone = [e for e in found.endpoints if e.task_arn in {task_arn(3), task_arn(4)}]
    left = judged_by(found, {e.identity: Verdict("it refuses connections") for e in gone})
    assert len(left.endpoints) == 4
    assert part_of(left, [task_arn(5), task_arn(6)]) == pytest.approx(0.2)


def test_the_last_of_a_deployment_leaves_its_share_to_the_others() -> None:
    """Its weight is nobody's, and theirs stay as they were."""
    found = shared(20, blue_and_green(2, 1))
    gone = [e for e in found.endpoints if e.task_arn == task_arn(3)]
    left = judged_by(found, {e.identity: Verdict("it refuses connections") for e in gone})
    assert left.endpoints == tuple(e for e in found.endpoints if e not in gone)


def test_a_deployment_that_loses_a_task_by_hand_keeps_its_share() -> None:
    """As with a refusal."""
    found = shared(20, blue_and_green(2, 2))
    decided = Decisions(Overrides((Rule("exclude", FOREVER, task=task_arn(4)),)), "all", "")
    (left,) = decided.applied(
        Snapshot(clusters=(Cluster("prod"),), services={found.key: found}), 1.0
    ).services.values()
    assert len(left.endpoints) == 3
    assert part_of(left, [task_arn(3)]) == pytest.approx(0.2)


def test_each_port_is_shared_on_its_own() -> None:
    """A revision that brings a second port does not count twice."""
    second = task(
        container("app", binding(8080, 40_000), binding(9090, 40_001)), number=9, startedBy=GREEN
    )
    found = shared(25.0, [*side(BLUE, 1), second])
    main = [e for e in found.endpoints if e.container_port == 8080]
    assert [e.weight for e in main] == [1.5, 0.5]
    assert [e.weight for e in found.endpoints if e.container_port == 9090] == [1.0]


def test_a_deployment_without_traffic_is_out() -> None:
    """After the shift the old one has a share of 0, and says so."""
    found = shared(100.0, blue_and_green())
    assert [e.task_arn for e in found.endpoints] == [task_arn(3)]
    assert {e.task_arn for e in found.exclusions} == {task_arn(1), task_arn(2)}
    assert {e.reason for e in found.exclusions} == {
        "its deployment ecs-svc/1 has no share of the production traffic"
    }


def test_old_revisions_that_are_each_given_the_rest_share_it() -> None:
    """ECS gives both what the new one has not; one of them does not even run."""
    idle = shared(20.0, blue_and_green(), revision(1, 80.0), revision(7, 80.0, running=0))
    assert part_of(idle, [task_arn(3)]) == pytest.approx(0.2)
    third = [*blue_and_green(), *side("ecs-svc/7", 1, 4)]
    both = shared(20.0, third, revision(1, 80.0), revision(7, 80.0))
    assert part_of(both, [task_arn(3)]) == pytest.approx(0.2)
    assert part_of(both, [task_arn(4)]) == pytest.approx(0.8 / 3)


def test_a_side_without_a_running_task_leaves_its_share_to_the_other() -> None:
    """Of what does not run nobody can be sent anything."""
    found = shared(20.0, side(BLUE, 2))
    assert [e.weight for e in found.endpoints] == [1.0, 1.0]


def test_tasks_of_deployments_that_nobody_knows_stay_in() -> None:
    """Where no task belongs to a known deployment, the shares say nothing about them."""
    found = made(side("ecs-svc/99", 1), read(shifting("BLUE_GREEN")))
    assert len(found.endpoints) == 1


def test_where_no_id_matches_the_definition_tells_the_deployment() -> None:
    """If only one deployment has it."""
    old, new = DEFINITION, f"{DEFINITION}9"
    document = shifting(
        "BLUE_GREEN",
        deployments=[
            {"id": GREEN, "status": "PRIMARY", "taskDefinition": new},
            {"id": BLUE, "status": "ACTIVE", "taskDefinition": old},
        ],
    )
    tasks_of_both = [
        *side("somebody", 1, taskDefinitionArn=old),
        *side("somebody", 1, 2, taskDefinitionArn=new),
    ]
    found = made(tasks_of_both, read(document))
    assert [e.task_arn for e in found.endpoints] == [task_arn(1)]


def test_a_task_of_an_earlier_deployment_is_explained() -> None:
    """One that is protected outlives its deployment; it gets no share of the next one's traffic."""
    found = shared(50.0, [*blue_and_green(), *side("ecs-svc/0", 1, 4)])
    assert [e.task_arn for e in found.exclusions] == [task_arn(4)]
    after = made(
        [*side(GREEN, 1), *side("ecs-svc/0", 1, 2)],
        read(shifting(deployments=[{"id": GREEN, "status": "PRIMARY"}])),
    )
    assert len(after.endpoints) == 2


def test_no_weight_that_is_told_is_no_traffic() -> None:
    """As before the shift, where every weight is 0 or absent."""
    nothing = [Weight(f"{REVISION}/1", 0.0), Weight(f"{REVISION}/2", 0.0, is_target=True)]
    assert told(nothing, {}, {}) is None
    assert weights_in(answer({"arn": f"{REVISION}/2"})) == {DEPLOYMENT: ()}


def test_a_revision_names_its_definition() -> None:
    """DescribeServiceRevisions tells it."""
    row = {"serviceRevisionArn": f"{REVISION}/1", "taskDefinition": DEFINITION}
    found = definitions_in(checked("ecs", "DescribeServiceRevisions", {"serviceRevisions": [row]}))
    assert found == {f"{REVISION}/1": DEFINITION}


def test_parts_are_of_those_that_run() -> None:
    """And make one whole."""
    traffic = Traffic({BLUE: 80.0, GREEN: 20.0}, GREEN)
    assert traffic.parts({BLUE: 3.0, GREEN: 1.0}) == {BLUE: 0.8, GREEN: 0.2}
    assert traffic.parts({GREEN: 1.0}) == {GREEN: 1.0}

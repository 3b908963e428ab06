"""Where and since when a task runs, as its service says it to whoever verifies by connecting."""

from datetime import timedelta

from discovery.ecs.assembly import Known, assembled
from discovery.ecs.facts import Facts
from discovery.ecs.hosts import Host, Machine, instances_in
from discovery.ecs.members import members_of
from discovery.ecs.tasks import tasks_in
from discovery.model import Service
from tests.ecs.documents import (
    CREATED,
    INSTANCE,
    Document,
    binding,
    checked,
    container,
    task,
    task_arn,
    tasks,
)

AGENT_GONE = {INSTANCE: Host(Machine(ipv4="10.0.1.10"), None, agent_connected=False)}


def app(number: int, **more: object) -> Document:
    return task(container("app", binding(8080, 32_768)), number=number, **more)


def made(*documents: Document) -> dict[str, Service]:
    known = Known(
        label="prod", members=members_of(tasks_in(tasks(*documents))), facts=Facts(hosts=AGENT_GONE)
    )
    return {s.name: s for s in assembled(known, None, 7.0).services}


def test_a_service_carries_start_machine_and_agent_of_its_tasks() -> None:
    """By ARN, in seconds since the epoch."""
    placement = made(app(1, startedAt=CREATED + timedelta(seconds=30)))["orders"].placements[
        task_arn(1)
    ]
    assert placement.started_at == CREATED.timestamp() + 30
    assert placement.created_at == CREATED.timestamp()
    assert placement.machine == INSTANCE
    assert placement.agent_connected is False


def test_whether_an_agent_is_connected_is_read_with_its_instance() -> None:
    """Not known is not disconnected."""
    row = {"containerInstanceArn": INSTANCE, "ec2InstanceId": "i-1", "status": "ACTIVE"}
    for told, want in (({}, None), ({"agentConnected": False}, False)):
        answer = {"containerInstances": [row | told]}
        found = instances_in(checked("ecs", "DescribeContainerInstances", answer))
        assert found[INSTANCE].agent_connected is want


def test_of_two_tasks_at_one_address_the_one_started_later_is_right() -> None:
    """Not the one created later, which may have waited for a place."""
    early = app(1, group="service:early", startedAt=CREATED + timedelta(seconds=60))
    late = app(
        2, createdAt=CREATED + timedelta(seconds=5), startedAt=CREATED + timedelta(seconds=9)
    )
    found = made(early, late)
    assert [len(found[name].endpoints) for name in ("early", "orders")] == [1, 0]

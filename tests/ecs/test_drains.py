"""What a read says of tasks on their way out, and of containers that were restarted in place."""

from discovery.ecs.memory import Memory
from tests.ecs.documents import binding, container, task_arn
from tests.ecs.fixed import by_name, small_cluster

NOW = 1_000_000.0


def test_tasks_on_a_draining_instance_keep_their_full_weight() -> None:
    """ECS replaces them one by one; each serves until it is to stop."""
    aws, memory = small_cluster(orders=2), Memory()
    aws.read(memory, NOW)
    for instance in aws.instances.values():
        instance["status"] = "DRAINING"
    found = by_name(aws.read(memory, NOW + 60))["orders"]
    assert {i.status for i in memory.instances.values()} == {"DRAINING"}
    assert [(e.health, e.weight) for e in found.endpoints] == [("unknown", 1.0)] * 2


def test_a_task_that_is_to_stop_is_out_with_the_next_read() -> None:
    """While it still runs and answers: its desired status is the first sign."""
    aws, memory = small_cluster(orders=2), Memory()
    aws.read(memory, NOW)
    aws.tasks[task_arn(1)]["desiredStatus"] = "STOPPED"
    found = by_name(aws.read(memory, NOW + 10))["orders"]
    assert [e.task_arn for e in found.endpoints] == [task_arn(2)]
    assert [e.reason for e in found.exclusions] == [
        "it is being stopped (RUNNING, desired STOPPED)"
    ]


def test_a_spot_interruption_is_a_task_that_is_to_stop() -> None:
    """Its instance is DRAINING at the same time."""
    aws, memory = small_cluster(orders=2), Memory()
    aws.read(memory, NOW)
    interrupted = aws.tasks[task_arn(1)]
    interrupted |= {"desiredStatus": "STOPPED", "stopCode": "SpotInterruption"}
    aws.instances[interrupted["containerInstanceArn"]]["status"] = "DRAINING"
    found = by_name(aws.read(memory, NOW + 10))["orders"]
    assert [e.task_arn for e in found.endpoints] == [task_arn(2)]


def test_a_container_restarted_in_place_is_at_its_new_port_with_the_next_read() -> None:
    """Same task, same version of it for all we know, other bindings."""
    aws, memory = small_cluster(orders=1), Memory()
    (before,) = by_name(aws.read(memory, NOW))["orders"].endpoints
    restarted = container("app", binding(8080, 40_000), runtimeId="second", restartCount=1)
    aws.tasks[task_arn(1)]["containers"] = [restarted]
    (after,) = by_name(aws.read(memory, NOW + 10))["orders"].endpoints
    assert (before.port, after.port) == (32_769, 40_000)
    assert before.identity == after.identity


def test_a_container_restarted_in_place_has_to_pass_its_check_anew() -> None:
    """The verdict on the run before is not about this one."""
    aws, memory = small_cluster(orders=2), Memory()
    (definition,) = aws.definitions.values()
    app = definition["taskDefinition"]["containerDefinitions"][0]
    app["healthCheck"] = {"command": ["CMD", "true"]}
    for document in aws.tasks.values():
        document["containers"][0] |= {"healthStatus": "HEALTHY", "runtimeId": "first"}
    aws.read(memory, NOW)
    aws.read(memory, NOW + 10)
    aws.tasks[task_arn(1)]["containers"][0] |= {"healthStatus": "UNKNOWN", "runtimeId": "second"}
    found = by_name(aws.read(memory, NOW + 20))["orders"]
    assert [e.task_arn for e in found.endpoints] == [task_arn(2)]
    assert [e.reason for e in found.exclusions] == ["its health check has no verdict yet"]

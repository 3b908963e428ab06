"""The local ECS held against recorded documents: the same members, absent where they are absent.

For each shape and state the sets of member paths are compared. Every difference stands in a table
with its explanation; one that is not there, and one there that no longer exists, fails.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.local import shapes
from tests.local.sandbox import Sandbox

RECORDED = Path(__file__).parents[3] / "shared" / "recorded"
pytestmark = pytest.mark.skipif(not RECORDED.is_dir(), reason="no recorded documents here")


def paths(value: Any, at: str = "") -> Iterator[str]:
    """Every member path of a document; items of a list share one."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield f"{at}{name}"
            yield from paths(each, f"{at}{name}.")
    elif isinstance(value, list):
        for each in value:
            yield from paths(each, at)


def recorded(name: str, *keys: str | int) -> Any:
    """A part of a recorded document."""
    document = json.loads((RECORDED / name).read_text())
    for key in keys:
        document = document[key]
    return document


_OLD = "the recording is older than this member"
_OPTION = "ours was started with it, the recorded one without"
_CUT = "AWS's example leaves it out"


def _newer(*members: str) -> dict[str, str]:
    return {f"+{each}": _OLD for each in members}


_ATTRIBUTES = ("attributes", "attributes.name", "attributes.value")
_EXECUTE = "enableExecuteCommand"
_ACCELERATORS = "overrides.inferenceAcceleratorOverrides"
_STORAGE = ("fargateEphemeralStorage", "fargateEphemeralStorage.sizeInGiB")
_OLD_EVENT = (
    "detail.attachments",
    *(f"detail.{each}" for each in _ATTRIBUTES),
    "detail.availabilityZone",
    "detail.connectivityAt",
    "detail.containers.cpu",
    "detail.containers.image",
    "detail.containers.memory",
    "detail.containers.networkInterfaces",
    "detail.containers.runtimeId",
    "detail.stopCode",
)
_OLD_STOPPING = (
    *_ATTRIBUTES,
    *_STORAGE,
    _EXECUTE,
    _ACCELERATORS,
    "availabilityZone",
    "containers.cpu",
    "containers.healthStatus",
    "containers.image",
    "containers.imageDigest",
    "containers.runtimeId",
    "ephemeralStorage",
    "ephemeralStorage.sizeInGiB",
    "healthStatus",
    "platformFamily",
    "stopCode",
    "tags",
)

_REVISIONS = (
    "currentServiceRevisions",
    *(
        f"currentServiceRevisions.{each}"
        for each in ("arn", "requestedTaskCount", "runningTaskCount", "pendingTaskCount")
    ),
    "deploymentConfiguration.strategy",
    "deploymentConfiguration.bakeTimeInMinutes",
)

CASES: dict[str, tuple[Callable[[Sandbox], Any], tuple[str | int, ...], dict[str, str]]] = {
    "bridge running": (
        shapes.bridge_service_running,
        ("describe-tasks/doc-ec2-bridge-static-80.json", "tasks", 0),
        {},
    ),
    "bridge pending": (shapes.bridge_run_task, ("run-task/doc-ec2.json", "tasks", 0), {}),
    "bridge started": (
        shapes.bridge_start_task,
        ("start-task/doc.json", "tasks", 0),
        _newer(*_ATTRIBUTES, _EXECUTE, _ACCELERATORS, "availabilityZone", "containers.image"),
    ),
    "fargate planned": (
        shapes.fargate_run_task,
        ("run-task/doc-ebs-attachment.json", "tasks", 0),
        {},
    ),
    "fargate provisioning": (
        shapes.fargate_provisioning,
        ("describe-tasks/fargate-provisioning-and-pending.json", "tasks", 0),
        _newer(*_ATTRIBUTES, _EXECUTE),
    ),
    "fargate pending": (
        shapes.fargate_pending,
        ("describe-tasks/fargate-provisioning-and-pending.json", "tasks", 1),
        _newer(*_ATTRIBUTES, _EXECUTE),
    ),
    "fargate running": (
        shapes.fargate_service_running,
        ("describe-tasks/fargate-1.4-service-task.json", "tasks", 0),
        _newer(*_STORAGE),
    ),
    "fargate failed": (
        shapes.fargate_failed_to_start,
        ("describe-tasks/fargate-stopped-failed-to-start.json", "tasks", 0),
        _newer(
            *_ATTRIBUTES,
            _EXECUTE,
            _ACCELERATORS,
            "availabilityZone",
            "containers.cpu",
            "containers.image",
        )
        | {"+capacityProviderName": _OPTION, "+tags.key": _OPTION, "+tags.value": _OPTION},
    ),
    "fargate stopping": (
        shapes.fargate_stop_task,
        ("stop-task/fargate-stop-while-running.json", "task"),
        _newer(*_OLD_STOPPING)
        | {
            "+connectivity": "the recorded task has none although its interface is ATTACHED",
            "+connectivityAt": "as connectivity",
            "+containers.memoryReservation": _OPTION,
            "+tags.key": _OPTION,
            "+tags.value": _OPTION,
        },
    ),
    "event bridge stopped": (
        shapes.event_of_stopped_bridge_task,
        ("events/task-stopped-ec2-2018.json",),
        _newer(*_OLD_EVENT),
    ),
    "event fargate running": (
        shapes.event_of_running_fargate_task,
        ("events/doc-task-state-change-fargate.json",),
        _newer(*(f"detail.{each}" for each in _ATTRIBUTES))
        | {"+detail.capacityProviderName": _OPTION},
    ),
    "event instance": (
        shapes.event_of_instance,
        ("events/doc-container-instance-state-change.json",),
        {
            "+detail.attributes.value": "the recorded attributes are capabilities without a value",
            "+detail.pendingTasksCount": _CUT,
            "+detail.runningTasksCount": _CUT,
            "+detail.registeredAt": _OLD,
        },
    ),
    "instance active": (
        shapes.instance_active,
        ("describe-container-instances/ec2-agent-1.68.json", "containerInstances", 0),
        {},
    ),
    "instance draining": (
        shapes.instance_draining,
        ("describe-container-instances/ec2-draining.json", "containerInstances", 0),
        _newer("tags"),
    ),
    "service ec2": (
        shapes.service_ec2,
        ("describe-services/ec2-replica.json", "services", 0),
        _newer("enableExecuteCommand", *_REVISIONS),
    ),
    "service fargate": (
        shapes.service_fargate,
        ("describe-services/fargate-deployment-controller-ecs.json", "services", 0),
        _newer(*_REVISIONS),
    ),
    "service of task sets": (
        shapes.service_code_deploy,
        ("describe-services/code-deploy-taskset.json", "services", 0),
        {},
    ),
    "task set": (
        shapes.task_set,
        ("describe-task-sets/doc-describe.json", "taskSets", 0),
        {f"+{each}": _CUT for each in ("clusterArn", "serviceArn", "tags")},
    ),
    "service deployment": (
        shapes.service_deployment,
        ("describe-service-deployments/doc.json", "serviceDeployments", 0),
        _newer(*_REVISIONS[-2:])
        | {
            f"-deploymentConfiguration.alarms{each}": "ours was created without this member"
            for each in ("", ".alarmNames", ".rollback", ".enable")
        },
    ),
    "service revision": (
        shapes.service_revision,
        ("describe-service-revisions/doc.json", "serviceRevisions", 0),
        {},
    ),
    "service capacity provider": (
        shapes.service_capacity_provider,
        ("describe-services/capacity-provider-lb-and-registry.json", "services", 0),
        _newer(*_REVISIONS)
        | {
            f"+events.{each}": "the recorded service has had no event yet"
            for each in ("id", "createdAt", "message")
        },
    ),
    "cluster": (shapes.cluster, ("describe-clusters/cluster-storage.json", "clusters", 0), {}),
    "definition": (
        shapes.definition,
        ("describe-task-definition/c7n-def-1.json", "taskDefinition"),
        _newer("containerDefinitions.systemControls", "registeredAt", "registeredBy"),
    ),
    "metadata task": (shapes.metadata_task, ("task-metadata/doc-v4-task-ec2-b.json",), {}),
    "metadata container": (
        shapes.metadata_container,
        ("task-metadata/doc-v4-container-ec2.json",),
        {},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_members_are_those_of_the_recorded_document(sandbox: Sandbox, name: str) -> None:
    """`+` is a member that only we have, `-` one that only the recording has."""
    make, where, explained = CASES[name]
    ours, theirs = set(paths(make(sandbox))), set(paths(recorded(*where)))  # type: ignore[arg-type]
    found = {f"+{each}" for each in ours - theirs} | {f"-{each}" for each in theirs - ours}
    assert found == set(explained)
    assert all(explained.values())


def test_ecs_anywhere_task_lacks_what_the_real_one_lacks(sandbox: Sandbox) -> None:
    """No zone, attributes, connectivity or platform; attachments and interfaces are empty."""
    sandbox.define()
    identity = {"instanceId": "mi-0123456789abcdef0"}
    sandbox.api(
        "RegisterContainerInstance", cluster="demo", instanceIdentityDocument=json.dumps(identity)
    )
    arn = sandbox.run(launchType="EXTERNAL")
    sandbox.advance()
    task = sandbox.task(arn)
    absent = {"availabilityZone", "attributes", "connectivity", "connectivityAt", "platformVersion"}
    assert not absent & task.keys()
    assert task["attachments"] == task["containers"][0]["networkInterfaces"] == []
    assert (task["launchType"], task["lastStatus"]) == ("EXTERNAL", "RUNNING")


def test_missing_task_is_the_recorded_failure(sandbox: Sandbox) -> None:
    """Unknown ARNs are failures with `arn` and `reason` and nothing else."""
    theirs = recorded("describe-tasks/failure-missing-no-cluster.json")
    ours = sandbox.api("DescribeTasks", cluster="demo", tasks=[theirs["failures"][0]["arn"]])
    assert ours == {"tasks": [], "failures": theirs["failures"]}

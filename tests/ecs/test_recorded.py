"""Real documents, recorded from AWS or printed by it, through the mapping.

Each file's endpoints and exclusions are written down here; a file without an entry fails.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from discovery.ecs import hosts, metadata, services
from discovery.ecs.definitions import ContainerDefinition, Definition, definition_of
from discovery.ecs.facts import Facts, Owner
from discovery.ecs.shapes import endpoints_of
from discovery.ecs.tasks import Task, tasks_in
from discovery.model import Port

RECORDED = Path(__file__).parents[3] / "shared/recorded"
pytestmark = pytest.mark.skipif(not RECORDED.is_dir(), reason="no recorded documents here")

PENDING = "it is PENDING, not running yet"
PROVISIONING = "it is PROVISIONING, not running yet"
ESSENTIAL = "it is STOPPED: Essential container in task exited"
INJECTED = "the container is not part of the service: ECS or an agent put it there"

# File → for each task: names, `container host:port` of each endpoint, exclusions. The instance of
# every host is at 10.9.9.9; every definition of a task with an interface has port 8080.
TASKS: dict[str, list[tuple[list[str], list[str], list[str]]]] = {
    "describe-tasks/botocore-2016.json": [(["amazon-ecs-sample"], ["ecs-demo 10.9.9.9:80"], [])],
    "describe-tasks/doc-ec2-bridge-static-80.json": [
        (["testupdate"], ["simple-app 10.9.9.9:80"], [])
    ],
    "describe-tasks/doc-tutorial-ec2.json": [
        (["sleep360"], [], ["sleep: its task definition is not read yet"])
    ],
    "describe-tasks/doc-two-fargate-tasks.json": [
        (["tdsevicetag"], ["web 10.0.1.184:8080"], []),
        (["tdsevicetag"], ["web 10.0.1.41:8080"], []),
    ],
    "describe-tasks/failure-missing-no-cluster.json": [],
    "describe-tasks/fargate-1.3-doc-2019.json": [
        (["fargate-service"], ["fargate-app 10.0.0.4:8080"], [])
    ],
    "describe-tasks/fargate-1.3-four-tasks-2017.json": [
        (["ecs-read-only-root"], ["Db 10.0.1.134:8080"], []),
        (["home-web"], ["webserver 10.0.0.253:8080"], []),
        (["ecs-read-only-root"], ["Db 10.0.0.219:8080"], []),
        (["home-web"], ["webserver 10.0.1.53:8080"], []),
    ],
    "describe-tasks/fargate-1.4-service-task.json": [
        (["c7n-test-service"], ["sample-app 10.0.1.232:8080"], [])
    ],
    "describe-tasks/fargate-provisioning-and-pending.json": [
        (["app-fargate-task"], [], [PROVISIONING]),
        (["webapp-fargate-task"], [], [PENDING]),
    ],
    "describe-tasks/fargate-running-no-connectivity.json": [
        (["home-web"], ["webserver 10.0.0.130:8080"], []),
        (["home-web"], ["webserver 10.0.1.52:8080"], []),
        (["ecs-read-only-root"], ["Db 10.0.1.134:8080"], []),
        (["ecs-read-only-root"], ["Db 10.0.0.219:8080"], []),
    ],
    "describe-tasks/fargate-stopped-failed-to-start.json": [
        (["task-public-no-vpc"], [], ["it is STOPPED: Task failed to start"])
    ],
    "describe-tasks/partial-managed-instances-task.json": [
        (["sample-managed-instances"], [], ["ECS does not report its status"])
    ],
    "describe-tasks/sdk-fargate-service-connect.json": [
        (
            ["connector-app"],
            ["connector-app 10.200.65.120:8080", "ecs-exporter 10.200.65.120:8080"],
            [f"ecs-service-connect-oRK9o: {INJECTED}"],
        )
    ],
    "run-task/doc-ebs-attachment.json": [(["mytaskdef"], [], [PROVISIONING])],
    "run-task/doc-ec2.json": [(["sleep360"], [], [PENDING])],
    "run-task/doc-tutorial.json": [(["sleep360"], [], [PENDING])],
    "start-task/doc-ebs-attachment.json": [(["mytaskdef"], [], [PROVISIONING])],
    "start-task/doc.json": [(["sleep360"], [], [PENDING])],
    "stop-task/doc.json": [(["sleep360"], [], ["it is STOPPED: Taskfailedtostart"])],
    "stop-task/fargate-stop-while-running.json": [
        (["home-web"], ["webserver 10.0.0.130:8080 draining"], [])
    ],
    "events/doc-capacity-provider-steady-state.json": [],
    "events/doc-container-instance-state-change.json": [],
    "events/doc-deployment-completed.json": [],
    "events/doc-deployment-failed.json": [],
    "events/doc-deployment-in-progress.json": [],
    "events/doc-deployment-rollback-in-progress.json": [],
    "events/doc-placement-failure.json": [],
    "events/doc-service-steady-state.json": [],
    "events/doc-task-start-impaired.json": [],
    "events/doc-task-state-change-fargate.json": [
        (["sample-fargate"], ["FargateApp 10.0.0.139:8080"], [])
    ],
    "events/task-stopped-ec2-2018.json": [(["example-ecs-events-ec2"], [], [ESSENTIAL])],
    "events/task-stopped-sdi-attachment-2020.json": [(["example-api-v1"], [], [ESSENTIAL])],
    "stepfunctions-ecs-output/localstack-submitted.json": [
        (["task_definition_family"], [], [PROVISIONING])
    ],
    "stepfunctions-ecs-output/localstack-succeeded.json": [
        (["task_definition_family"], [], [ESSENTIAL])
    ],
}

# File → machine of each instance, its state and zone.
INSTANCES = {
    "botocore-2016.json": [("i-807f3249", "ACTIVE", None)],
    "doc-describe.json": [("i-A1B2C3D4", "ACTIVE", None)],
    "doc-tutorial.json": [("instance_id", "ACTIVE", None)],
    "ec2-agent-1.17.json": [("i-0f7b386d63f687e7e", "ACTIVE", "us-east-1a")],
    "ec2-agent-1.68.json": [("i-017dc2df46511d9b8", "ACTIVE", "us-east-1c")],
    "ec2-agent-update-status.json": [("i-0efbe8e0a73bc95b9", "ACTIVE", "us-east-1d")],
    "ec2-draining.json": [("i-0e172d4548d312ee0", "DRAINING", "us-east-1d")],
    "partial-managed-instance.json": [("i-1234567890abcdef0", None, None)],
    "two-without-remaining-resources.json": [
        ("i-0e4f5b592f9181b24", "ACTIVE", "us-east-1b"),
        ("i-03a799cab1c1a3dff", "ACTIVE", "us-east-1a"),
    ],
}

# File → address of each machine, or the state in which it has none.
MACHINES = {
    "action-filter-call.json": {"i-067c1978d00cacbf4": "10.0.1.235"},
    # The document has 10-0-0-157, which is no address.
    "doc.json": {"i-1234567890abcdef0": "running"},
    "ec2-iam-role-tag-mirror-equal.json": {
        "i-051d5a5a07a40d2a3": "172.31.11.4",
        "i-0087ce11c395e5703": "172.31.9.22",
    },
    "ec2-network-location.json": {"i-06942813abca96f71": "terminated"},
    "ec2-permissions.json": {"i-0cdbc9746913097d5": "172.31.25.97"},
    "ec2-stop-with-protection-enabled.json": {"i-000b2f5125402eb55": "stopped"},
    "ec2-terminate.json": {"i-017cf4e2a33b853fe": "shutting-down"},
    "metric-filter-multiple-datapoints.json": {"i-0ea09b4cbf12b50f2": "172.31.63.4"},
    "network-interface-detach.json": {"i-05fccf7da99ad47f7": "10.146.96.44"},
    "unused-keypair.json": {"i-0ccca83be31e1577b": ""},
}

MANAGED_MACHINES = {
    "doc.json": {"i-028ea792daEXAMPLE": "192.0.2.0"},
    "managed.json": {"mi-1111aa111aa11a111": "11.11.11.11"},
    "send-command.json": {"i-0ba3874e85bb97244": "172.31.10.93"},
    "two.json": {"i-0ba3874e85bb97244": "172.31.10.93", "i-0dea82d960d56dc1d": "172.31.11.50"},
}

# File → network mode and the ports of each container.
DEFINITIONS = {
    "botocore-2016.json": ("bridge", {"wordpress": ["80._tcp"], "mysql": []}),
    "c7n-def-1.json": ("awsvpc", {"Db": ["6379._tcp"]}),
    "c7n-def-2.json": ("awsvpc", {"db": []}),
    "c7n-def-3.json": ("awsvpc", {"webserver": ["80._tcp"]}),
    "c7n-def-inactive.json": ("awsvpc", {"testing": ["testing-80-tcp._tcp"]}),
    "c7n-def-service.json": ("awsvpc", {"server": ["5000._tcp"]}),
    "c7n-def-tags.json": ("host", {"default": []}),
}

# File → for each service: registered port, number of deployments, tasks, production deployments.
SERVICES: dict[str, dict[str, tuple[Any, int, int, list[str] | None]]] = {
    "botocore-2016.json": {"ecs-simple-service": (None, 1, 0, None)},
    "capacity-provider-lb-and-registry.json": {"redash-server": (("server", 5000), 1, 1, None)},
    "capacity-provider-two-deployments.json": {"redash-server": (("server", 5000), 2, 1, None)},
    "code-deploy-taskset.json": {
        "test-task-set-delete": (("sample-app", 80), 1, 1, ["ecs-svc/4201323268728819917"])
    },
    "draining.json": {"web": (None, 1, 2, None)},
    "ec2-replica-scaled-to-zero.json": {"custodian-service-autoscaling-test": (None, 1, 0, None)},
    "ec2-replica.json": {"custodian-service-autoscaling-test": (None, 1, 0, None)},
    "fargate-2017-no-registries.json": {"home-web": (None, 1, 2, None)},
    "fargate-by-arn.json": {"test-no-delete": (None, 1, 0, None)},
    "fargate-deployment-controller-ecs.json": {"c7n-test-service": (None, 1, 1, None)},
    "fargate-no-events.json": {"custodian-service-update-test": (None, 1, 0, None)},
    "fargate-service-registries.json": {"devx": (None, 1, 1, None)},
    "fargate-two-deployments.json": {"custodian-service-update-test": (None, 2, 0, None)},
    "one-ec2-one-fargate-service.json": {
        "c7n-test": (None, 1, 0, None),
        "test-no-tag": (None, 1, 0, None),
    },
    # The registry's port is 0 there, which means unset: the load balancer's counts.
    "sdk-fargate-service-connect.json": {"connector-app": (("connector-app", 8080), 1, 1, None)},
    "two-services-100-events.json": {
        "test": (None, 1, 1, None),
        "c7n-test-service": (None, 1, 0, None),
    },
    "two-services-running-and-idle.json": {
        "home-web": (None, 1, 2, None),
        "web": (None, 1, 2, None),
    },
}

# File → cluster, region, family, zone, service, launch type, network mode, addresses.
IDENTITIES = {
    "doc-v2-task.json": "default us-east-2 nginx us-east-2b - - awsvpc 10.0.2.106",
    "doc-v3-container.json": "default us-east-2 nginx - - - awsvpc 10.0.2.106",
    "doc-v4-container-ec2.json": "default us-west-2 curltest - - - awsvpc 10.0.2.100",
    "doc-v4-task-ec2-b.json": (
        "default us-west-2 curltest us-west-2d MyService EC2 awsvpc 10.0.2.61"
    ),
    "doc-v4-task-ec2-c.json": (
        "default us-west-2 curltest us-west-2d MyService EC2 awsvpc 10.0.2.61"
    ),
    "doc-v4-task-ec2.json": "default us-west-2 curltest us-west-2d MyService EC2 awsvpc 10.0.2.61",
    "managed-instances-task-v4.json": (
        "managed-instances-cluster us-west-2 managed-instances-task-def us-west-2d"
        " exec-service-2 MANAGED_INSTANCES awsvpc 172.31.62.223"
    ),
    "metadata-fargate-1.4-clock-drift-2023.json": (
        "example-fargate-check-cluster ap-northeast-1 example-fargate-check ap-northeast-1d"
        " - FARGATE awsvpc 172.31.38.118"
    ),
    "nri-ecs-task_response.json": (
        "ecs-local-cluster us-west-2 esc-local-task-definition - - EC2 bridge 172.17.0.2"
    ),
    "otel-java-contrib-ecs-container-metadata-v3.json": (
        "default us-east-2 nginx - - - awsvpc 10.0.2.106"
    ),
    "otel-java-contrib-ecs-container-metadata-v4.json": (
        "default us-west-2 curltest - - - awsvpc 10.0.2.100"
    ),
    "otel-java-contrib-ecs-task-metadata-v4.json": (
        "default us-west-2 curltest us-west-2d - EC2 awsvpc 10.0.2.61"
    ),
    "otel-js-contrib-metadatav4-response-container-fargate.json": (
        "default us-west-2 curltest - - - awsvpc 192.0.2.3"
    ),
    "otel-js-contrib-metadatav4-response-task-ec2.json": (
        "default us-west-2 curltest us-west-2d - EC2 awsvpc 10.0.2.61"
    ),
    "otel-js-contrib-metadatav4-response-task-fargate-logsfirelens.json": (
        "default us-west-2 curltest us-west-2a - FARGATE awsvpc"
        " 192.0.2.3 2001:db8:10b:1a00:32bf:a372:d80f:e958"
    ),
    "otel-js-contrib-metadatav4-response-task-fargate.json": (
        "default us-west-2 curltest us-west-2a - FARGATE awsvpc"
        " 192.0.2.3 2001:db8:10b:1a00:32bf:a372:d80f:e958"
    ),
    "partial-bridge-ipv6-ports-hostip.json": "default - - - - - -",
    "telegraf-cgroupv2-meta.json": (
        "ecs-cluster-prod eu-west-2 nginx-telegraf eu-west-2b - - awsvpc 10.1.4.120"
    ),
    "telegraf-metadata.json": "test aws-region-1 nginx - - - awsvpc 172.31.25.181",
}


def recorded(folder: str) -> list[str]:
    """The names of the recorded files of a folder."""
    return sorted(path.name for path in (RECORDED / folder).glob("*.json"))


def read(folder: str, name: str) -> dict[str, Any]:
    """A recorded document."""
    document: dict[str, Any] = json.loads((RECORDED / folder / name).read_text())
    return document


FOLDERS_OF_TASKS = (
    *("describe-tasks", "run-task", "start-task", "stop-task", "events"),
    "stepfunctions-ecs-output",
)
TASK_FILES = [f"{folder}/{name}" for folder in FOLDERS_OF_TASKS for name in recorded(folder)]
HOST = hosts.Host(hosts.Machine(ipv4="10.9.9.9"))


def facts_for(task: Task) -> Facts:
    """A definition with port 8080 for a task with an interface, and an address of its host."""
    ports = {c.name: ContainerDefinition(c.name, (Port(8080),)) for c in task.containers}
    known = Definition(task.definition or "", "awsvpc", ports)
    return Facts(
        definitions={known.arn: known} if task.attachments else {},
        hosts={task.instance: HOST} if task.instance else {},
    )


@pytest.mark.parametrize("name", TASK_FILES)
def test_every_recorded_task_maps_to_what_is_written_down(name: str) -> None:
    """Endpoints, exclusions and names of every task that the file carries."""
    folder, _, file = name.partition("/")
    got = []
    for task in tasks_in(read(folder, file)):
        outcome = endpoints_of(task, Owner("any", "any"), facts_for(task))
        endpoints = [
            f"{c.endpoint.container} {c.endpoint.authority} {c.phase or ''}".strip()
            for c in outcome.candidates
        ]
        out = [
            f"{e.container}: {e.reason}" if e.container else e.reason for e in outcome.exclusions
        ]
        got.append(([n for _, n in task.names], sorted(endpoints), sorted(out)))
    assert got == TASKS[name]


@pytest.mark.parametrize("name", recorded("describe-container-instances"))
def test_recorded_container_instances_name_their_machine(name: str) -> None:
    """Machine, state and zone of every container instance."""
    found = hosts.instances_in(read("describe-container-instances", name)).values()
    assert [(i.machine, i.status, i.zone) for i in found] == INSTANCES[name]


@pytest.mark.parametrize("name", recorded("ec2-describe-instances"))
def test_recorded_machines_have_an_address_or_a_reason(name: str) -> None:
    """Terminated instances have none, and a typing error in a document is none."""
    found = hosts.ec2_machines_in(read("ec2-describe-instances", name))
    assert _addresses(found) == MACHINES[name]
    assert all(m.ipv4 or "has no address" in m.problem for m in found.values())


@pytest.mark.parametrize("name", recorded("ssm-describe-instance-information"))
def test_recorded_managed_machines_have_an_address(name: str) -> None:
    """Systems Manager is the only source of addresses outside of AWS."""
    found = hosts.managed_machines_in(read("ssm-describe-instance-information", name))
    assert _addresses(found) == MANAGED_MACHINES[name]


@pytest.mark.parametrize("name", recorded("describe-task-definition"))
def test_recorded_definitions_give_mode_and_ports(name: str) -> None:
    """An absent network mode is bridge."""
    found = definition_of(read("describe-task-definition", name))
    assert found is not None
    ports = {c.name: [p.label for p in c.ports] for c in found.containers.values()}
    assert (found.network_mode, ports) == DEFINITIONS[name]


@pytest.mark.parametrize("name", recorded("describe-services"))
def test_recorded_services_give_ports_and_deployments(name: str) -> None:
    """Registered port, deployments, running tasks and what serves production."""
    got = {}
    for found in services.services_in(read("describe-services", name), 0.0).values():
        at = found.registered and (found.registered.container, found.registered.port)
        production = sorted(found.traffic.shares) if found.traffic is not None else None
        got[found.name] = (at, len(found.deployments), found.running, production)
    assert got == SERVICES[name]


@pytest.mark.parametrize("name", recorded("task-metadata"))
def test_recorded_metadata_tells_who_we_are(name: str) -> None:
    """From version 2, 3 and 4, of tasks and of containers."""
    document = read("task-metadata", name)
    who = metadata.identity_of(document)
    known = (who.cluster, who.region, who.family, who.zone, who.service, who.launch_type)
    words = [*known, who.network_mode, *metadata.addresses_of(document)]
    assert " ".join(word or "-" for word in words) == IDENTITIES[name]


def _addresses(found: Mapping[str, hosts.Machine]) -> dict[str, str]:
    state = re.compile(r".* is ([\w-]+) and has no address|.*")
    return {
        name: machine.ipv4 or (state.fullmatch(machine.problem) or {1: None})[1] or ""
        for name, machine in found.items()
    }

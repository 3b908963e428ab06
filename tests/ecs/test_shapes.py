"""Every shape a task can have, from documents written by hand from the service model."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from discovery.ecs.definitions import definition_of
from discovery.ecs.facts import Facts, Owner
from discovery.ecs.hosts import Host, Machine, Public
from discovery.ecs.shapes import endpoints_of
from discovery.ecs.tasks import tasks_in
from discovery.model import MAX_WEIGHT
from tests.ecs.documents import (
    DEFINITION,
    INSTANCE,
    Document,
    awsvpc_task,
    binding,
    container,
    container_definition,
    definition,
    interface,
    on_interface,
    port,
    task,
    tasks,
)

IPV4 = Host(Machine(ipv4="10.0.1.10"), "eu-west-1b")
DUAL = Host(Machine(ipv4="10.0.1.10", ipv6="2001:db8::10"))
LOCAL = Host(Machine(ipv4="127.0.0.2"))
NO_ADDRESS = Host(Machine(problem="EC2 instance i-1 is terminated and has no address"))
OWNER = Owner("orders", "prod")

Found = tuple[str, int, int]  # host, port, container port
Out = tuple[str | None, str]  # container, part of the reason


@dataclass(frozen=True)
class Case:
    """A task, what is known beside it, and what must come of it."""

    name: str
    task: Document
    found: tuple[Found, ...] = ()
    out: tuple[Out, ...] = ()
    definition: Document | None = None
    host: Host | None = IPV4
    preferred: Any = "ipv4"
    public: dict[str, Public] | None = None
    problems: dict[str, str] = field(default_factory=dict)
    other: tuple[str | None, ...] = ()


HTTP = container_definition("app", port(8080, "http"))
HOST_MODE = definition(container_definition("app", port(8080, hostPort=8080)), networkMode="host")
AWSVPC = definition(HTTP, networkMode="awsvpc")
RANGE = {
    "bindIP": "0.0.0.0",
    "protocol": "tcp",
    "containerPortRange": "7000-7002",
    "hostPortRange": "32800-32802",
}
LOOPBACK = binding(8080, 32768, "127.0.0.1")

CASES = [
    # bridge
    Case(
        "bridge, static host port",
        task(container("app", binding(80, 80))),
        (("10.0.1.10", 80, 80),),
    ),
    Case(
        "bridge, dynamic host port",
        task(container("app", binding(8080, 32768))),
        (("10.0.1.10", 32768, 8080),),
    ),
    Case(
        "bridge, a shape without protocol",
        task(container("app", {"bindIP": "0.0.0.0", "containerPort": 80, "hostPort": 80})),
        (("10.0.1.10", 80, 80),),
    ),
    Case(
        "bridge, several ports of several containers",
        task(
            container("app", binding(8080, 32768), binding(9090, 32769)),
            container("web", binding(80, 32770)),
        ),
        (("10.0.1.10", 32768, 8080), ("10.0.1.10", 32769, 9090), ("10.0.1.10", 32770, 80)),
    ),
    Case(
        "bridge, port range",
        task(container("app", RANGE)),
        (("10.0.1.10", 32800, 7000), ("10.0.1.10", 32801, 7001), ("10.0.1.10", 32802, 7002)),
    ),
    Case(
        "bridge, a range that the agent split",
        task(container("app", binding(7000, 40001), binding(7001, 40007))),
        (("10.0.1.10", 40001, 7000), ("10.0.1.10", 40007, 7001)),
    ),
    Case(
        "bridge, a range wider than the limit",
        task(
            container(
                "app", {**RANGE, "containerPortRange": "1-150", "hostPortRange": "30001-30150"}
            )
        ),
        tuple(("10.0.1.10", 30000 + n, n) for n in range(1, 101)),
        (("app", "of ports 1-150 only the first 100"),),
    ),
    Case(
        "bridge, both bindings of one port with different host ports, IPv4 first",
        task(container("app", binding(8080, 32769, "::"), binding(8080, 32768))),
        (("10.0.1.10", 32768, 8080),),
        host=DUAL,
    ),
    Case(
        "bridge, both bindings of one port with different host ports, IPv6 first",
        task(container("app", binding(8080, 32768), binding(8080, 32769, "::"))),
        (("2001:db8::10", 32769, 8080),),
        host=DUAL,
        preferred="ipv6",
    ),
    Case(
        "bridge, both bindings but no IPv6 address: never that of the other family",
        task(container("app", binding(8080, 32767, "::"), binding(8080, 32768))),
        (("10.0.1.10", 32768, 8080),),
        preferred="ipv6",
    ),
    Case(
        "bridge, IPv6 only and the host has no such address",
        task(container("app", binding(8080, 32768, "::"))),
        out=(("app", "it is bound to :: only, where its host has no address"),),
    ),
    Case(
        "bridge, IPv6 binding alone on a host with both",
        task(container("app", binding(8080, 32768, "::"))),
        (("2001:db8::10", 32768, 8080),),
        host=DUAL,
    ),
    Case(
        "bridge, one container port bound to two host ports",
        task(container("app", binding(8080, 51496), binding(8080, 37132))),
        (("10.0.1.10", 37132, 8080),),
        (("app", "host port 51496 is another one beside 37132"),),
    ),
    Case(
        "bridge, TCP and UDP of one port",
        task(container("app", binding(53, 32768), binding(53, 32769, protocol="udp"))),
        (("10.0.1.10", 32768, 53), ("10.0.1.10", 32769, 53)),
    ),
    Case(
        "bind address: loopback",
        task(container("app", LOOPBACK)),
        out=(("app", "it is bound to the loopback address 127.0.0.1 only"),),
    ),
    Case(
        "bind address: a specific one wins over the instance's",
        task(container("app", binding(8080, 32768, "10.0.9.9"))),
        (("10.0.9.9", 32768, 8080),),
    ),
    Case(
        "bind address: a specific one needs no other knowledge",
        task(container("app", binding(8080, 32768, "10.0.9.9"))),
        (("10.0.9.9", 32768, 8080),),
        host=None,
    ),
    Case(
        "bind address: loopback of a host that is itself local",
        task(container("app", binding(8080, 32768, "127.0.0.2"))),
        (("127.0.0.2", 32768, 8080),),
        host=LOCAL,
    ),
    Case(
        "bridge, running without bindings yet",
        task(container("app")),
        out=(("app", "ECS does not report the bindings of its ports yet"),),
        definition=definition(HTTP),
    ),
    Case(
        "bridge, one container with bindings and one without ports",
        task(container("app", binding(8080, 32768)), container("log")),
        (("10.0.1.10", 32768, 8080),),
        (("log", "the container maps no port"),),
        definition=definition(HTTP, container_definition("log")),
    ),
    Case(
        "bridge, the other container's definition is not read",
        task(container("app", binding(8080, 32768)), container("log")),
        (("10.0.1.10", 32768, 8080),),
        (("log", "ECS reports no port binding of the container"),),
    ),
    Case(
        "bridge, the instance is not known",
        task(container("app", binding(8080, 32768))),
        out=(("app", f"the address of container instance {'1' * 32} is unknown"),),
        host=None,
    ),
    Case(
        "bridge, the instance could not be read",
        task(container("app", binding(8080, 32768))),
        out=(("app", "permission ecs:DescribeContainerInstances is missing"),),
        host=None,
        problems={INSTANCE: "permission ecs:DescribeContainerInstances is missing"},
    ),
    Case(
        "bridge, the machine has no address",
        task(container("app", binding(8080, 32768))),
        out=(("app", "EC2 instance i-1 is terminated"),),
        host=NO_ADDRESS,
    ),
    Case(
        "bridge, no instance reported",
        {
            k: v
            for k, v in task(container("app", binding(80, 80))).items()
            if k[:10] != "containerI"
        },
        out=(("app", "ECS does not report which container instance it is on"),),
        host=None,
    ),
    Case(
        "Windows default NAT: network mode absent, bindings present",
        task(container("app", binding(8080, 49153)), platformFamily="WINDOWS_SERVER_2022_CORE"),
        (("10.0.1.10", 49153, 8080),),
        definition=definition(HTTP),
    ),
    Case(
        "ECS Anywhere",
        task(container("app", binding(8080, 32768)), launchType="EXTERNAL"),
        (("192.168.7.7", 32768, 8080),),
        host=Host(Machine(ipv4="192.168.7.7")),
    ),
    # host
    Case(
        "host, bindings empty",
        task(container("app")),
        (("10.0.1.10", 8080, 8080),),
        definition=HOST_MODE,
    ),
    Case(
        "host, a binding wins if present",
        task(container("app", binding(8080, 8081))),
        (("10.0.1.10", 8081, 8080),),
        definition=HOST_MODE,
    ),
    Case(
        "host or bridge without bindings: only the definition can tell",
        task(container("app")),
        out=(("app", "its task definition is not read yet"),),
    ),
    Case(
        "host, ECS Anywhere with an IPv6 address",
        task(container("app"), launchType="EXTERNAL"),
        (("2001:db8::7", 8080, 8080),),
        definition=HOST_MODE,
        host=Host(Machine(ipv6="2001:db8::7")),
    ),
    # awsvpc
    Case(
        "awsvpc, IPv4",
        awsvpc_task(container("app", networkInterfaces=on_interface())),
        (("10.0.5.17", 8080, 8080),),
        definition=AWSVPC,
    ),
    Case(
        "awsvpc, the address from the attachment",
        awsvpc_task(container("app")),
        (("10.0.5.17", 8080, 8080),),
        definition=AWSVPC,
    ),
    Case(
        "awsvpc, IPv6 only",
        awsvpc_task(
            container("app", networkInterfaces=on_interface(None, "2001:DB8::5")),
            attachments=[interface(None)],
        ),
        (("2001:db8::5", 8080, 8080),),
        definition=AWSVPC,
    ),
    Case(
        "awsvpc, dual stack, IPv4 preferred",
        awsvpc_task(container("app", networkInterfaces=on_interface("10.0.5.17", "2001:db8::5"))),
        (("10.0.5.17", 8080, 8080),),
        definition=AWSVPC,
        other=("2001:db8::5",),
    ),
    Case(
        "awsvpc, dual stack, IPv6 preferred",
        awsvpc_task(container("app", networkInterfaces=on_interface("10.0.5.17", "2001:db8::5"))),
        (("2001:db8::5", 8080, 8080),),
        definition=AWSVPC,
        preferred="ipv6",
        other=("10.0.5.17",),
    ),
    Case(
        "awsvpc, the interface is not the first attachment",
        awsvpc_task(
            container("app", networkInterfaces=on_interface()),
            attachments=[
                {"id": "volume", "type": "AmazonElasticBlockStorage", "status": "ATTACHED"},
                {"id": "lb", "type": "elb", "status": "ATTACHED", "details": []},
                interface(),
            ],
        ),
        (("10.0.5.17", 8080, 8080),),
        definition=AWSVPC,
    ),
    Case(
        "awsvpc, events' word for the attachment",
        awsvpc_task(container("app"), attachments=[{**interface(), "type": "eni"}]),
        (("10.0.5.17", 8080, 8080),),
        definition=AWSVPC,
    ),
    Case(
        "awsvpc, the interface is not attached",
        awsvpc_task(
            container("app", networkInterfaces=on_interface()),
            attachments=[interface(status="ATTACHING")],
        ),
        out=(("app", "its network interface is ATTACHING, not ATTACHED"),),
        definition=AWSVPC,
    ),
    Case(
        "awsvpc, an old interface beside the attached one",
        awsvpc_task(
            container("app"),
            attachments=[
                {**interface("10.0.5.1", status="DELETED"), "id": "attachment-0"},
                interface(),
            ],
        ),
        (("10.0.5.17", 8080, 8080),),
        definition=AWSVPC,
    ),
    Case(
        "awsvpc, no address",
        awsvpc_task(container("app"), attachments=[interface(None)]),
        out=(("app", "its network interface has no address"),),
        definition=AWSVPC,
    ),
    Case(
        "awsvpc, an address that is none",
        awsvpc_task(
            container("app", networkInterfaces=on_interface("10-0-0-157")),
            attachments=[interface("x")],
        ),
        out=(("app", "its network interface has no address"),),
        definition=AWSVPC,
    ),
    Case(
        "awsvpc, definition not read yet",
        awsvpc_task(container("app", networkInterfaces=on_interface())),
        out=(("app", "its task definition is not read yet"),),
    ),
    Case(
        "awsvpc, definition may not be read",
        awsvpc_task(container("app", networkInterfaces=on_interface())),
        out=(("app", "permission ecs:DescribeTaskDefinition is missing"),),
        problems={DEFINITION: "permission ecs:DescribeTaskDefinition is missing"},
    ),
    Case(
        "awsvpc, a container without ports",
        awsvpc_task(container("app"), container("log")),
        (("10.0.5.17", 8080, 8080),),
        (("log", "the container maps no port"),),
        definition=definition(HTTP, container_definition("log"), networkMode="awsvpc"),
    ),
    Case(
        "awsvpc, a port range",
        awsvpc_task(container("app")),
        (("10.0.5.17", 7000, 7000), ("10.0.5.17", 7001, 7001)),
        definition=definition(
            container_definition("app", {"containerPortRange": "7000-7001", "protocol": "tcp"})
        ),
    ),
    Case(
        "awsvpc on EC2: the interface counts, not the instance",
        task(container("app", networkInterfaces=on_interface()), attachments=[interface()]),
        (("10.0.5.17", 8080, 8080),),
        definition=AWSVPC,
    ),
    Case(
        "Managed Instances",
        awsvpc_task(
            container("app", networkInterfaces=on_interface()),
            launchType="MANAGED_INSTANCES",
            containerInstanceArn=INSTANCE,
        ),
        (("10.0.5.17", 8080, 8080),),
        definition=AWSVPC,
    ),
    Case(
        "awsvpc, public address",
        awsvpc_task(container("app", networkInterfaces=on_interface())),
        (("203.0.113.9", 8080, 8080),),
        definition=AWSVPC,
        public={"eni-1": Public("203.0.113.9")},
    ),
    Case(
        "awsvpc, no public address",
        awsvpc_task(container("app", networkInterfaces=on_interface())),
        out=(("app", "network interface eni-1 has no public address"),),
        definition=AWSVPC,
        public={"eni-1": Public(problem="network interface eni-1 has no public address")},
    ),
    Case(
        "awsvpc, public address not known yet",
        awsvpc_task(container("app", networkInterfaces=on_interface())),
        out=(("app", "its public address is not known"),),
        definition=AWSVPC,
        public={},
    ),
    Case(
        "Service Connect: its container is injected",
        awsvpc_task(
            container("ecs-service-connect-oRK9o", healthStatus="HEALTHY"),
            container("app", networkInterfaces=on_interface()),
            attachments=[
                {
                    "id": "sc",
                    "type": "ServiceConnect",
                    "status": "ATTACHED",
                    "details": [{"name": "ContainerName", "value": "ecs-service-connect-oRK9o"}],
                },
                interface(),
            ],
        ),
        (("10.0.5.17", 8080, 8080),),
        (("ecs-service-connect-oRK9o", "the container is not part of the service"),),
        definition=AWSVPC,
    ),
    Case(
        "injected containers by attachment and by name",
        task(
            container("envoy", binding(9901, 32770)),
            container("~internal~ecs~pause"),
            container("aws-guardduty-agent-x1"),
            container("app", binding(8080, 32768)),
            attachments=[
                {
                    "type": "Service Connect",
                    "details": [{"name": "ContainerName", "value": "envoy"}],
                }
            ],
        ),
        (("10.0.1.10", 32768, 8080),),
        (
            ("envoy", "the container is not part of the service"),
            ("~internal~ecs~pause", "the container is not part of the service"),
            ("aws-guardduty-agent-x1", "the container is not part of the service"),
        ),
    ),
    # out
    Case(
        "none",
        task(container("app")),
        out=(("app", "its network mode is none"),),
        definition=definition(HTTP, networkMode="none"),
    ),
    *(
        Case(
            f"not yet placed or running: {status}",
            task(container("app", lastStatus="PENDING"), lastStatus=status),
            out=((None, f"it is {status}, not running yet"),),
        )
        for status in ("PROVISIONING", "PENDING")
    ),
    Case(
        "stopped, with its bindings still there",
        task(
            container("app", binding(80, 32788), lastStatus="STOPPED", exitCode=137),
            lastStatus="STOPPED",
            desiredStatus="STOPPED",
            stoppedReason="Essential container in task exited",
        ),
        out=((None, "it is STOPPED: Essential container in task exited"),),
    ),
    Case(
        "the container is not running",
        task(
            container("app", binding(8080, 32768)),
            container("migrate", binding(81, 32769), lastStatus="STOPPED"),
        ),
        (("10.0.1.10", 32768, 8080),),
        (("migrate", "the container is STOPPED"),),
    ),
    Case("no container", task(), out=((None, "ECS reports no container of it"),)),
    Case(
        "its weight is 0",
        task(
            container("app", binding(80, 80)), tags=[{"key": "ecs-discovery.weight", "value": "0"}]
        ),
        out=((None, "its tag ecs-discovery.weight is 0"),),
    ),
]


def facts_of(case: Case) -> Facts:
    """What the case knows beside the task."""
    known = definition_of(case.definition) if case.definition else None
    return Facts(
        definitions={DEFINITION: known} if known else {},
        hosts={INSTANCE: case.host} if case.host else {},
        public=case.public,
        problems=case.problems,
        preferred=case.preferred,
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_shape_gives_its_endpoints_and_exclusions(case: Case) -> None:
    """Exactly the wanted endpoints, and a reason for everything else."""
    tasks(case.task)  # the document is one that the API can give
    (parsed,) = tasks_in({"tasks": [case.task]})
    outcome = endpoints_of(parsed, OWNER, facts_of(case))
    found = [c.endpoint for c in outcome.candidates]
    assert sorted((e.host, e.port, e.container_port) for e in found) == sorted(case.found)
    out = sorted(outcome.exclusions, key=lambda e: (e.container or "", e.reason))
    assert len(out) == len(case.out), out
    for exclusion, (name, reason) in zip(
        out, sorted(case.out, key=lambda o: (o[0] or "", o[1])), strict=True
    ):
        assert exclusion.container == name
        assert reason in exclusion.reason
    if case.other:
        assert tuple(c.other_address for c in outcome.candidates) == case.other


def outcome_endpoint(document: Document, **known: Any) -> Any:
    """The only endpoint of a task."""
    case = Case("", document, **known)
    (parsed,) = tasks_in(tasks(case.task))
    (candidate,) = endpoints_of(parsed, OWNER, facts_of(case)).candidates
    return candidate


def test_an_endpoint_tells_all_that_is_known() -> None:
    """Every field of the public contract is filled from the documents."""
    labelled = definition(
        container_definition("app", port(8080, "http"), dockerLabels={"team": "shop", "tier": "1"})
    )
    document = task(
        container("app", binding(8080, 32768), healthStatus="HEALTHY"),
        tags=[{"key": "tier", "value": "2"}, {"key": "ecs-discovery.weight", "value": "2.5"}],
    )
    endpoint = outcome_endpoint(document, definition=labelled).endpoint
    assert endpoint.port_name == "http"
    assert endpoint.container == "app"
    assert endpoint.task_definition == DEFINITION
    assert (endpoint.cluster, endpoint.service) == ("prod", "orders")
    assert endpoint.zone == "eu-west-1a"
    assert endpoint.weight == 2.5
    assert endpoint.labels == {"team": "shop", "tier": "2", "ecs-discovery.weight": "2.5"}


def test_the_zone_of_the_host_stands_in() -> None:
    """Old documents have no zone of their own."""
    document = task(container("app", binding(8080, 32768)))
    del document["availabilityZone"]
    assert outcome_endpoint(document).endpoint.zone == "eu-west-1b"


@pytest.mark.parametrize(
    ("task_tag", "service_tag", "want"),
    [
        (None, None, 1.0),
        ("3", None, 3.0),
        (None, "4", 4.0),
        ("3", "4", 3.0),
        ("heavy", "4", 4.0),
        ("-1", None, 1.0),
        ("nan", None, 1.0),
        ("inf", None, 1.0),
        ("1e308", None, MAX_WEIGHT),
        ("", "0.5", 0.5),
    ],
)
def test_weight_is_the_tag_of_task_then_service(
    task_tag: str | None, service_tag: str | None, want: float
) -> None:
    """What is no positive number counts as not set."""
    document = task(container("app", binding(80, 80)))
    if task_tag is not None:
        document["tags"] = [{"key": "ecs-discovery.weight", "value": task_tag}]
    owner = replace(OWNER, tags={"ecs-discovery.weight": service_tag} if service_tag else {})
    (parsed,) = tasks_in(tasks(document))
    (candidate,) = endpoints_of(parsed, owner, facts_of(Case("", document))).candidates
    assert candidate.endpoint.weight == want


@pytest.mark.parametrize(
    ("last", "desired", "phase"),
    [
        ("RUNNING", "RUNNING", None),
        ("ACTIVATING", "RUNNING", "starting"),
        ("RUNNING", "STOPPED", "draining"),
        ("DEACTIVATING", "STOPPED", "draining"),
        ("STOPPING", "STOPPED", "draining"),
        ("DEACTIVATING", "RUNNING", "draining"),
    ],
)
def test_the_phase_follows_both_statuses(last: str, desired: str, phase: str | None) -> None:
    """The earliest sign of draining is the desired status."""
    document = task(container("app", binding(80, 80)), lastStatus=last, desiredStatus=desired)
    assert outcome_endpoint(document).phase == phase


def test_a_health_check_counts_where_the_definition_has_one() -> None:
    """UNKNOWN means different things with and without one."""
    checks = {"healthCheck": {"command": ["CMD-SHELL", "true"]}}
    none = {"healthCheck": {"command": ["NONE"]}}
    wants = [({}, False), (checks, True), (none, False)]
    for more, want in wants:
        known = definition(container_definition("app", port(80), **more))
        document = task(container("app", binding(80, 80)))
        assert outcome_endpoint(document, definition=known).has_health_check is want


@pytest.mark.parametrize(
    ("group", "definition_arn", "want"),
    [
        ("service:orders", DEFINITION, [("service", "orders")]),
        ("family:batch", DEFINITION.replace("orders", "batch"), [("family", "batch")]),
        ("mygroup", DEFINITION, [("family", "orders"), ("family", "mygroup")]),
        ("a:b", DEFINITION, [("family", "orders"), ("family", "a:b")]),
        (None, DEFINITION, [("family", "orders")]),
        (None, "orders", []),
        ("family:x", None, [("family", "x")]),
    ],
)
def test_groups_name_the_owner(
    group: str | None, definition_arn: str | None, want: list[tuple[str, str]]
) -> None:
    """`group` can be free text, and can be absent; it is never split unchecked."""
    document = task(container(), group=group, taskDefinitionArn=definition_arn)
    (parsed,) = tasks_in({"tasks": [document]})
    assert list(parsed.names) == want

"""Who owns which task, which ports a service has, and what serves production."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from discovery import names
from discovery.ecs.assembly import Known, assembled
from discovery.ecs.definitions import definition_of
from discovery.ecs.facts import Facts
from discovery.ecs.hosts import Host, Machine
from discovery.ecs.members import members_of
from discovery.ecs.services import by_deployment, services_in
from discovery.ecs.tasks import tasks_in
from discovery.model import Service
from discovery.names import Name
from tests.ecs.documents import (
    CREATED,
    DEFINITION,
    INSTANCE,
    Document,
    awsvpc_task,
    binding,
    container,
    container_definition,
    definition,
    on_interface,
    port,
    service,
    services,
    task,
    task_arn,
    tasks,
)

HOSTS = {INSTANCE: Host(Machine(ipv4="10.0.1.10"))}


def known(
    documents: Iterable[Document] = (),
    described: Iterable[Document] = (),
    definitions: Iterable[Document] = (),
    **more: Any,
) -> Known:
    """Everything known of a cluster `prod`."""
    found = services_in(services(*described), 1.0)
    parsed = [d for each in definitions if (d := definition_of(each))]
    return Known(
        label="prod",
        members=members_of(tasks_in(tasks(*documents)), by_deployment(found)),
        names=frozenset(found),
        services=found,
        facts=Facts(definitions={d.arn: d for d in parsed}, hosts=HOSTS),
        **more,
    )


def made(all_known: Known, wanted: frozenset[str] | None = None) -> dict[str, Service]:
    """The services by name."""
    return {s.name: s for s in assembled(all_known, wanted, 7.0).services}


def app(host_port: int = 32768, number: int = 1, **more: Any) -> Document:
    """A bridge task with container port 8080."""
    return task(container("app", binding(8080, host_port)), number=number, **more)


def test_a_service_without_tasks_is_known_and_empty() -> None:
    """Known but empty is not unknown."""
    found = made(known(described=[service("idle", runningCount=0)]))["idle"]
    assert (found.kind, found.endpoints, found.observed_at) == ("service", (), 7.0)


def test_standalone_tasks_go_by_their_family() -> None:
    """And beside it by a group in free text."""
    found = made(known([app(group="nightly", startedBy="me")]))
    assert {name: s.kind for name, s in found.items()} == {"orders": "family", "nightly": "family"}
    assert found["nightly"].endpoints[0].service == "nightly"


def test_a_service_wins_over_a_family_of_its_name() -> None:
    """The family's tasks are said to be out."""
    found = made(known([app(), app(32769, 2, group="family:orders")]))["orders"]
    assert found.kind == "service"
    assert [e.port for e in found.endpoints] == [32768]
    assert [e.task_arn for e in found.exclusions] == [task_arn(2)]
    assert "standalone" in found.exclusions[0].reason


def test_the_deployment_names_the_service_where_the_group_is_missing() -> None:
    """The shape of 2016 has no group."""
    bare = app()
    del bare["group"]
    found = made(known([bare], [service("shop")]))
    assert [e.port for e in found["shop"].endpoints] == [32768]
    assert "orders" not in found


def test_wanted_names_are_compared_without_case() -> None:
    """Names arrive as callers write them."""
    all_known = known([app(), app(32769, 2, group="service:other")])
    assert set(made(all_known, frozenset({"ORDERS"}))) == {"orders"}


def test_the_newer_of_two_tasks_at_one_address_is_right() -> None:
    """Host ports are reused by other services; a list may be a moment old."""
    old = app(number=1, group="service:old")
    new = app(number=2, createdAt=CREATED + timedelta(seconds=5))
    found = made(known([new, old]))
    assert found["old"].endpoints == ()
    assert task_arn(2) in found["old"].exclusions[0].reason
    assert [e.task_arn for e in found["orders"].endpoints] == [task_arn(2)]


def test_one_task_under_two_names_is_no_collision() -> None:
    """It is the same endpoint."""
    found = made(known([app(group="nightly", startedBy="me")]))
    assert len(found["orders"].endpoints) == len(found["nightly"].endpoints) == 1


WEB = container_definition("web", port(80, "http"))
APP = container_definition("app", port(8080, "api"))
ENTRY = {"registryArn": "arn:aws:servicediscovery:eu-west-1:123456789012:service/srv-1"}
BALANCER = {"targetGroupArn": "arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/t/1"}

# registries, load balancers, containers of the definition → default port's number and container
DEFAULTS: list[tuple[list[Document], list[Document], list[Document], Any]] = [
    ([], [], [APP], (8080, "app")),
    ([], [], [APP, WEB], None),
    ([], [], [APP, container_definition("log")], (8080, "app")),
    ([], [], [container_definition("app", port(8080), port(53, protocol="udp"))], (8080, "app")),
    ([], [], [container_definition("app", port(8080), port(9090))], None),
    ([], [{**BALANCER, "containerName": "web", "containerPort": 80}], [APP, WEB], (80, "web")),
    (
        [{**ENTRY, "containerName": "app", "containerPort": 8080}],
        [{**BALANCER, "containerName": "web", "containerPort": 80}],
        [APP, WEB],
        (8080, "app"),
    ),
    ([{**ENTRY, "port": 80}], [], [APP, WEB], (80, "web")),
    ([ENTRY], [{**BALANCER, "containerName": "web", "containerPort": 80}], [APP, WEB], (80, "web")),
    (
        [{**ENTRY, "containerName": "app", "containerPort": 0, "port": 0}],
        [{**BALANCER, "containerName": "web", "containerPort": 80}],
        [APP, WEB],
        (80, "web"),
    ),
    ([], [{**BALANCER, "containerName": "gone", "containerPort": 1}], [APP], (8080, "app")),
]


@pytest.mark.parametrize(("registries", "balancers", "containers", "want"), DEFAULTS)
def test_the_default_port_follows_the_rule(
    registries: list[Document], balancers: list[Document], containers: list[Document], want: Any
) -> None:
    """Registry, load balancer, the only TCP port of the only container with ports, or none."""
    described = service(serviceRegistries=registries, loadBalancers=balancers)
    all_known = known([], [described], [definition(*containers)])
    default = made(all_known)["orders"].default_port
    assert (default and (default.container_port, default.container)) == want


BLUE, GREEN = "ecs-svc/1", "ecs-svc/2"
OLD, NEW = DEFINITION, DEFINITION.rpartition(":")[0] + ":18"

# ports and containers of the old and the new definition, port of the load balancer
ROLLOUTS: list[tuple[tuple[str, int], tuple[str, int], bool]] = [
    (("app", 80), ("app", 8080), False),
    (("app", 80), ("app", 8080), True),
    (("web", 80), ("app", 80), False),
    (("web", 80), ("app", 80), True),
]


def rolling(
    old: tuple[str, int], new: tuple[str, int], is_balanced: bool, runs: str, **health: Any
) -> Service:
    """A service in the middle of a rollout; of which definitions tasks run."""
    entry = {**BALANCER, "containerName": new[0], "containerPort": new[1]}
    described = service(
        taskDefinition=NEW,
        loadBalancers=[entry] if is_balanced else [],
        deployments=[
            {"id": GREEN, "status": "PRIMARY", "taskDefinition": NEW},
            {"id": BLUE, "status": "ACTIVE", "taskDefinition": OLD},
        ],
    )
    check = {"healthCheck": {"command": ["CMD", "true"]}} if health else {}
    definitions = [
        definition(container_definition(name, port(number), **check), arn=arn)
        for arn, (name, number) in ((OLD, old), (NEW, new))
    ]
    bound = {"old": (OLD, old, 1, "HEALTHY"), "new": (NEW, new, 2, "UNKNOWN")}
    documents = [
        task(
            container(
                name, binding(at, 32_767 + number), **({"healthStatus": says} if health else {})
            ),
            number=number,
            taskDefinitionArn=arn,
        )
        for arn, (name, at), number, says in (bound[which] for which in runs.split())
    ]
    return made(known(documents, [described], definitions))["orders"]


@pytest.mark.parametrize("runs", ["old", "new", "old new"])
@pytest.mark.parametrize(("old", "new", "is_balanced"), ROLLOUTS)
def test_the_plain_name_works_while_a_rollout_moves_the_port(
    old: tuple[str, int], new: tuple[str, int], is_balanced: bool, runs: str
) -> None:
    """Every task serves at the port that its own definition has."""
    found = rolling(old, new, is_balanced, runs)
    meant = names.endpoints_at(found, Name("orders", "prod"))
    assert [e.port for e in meant] == [{"old": 32_768, "new": 32_769}[r] for r in runs.split()]


@pytest.mark.parametrize(("old", "new", "is_balanced"), ROLLOUTS)
def test_a_moved_port_gets_no_traffic_before_its_first_verdict(
    old: tuple[str, int], new: tuple[str, int], is_balanced: bool
) -> None:
    """The old port is what serves until then."""
    found = rolling(old, new, is_balanced, "old new", health=True)
    assert [e.port for e in found.endpoints] == [32_768]


def test_the_port_of_the_load_balancer_wins_in_every_definition_that_has_it() -> None:
    """A second port of the new definition is no default, though the old one's only port was."""
    entry = {**BALANCER, "containerName": "proxy", "containerPort": 8080}
    described = service(taskDefinition=NEW, loadBalancers=[entry], deployments=[])
    app_alone = definition(container_definition("app", port(80)), arn=OLD)
    app, proxy = container_definition("app", port(80)), container_definition("proxy", port(8080))
    documents = [
        task(container("app", binding(80, 32_768)), number=1, taskDefinitionArn=OLD),
        task(
            *(container("app", binding(80, 32_769)), container("proxy", binding(8080, 32_770))),
            number=2,
            taskDefinitionArn=NEW,
        ),
    ]
    both = [app_alone, definition(app, proxy, arn=NEW)]
    found = made(known(documents, [described], both))["orders"]
    meant = names.endpoints_at(found, Name("orders", "prod"))
    assert [e.port for e in meant] == [32_768, 32_770]


def test_a_failing_container_is_a_last_resort_beside_a_healthy_sidecar() -> None:
    """Its metrics port serves, and says nothing of the application."""
    check = {"command": ["CMD", "true"]}
    both = definition(
        container_definition("app", port(80, "http"), healthCheck=check),
        container_definition("metrics", port(9090, "metrics")),
    )
    document = task(
        container("app", binding(80, 32_768), healthStatus="UNHEALTHY"),
        container("metrics", binding(9090, 32_769)),
    )
    found = made(known([document], [service()], [both]))["orders"]
    (failing,) = names.endpoints_at(found, Name("orders", "prod", "http", "tcp"))
    (serving,) = names.endpoints_at(found, Name("orders", "prod", "metrics", "tcp"))
    assert (failing.is_last_resort, serving.is_last_resort) == (True, False)


def test_ports_come_in_the_order_of_the_definition() -> None:
    """The containers of a task have no order; what only bindings tell comes last."""
    described = task(
        container("app", binding(8080, 32768), binding(7000, 32770)),
        container("web", binding(80, 32769)),
    )
    found = made(known([described], [service()], [definition(WEB, APP)]))["orders"]
    assert [(p.label, p.container) for p in found.ports] == [
        ("http._tcp", "web"),
        ("api._tcp", "app"),
        ("7000._tcp", "app"),
    ]
    assert not found.definitions_pending


def test_ports_are_pending_until_every_definition_is_read() -> None:
    """A definition that is not read may name ports; one that was refused never will."""
    assert made(known([app()], [service()]))["orders"].definitions_pending
    all_known = known([app()], [service()])
    refused = Facts(hosts=HOSTS, problems={DEFINITION: "refused"})
    assert not made(replace(all_known, facts=refused))["orders"].definitions_pending


def test_tags_of_the_service_become_labels_and_weight() -> None:
    """The task's own tags come on top."""
    tags = [{"key": "ecs-discovery.weight", "value": "5"}, {"key": "team", "value": "shop"}]
    documents = [app(), app(32769, 2, tags=[{"key": "team", "value": "other"}])]
    found = made(known(documents, [service(tags=tags)]))["orders"]
    assert [(e.weight, e.labels["team"]) for e in found.endpoints] == [
        (5.0, "shop"),
        (5.0, "other"),
    ]


def test_other_addresses_are_those_of_the_interface() -> None:
    """A dual stack task answers at both addresses with the same ports."""
    document = awsvpc_task(
        container("app", networkInterfaces=on_interface("10.0.0.7", "2001:db8::7"))
    )
    found = made(known([document], [service()], [definition(APP, networkMode="awsvpc")]))["orders"]
    assert found.other_addresses == {"10.0.0.7": ("2001:db8::7",)}
    assert found.task_addresses == {"10.0.0.7"}
    assert made(known([app()]))["orders"].task_addresses == frozenset()

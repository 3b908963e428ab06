"""Whatever is missing from a document, or of another type than promised, nothing raises."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from discovery.ecs import fields, hosts, metadata, services, traffic
from discovery.ecs.assembly import Known, assembled
from discovery.ecs.definitions import definition_of
from discovery.ecs.facts import Facts
from discovery.ecs.hosts import Host, Machine
from discovery.ecs.members import members_of
from discovery.ecs.tasks import tasks_in
from tests.ecs.documents import (
    DEFINITION,
    INSTANCE,
    awsvpc_task,
    binding,
    container,
    container_definition,
    definition,
    interface,
    on_interface,
    port,
    service,
    task,
)

RECORDED = Path(__file__).parents[3] / "shared/recorded"
ODD: list[Any] = [None, "", "x", 0, -1, 1e300, True, [], {}, [None], ["x"], {"name": 1}, "1-0"]
ODD += [10**400, float("nan"), float("inf"), f"1-{'9' * 5_000}"]

FULL = {
    "tasks": [
        task(
            container(
                "app",
                binding(8080, 32768),
                binding(8080, 32769, "::"),
                {"containerPortRange": "1-9", "hostPortRange": "30001-30009", "bindIP": "0.0.0.0"},
            ),
            tags=[{"key": "ecs-discovery.weight", "value": "2"}],
        ),
        awsvpc_task(
            container("app", networkInterfaces=on_interface("10.0.0.7", "2001:db8::7")),
            number=2,
            attachments=[interface("10.0.0.7", "2001:db8::7")],
        ),
    ],
    "services": [
        service(
            tags=[{"key": "a", "value": "b"}],
            loadBalancers=[{"containerName": "app", "containerPort": 8080}],
            serviceRegistries=[{"registryArn": "arn", "port": 8080}],
            taskSets=[{"id": "ecs-svc/1", "status": "PRIMARY", "taskDefinition": DEFINITION}],
            deploymentController={"type": "CODE_DEPLOY"},
            deploymentConfiguration={"strategy": "CANARY"},
        )
    ],
    "taskDefinition": definition(
        container_definition(
            "app",
            port(8080, "http"),
            {"containerPortRange": "1-9"},
            dockerLabels={"a": "b"},
            healthCheck={"command": ["CMD", "true"]},
        )
    )["taskDefinition"],
}


def paths(document: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every member and item of a document."""
    items: list[tuple[Any, Any]] = []
    if isinstance(document, dict | list):
        items = list(document.items() if isinstance(document, dict) else enumerate(document))
    found = []
    for key, value in items:
        found += [(*at, key), *paths(value, (*at, key))]
    return found


def damaged(document: Any, path: tuple[Any, ...], odd: Any) -> Any:
    """A copy with the member at `path` removed, or replaced where `odd` is given."""
    changed = copy.deepcopy(document)
    inside = changed
    for key in path[:-1]:
        inside = inside[key]
    if odd is Ellipsis:
        del inside[path[-1]]
    else:
        inside[path[-1]] = odd
    return changed


def mapped(document: Any) -> None:
    """Everything that is made of documents, from this one."""
    parsed = tasks_in(document)
    read = definition_of(document)
    known = Known(
        label="prod",
        members=members_of(parsed),
        services=services.services_in(document, 1.0),
        facts=Facts({read.arn: read} if read else {}, {INSTANCE: Host(Machine(ipv4="10.0.1.1"))}),
    )
    made = assembled(known, None, 1.0)
    for one in made.services:
        assert all(fields.address(e.host) and 0 < e.port < 65_536 for e in one.endpoints)
        assert all(e.reason for e in one.exclusions)
    said = {e.task_arn for s in made.services for e in s.endpoints}
    said |= {e.task_arn for s in made.services for e in s.exclusions}
    assert {t.arn for t in parsed if t.names} == said


PATHS = paths(FULL)


def test_any_member_may_be_missing() -> None:
    """Each member of each document once; nothing raises, nothing is skipped silently."""
    for path in PATHS:
        mapped(damaged(FULL, path, ...))


def test_any_member_may_be_odd() -> None:
    """Each member once with a value of every other type."""
    for path in PATHS:
        for odd in ODD:
            mapped(damaged(FULL, path, odd))


@given(st.lists(st.tuples(st.sampled_from(PATHS), st.sampled_from([..., *ODD])), max_size=8))
@settings(max_examples=300, deadline=None)
def test_several_members_may_be_missing_or_odd(damages: list[tuple[tuple[Any, ...], Any]]) -> None:
    """Damages that no longer find their place are left out."""
    document: Any = FULL
    for path, odd in damages:
        if path in set(paths(document)):
            document = damaged(document, path, odd)
    mapped(document)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=10,
)

READERS: list[Callable[[Any], Any]] = [
    tasks_in,
    definition_of,
    lambda d: services.services_in(d, 1.0),
    traffic.weights_in,
    traffic.definitions_in,
    services.names_in,
    hosts.instances_in,
    hosts.ec2_machines_in,
    hosts.managed_machines_in,
    hosts.public_addresses_in,
    metadata.identity_of,
    metadata.addresses_of,
]


@given(st.dictionaries(st.text(max_size=8), json_values, max_size=4), st.sampled_from(READERS))
@settings(max_examples=300, deadline=None)
def test_any_object_can_be_read(document: dict[str, Any], reader: Callable[[Any], Any]) -> None:
    """What is no such document holds nothing."""
    reader(document)


@pytest.mark.skipif(not RECORDED.is_dir(), reason="no recorded documents here")
@given(st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_recorded_documents_survive_damage(data: st.DataObject) -> None:
    """Any reader, any recorded document, any damage."""
    files = sorted(RECORDED.glob("*/*.json"))
    document = json.loads(data.draw(st.sampled_from(files)).read_text())
    path = data.draw(st.sampled_from(paths(document)))
    changed = damaged(document, path, data.draw(st.sampled_from([..., *ODD])))
    for reader in READERS:
        reader(changed)

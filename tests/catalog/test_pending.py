"""Names of ports that were known, while definitions are read again or by somebody else."""

from typing import Any

import pytest

from discovery import names
from discovery.catalog.merging import merged
from discovery.catalog.pending import completed
from discovery.errors import NotReady
from discovery.model import Cluster, Endpoint, Port, Service, Snapshot
from tests.made import endpoint, observed, reading

FIRST, SECOND = "arn:task-definition/web:1", "arn:task-definition/web:2"
HTTP = names.Name("web", "demo", "http", "tcp")


def at(number: int, definition: str = FIRST, **members: Any) -> Endpoint:
    """An endpoint of a task of that definition."""
    return endpoint(number, task_definition=definition, container="app", **members)


def web(*endpoints: Endpoint, pending: bool = False, **members: object) -> Service:
    """The service, with the port that its endpoints have."""
    port = Port(80, "tcp", endpoints[0].port_name, "app")
    given: dict[str, object] = {"ports": (port,), "default_port": port} | members
    return Service("web", "demo", "service", endpoints, definitions_pending=pending, **given)  # type: ignore[arg-type]  # checked at run time


KNOWN = web(
    at(1, port_name="http", labels={"team": "a", "tag": "one"}),
    at(2, port_name="http", labels={"team": "a", "tag": "two"}),
)


def test_ports_of_the_same_definition_keep_their_names() -> None:
    """New tasks of it have them, too; the service still waits for what is not known."""
    after = completed(web(at(2), at(3), pending=True), KNOWN)
    assert [e.port_name for e in after.endpoints] == ["http", "http"]
    assert after.ports == (Port(80, "tcp", "http", "app"),)
    assert after.default_port == Port(80, "tcp", "http", "app")
    assert after.definitions_pending


def test_a_name_that_was_answered_goes_on_being_answered() -> None:
    """From one snapshot to the next, as after a restart from disk or behind another reader."""
    known = Snapshot(clusters=(Cluster("demo"),), services={KNOWN.key: KNOWN})
    after = merged(known, observed(reading(web(at(1), at(4), pending=True))))
    found = names.endpoints_at(after.services["demo", "web"], HTTP)
    assert [e.host for e in found] == ["10.0.0.1", "10.0.0.4"]
    again = merged(after, observed(reading(web(at(4), pending=True))))
    assert len(names.endpoints_at(again.services["demo", "web"], HTTP)) == 1


def test_another_definition_may_have_given_the_port_another_name() -> None:
    """Nobody is sent there by a name of before."""
    after = completed(web(at(3, SECOND), pending=True), KNOWN)
    assert [e.port_name for e in after.endpoints] == [None]


@pytest.mark.parametrize("spares", [(), (at(1),)])
def test_a_name_that_only_another_definition_is_known_to_give_is_not_ready(
    spares: tuple[Endpoint, ...],
) -> None:
    """Who asks for it is not told that nobody is there, though others with it may still end."""
    after = completed(web(at(3, SECOND), spares=spares, pending=True), KNOWN)
    assert after.default_port == Port(80, "tcp", None, "app")
    with pytest.raises(NotReady):
        names.endpoints_at(after, HTTP)


def test_while_two_definitions_run_the_known_name_is_answered() -> None:
    """By who has it, in whichever order."""
    for both in ((at(1), at(3, SECOND)), (at(3, SECOND), at(1))):
        after = completed(web(*both, pending=True), KNOWN)
        assert [e.host for e in names.endpoints_at(after, HTTP)] == ["10.0.0.1"]
        assert after.ports[0].name == "http"


def test_nothing_known_is_nothing_taken_over() -> None:
    """The first read of all."""
    first = web(at(1), pending=True)
    assert completed(first, None) is first
    with pytest.raises(NotReady):
        names.endpoints_at(completed(first, first), HTTP)


def test_what_is_read_is_right_whatever_was_known() -> None:
    """Also that a port has no name."""
    read = web(at(1))
    assert completed(read, KNOWN) is read


def test_labels_of_a_task_stay_under_what_its_tags_say_now() -> None:
    """Docker labels are the definition's, and cannot be read without it."""
    after = completed(web(at(1), at(2, labels={"tag": "new"}), pending=True), KNOWN)
    assert after.endpoints[0].labels == {"team": "a", "tag": "one"}
    assert after.endpoints[1].labels == {"team": "a", "tag": "new"}


def test_a_new_task_has_the_labels_that_all_of_its_definition_had() -> None:
    """Tags are a task's own."""
    after = completed(web(at(3), pending=True), KNOWN)
    assert after.endpoints[0].labels == {"team": "a"}


def test_what_is_spare_keeps_its_names_too() -> None:
    """It may be a last resort."""
    after = completed(web(at(2), spares=(at(1),), pending=True), KNOWN)
    assert [e.port_name for e in after.spares] == ["http"]


def test_a_port_that_is_read_keeps_its_own_name() -> None:
    """While only another definition is missing."""
    read = web(at(1, port_name="api"), at(3, SECOND), pending=True)
    after = completed(read, KNOWN)
    assert after.endpoints[0].port_name == "api"
    assert after.ports[0].name == "api"

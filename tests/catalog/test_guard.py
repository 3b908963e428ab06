"""When a read is too bad to be believed at once."""

import pytest

from discovery.catalog.catalog import Catalog
from discovery.catalog.guard import is_doubtful
from discovery.errors import SourceUnreachable
from discovery.events import Event, Listeners, Published
from discovery.model import ClusterReading
from tests.made import FakeClock, failed, observed, reading, service


def loaded() -> Catalog:
    catalog = Catalog(["demo", "prod"], clock=FakeClock())
    catalog.publish(observed(reading(service("web", 1, 2), service("api", excluded=1))))
    return catalog


@pytest.mark.parametrize(
    ("told", "doubtful"),
    [
        (reading(), True),
        (reading(service("web"), service("api")), True),
        (reading(complete=False, absent={"web", "api"}), True),
        (reading(service("web"), complete=False), True),
        (reading(service("web", 9)), False),
        (reading(service("web", excluded=1)), False),
        (reading(explained=True), False),
        (reading(complete=False, error=SourceUnreachable("no answer")), False),
        (reading(complete=False, absent={"never-heard-of"}), False),
        (reading(unread={"web", "api"}), False),
        (reading(label="prod"), False),
    ],
)
def test_a_reading_is_doubtful_where_every_task_is_gone(
    told: ClusterReading, doubtful: bool
) -> None:
    """One task left, running or not, is enough; so is a source that knows why."""
    assert is_doubtful(loaded().snapshot, told) is doubtful


def test_an_unexplained_loss_waits_for_a_second_read() -> None:
    """What was known is served meanwhile, and the cluster says why."""
    catalog = loaded()
    before = catalog.snapshot
    assert catalog.publish(observed(reading())) == {"demo"}
    assert catalog.snapshot.services == before.services
    assert catalog.snapshot.index == before.index
    assert "a second read" in (catalog.snapshot.clusters[0].error or "")


def test_the_second_read_is_believed() -> None:
    """The same answer twice is an answer."""
    catalog = loaded()
    catalog.publish(observed(reading()))
    assert catalog.publish(observed(reading())) == frozenset()
    assert catalog.snapshot.services == {}


def test_a_failed_read_is_no_second_read() -> None:
    """An error says nothing, so the doubt stays as it was and the next empty read settles it."""
    catalog = loaded()
    catalog.publish(observed(reading()))
    catalog.publish(failed(SourceUnreachable("no answer")))
    assert catalog.snapshot.services
    catalog.publish(observed(reading()))
    assert catalog.snapshot.services == {}


def test_a_good_read_in_between_ends_the_doubt() -> None:
    """The loss has to be seen twice in a row."""
    catalog = loaded()
    catalog.publish(observed(reading()))
    catalog.publish(observed(reading(service("web", 1))))
    assert catalog.publish(observed(reading())) == {"demo"}
    assert catalog.snapshot.services


def test_nothing_is_published_while_a_loss_is_doubted() -> None:
    """Listeners hear of changes, and there is none."""
    heard: list[Event] = []
    catalog = Catalog(["demo"], listeners=Listeners(heard.append), clock=FakeClock())
    catalog.publish(observed(reading(service("web", 1))))
    catalog.publish(observed(reading()))
    assert [type(e) for e in heard] == [Published]

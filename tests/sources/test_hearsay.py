"""What others told: its times, and what of it is older than what is known."""

from dataclasses import replace

import pytest

from discovery.model import Cluster, Snapshot
from discovery.snapshots import Told
from discovery.sources.hearsay import is_older, observed, shifted
from tests.made import NOW, service
from tests.test_snapshots import holding


def test_times_can_be_moved_to_another_clock() -> None:
    """All of them alike; what is unknown stays so."""
    moved = shifted(holding(service("web", 1)), -5.0)
    assert (moved.observed_at, moved.clusters[0].observed_at) == (NOW - 5, NOW - 5)
    assert moved.read_at == {("demo", "web"): NOW - 5}
    assert shifted(Snapshot(clusters=(Cluster("demo"),)), 3.0).clusters[0].observed_at is None


def test_a_snapshot_is_observed_with_its_own_times() -> None:
    """Each service and each list is as old as it is, and an error is passed on."""
    value = replace(
        holding(service("web", 1), service("api", 2)),
        clusters=(Cluster("demo", NOW - 50, "it fails"), Cluster("new")),
        read_at={("demo", "web"): NOW, ("demo", "api"): NOW - 50},
        fresh_for_s=90.0,
    )
    observation = observed(value)
    demo, new = observation.clusters
    assert (observation.observed_at, observation.labels) == (NOW, ("demo", "new"))
    assert {s.name: s.observed_at for s in demo.services} == {"web": NOW, "api": NOW - 50}
    assert (demo.complete, demo.observed_at, str(demo.error)) == (True, NOW - 50, "it fails")
    assert (new.complete, str(new.error)) == (False, "it was not read yet")
    assert observation.fresh_for_s == 90.0


@pytest.mark.parametrize(
    ("value", "known", "older"),
    [
        (Told(holding(sequence=1), "p"), Told(holding(sequence=2), "p"), True),
        (Told(holding(sequence=2), "p"), Told(holding(sequence=2), "p"), False),
        (Told(holding(sequence=2, at=1.0), "p"), Told(holding(sequence=1, at=5.0), "p"), False),
        (Told(holding(sequence=9, at=1.0), "q"), Told(holding(sequence=1, at=5.0), "p"), True),
        (Told(holding(sequence=9, at=4.2), "q"), Told(holding(sequence=1, at=5.0), "p"), False),
        (Told(holding(sequence=1, at=5.0), "q"), Told(holding(sequence=9, at=1.0), "p"), False),
        (Told(holding(sequence=1, at=5.0), "q"), Told(holding(sequence=9, at=99.0), "p"), False),
        (Told(holding(at=1.0), "q"), None, False),
    ],
)
def test_order_is_by_sequence_within_an_epoch_else_by_time(
    value: Told, known: Told | None, older: bool
) -> None:
    """Epochs of two publishers are when each began, which says nothing of what they know.

    Nor does what is known from the future (99), as by a clock that was set back to 6 since.
    """
    assert is_older(value, known, since=0.0, now=6.0) is older


@pytest.mark.parametrize("known", [None, Told(holding(sequence=1, at=1.0), "p")])
def test_what_others_have_shown_is_not_gone_back_on(known: Told | None) -> None:
    """Not for the same publisher, either, whose sequence says nothing of others."""
    value = Told(holding(sequence=2, at=3.0), "p")
    assert is_older(value, known, since=5.0, now=6.0)
    assert not is_older(value, known, since=3.5, now=6.0)

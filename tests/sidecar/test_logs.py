"""The log as JSON, and metrics for CloudWatch, line by line."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
from prometheus_client import generate_latest

from discovery.client.resolver import Resolver
from discovery.errors import SourceThrottled, SourceUnreachable
from discovery.events import CallMade, Noticed, Refreshed, RefreshFailed, Throttled
from discovery.sidecar.emf import TOLD, Emf, line
from discovery.sidecar.levels import PREFIX, Levels
from discovery.sidecar.logs import Bounded, Json, Narrator
from discovery.sidecar.metrics import Metrics
from discovery.sources.base import FixedSource
from tests.made import FakeClock
from tests.sidecar.fleet import EMPTY, NOW, WEB, observed


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What the sidecar's log writes as JSON."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(Json())
    handler.addFilter(Bounded(clock=FakeClock()))
    logger = logging.getLogger("discovery.sidecar")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield out
    logger.setLevel(level)
    logger.removeHandler(handler)


def lines(out: io.StringIO) -> list[dict[str, object]]:
    """Each line is an object."""
    return [json.loads(text) for text in out.getvalue().splitlines()]


def test_each_event_is_one_object(written: io.StringIO) -> None:
    """The sentence, and the facts that it is made of."""
    narrator = Narrator(FakeClock())
    narrator(RefreshFailed("prod", SourceUnreachable("nobody\nanswers")))
    narrator(Refreshed("stage", 3, 4, 5, 0.25))
    narrator(Noticed("ssm is not allowed"))
    failed, read, noticed = lines(written)
    assert failed["level"] == "WARNING"
    assert failed["message"] == "cluster prod cannot be read: nobody\nanswers"
    assert (failed["event"], failed["cluster"], failed["code"]) == (
        *("refresh_failed", "prod", "source_unreachable"),
    )
    assert (read["event"], read["services"], read["seconds"]) == ("refreshed", 3, 0.25)
    assert noticed["message"] == "ssm is not allowed"
    assert str(noticed["time"]).endswith("+00:00")


def test_a_traceback_is_part_of_its_object(written: io.StringIO) -> None:
    """One line an event, whatever happens."""
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("discovery.sidecar").exception("a mistake of ours")
    (entry,) = lines(written)
    assert "ValueError: broken" in str(entry["traceback"])


def test_lines_are_bounded_as_text_is(written: io.StringIO) -> None:
    """Whatever happens, there are so many a minute."""
    for n in range(1_000):
        logging.getLogger("discovery.sidecar").info("line %d", n)
    assert len(lines(written)) == 60


class Told:
    """The lines of an `Emf` over a resolver that is ready."""

    def __init__(self) -> None:
        self.source = FixedSource(observed(WEB, EMPTY))
        self.resolver = Resolver(source=self.source, whole=True, clock=lambda: NOW)
        levels = Levels(self.resolver, dict, tuple, int, int, tuple, lambda: NOW)
        self.metrics = Metrics(levels)
        self.said: list[str] = []
        self.labels = ["prod"]
        self.emf = Emf(self.metrics.registry, lambda: self.labels, self.said.append, lambda: NOW)

    def next(self) -> dict[str, object]:
        """The next line's members."""
        self.emf.tell()
        members: dict[str, object] = json.loads(self.said[-1])
        return members


@pytest.fixture
def told() -> Iterator[Told]:
    """One that is ready."""
    told = Told()
    with told.resolver as resolver:
        assert resolver.wait_ready(30)
        yield told


def test_cloudwatch_reads_what_is_known(told: Told) -> None:
    """Levels as they are, with the cluster as their dimension."""
    members = told.next()
    assert members["Cluster"] == "prod"
    assert (members["Ready"], members["Services"], members["Endpoints"]) == (1, 2, 2)
    assert (members["Excluded"], members["SnapshotAge"]) == (1, 3)


def test_the_dimension_is_never_empty(told: Told) -> None:
    """CloudWatch would take no metric of that line."""
    told.labels = []
    assert told.next()["Cluster"] == "none"
    told.labels = ["prod", "stage"]
    assert told.next()["Cluster"] == "prod,stage"


def test_counters_are_what_came_since(told: Told) -> None:
    """CloudWatch adds them up itself."""
    told.metrics(CallMade("ListTasks", "tasks", 0.1))
    told.metrics(CallMade("ListTasks", "tasks", 0.1, "slowly", SourceThrottled.code))
    told.metrics(Throttled("cluster resources", "ListTasks", 0.5))
    members = told.next()
    assert (members["AwsCalls"], members["AwsErrors"], members["AwsThrottles"]) == (2, 1, 1)
    told.metrics(CallMade("ListTasks", "tasks", 0.1))
    members = told.next()
    assert (members["AwsCalls"], members["AwsErrors"], members["AwsThrottles"]) == (1, 0, 0)


def test_a_line_is_as_the_specification_wants() -> None:
    """Every metric and dimension that is named is a member, and there are not too many."""
    members = json.loads(line("prod", {told.name: 1.0 for told in TOLD}, NOW))
    about = members["_aws"]
    assert about["Timestamp"] == NOW * 1_000
    (directive,) = about["CloudWatchMetrics"]
    assert set(directive) == {"Namespace", "Dimensions", "Metrics"}
    assert len(directive["Metrics"]) <= 100
    for metric in directive["Metrics"]:
        assert isinstance(members[metric["Name"]], float)
        assert metric["Unit"] in ("Count", "Seconds", "None")
    for names in directive["Dimensions"]:
        assert all(isinstance(members[name], str) and members[name] for name in names)


def test_every_sample_that_is_summed_exists(told: Told) -> None:
    """A name that was mistyped would be 0 for ever."""
    text = generate_latest(told.metrics.registry).decode()
    for each in TOLD:
        assert f"# TYPE {PREFIX}_{each.sample} " in text, each

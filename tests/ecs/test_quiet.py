"""Reads at the pace of sweeps beside events: each brings health, and one of two lists nothing."""

from math import ceil

import pytest

from discovery.ecs.memory import Memory
from discovery.ecs.plan import HURRIED_S
from discovery.errors import SourceUnreachable
from discovery.model import ClusterReading
from tests.ecs.documents import Document, task_arn
from tests.ecs.fixed import CHECKED, FixedAws, fail_on, sizes, small_cluster

NOW = 2_000_000_000.0
PACE_S = 27.0


class Quiet:
    """A cluster of which everything is known, and nothing is read for but health."""

    def __init__(self, aws: FixedAws) -> None:
        self.aws = aws
        self.memory = Memory()
        self.now = NOW
        aws.read(self.memory, NOW)
        self.sweep()

    def sweep(self, after_s: float = PACE_S) -> ClusterReading:
        """One more read."""
        self.now += after_s
        return self.aws.read(self.memory, self.now, is_quiet=True)

    @property
    def listed(self) -> bool:
        """Whether the last read did list."""
        return self.aws.operations["ListTasks"] > 0


@pytest.fixture
def quiet() -> Quiet:
    """The next read will be one without a list."""
    found = Quiet(small_cluster(orders=2, users=1))
    if not found.listed:
        found.sweep()
    return found


@pytest.mark.parametrize("tasks", [10, 100, 570, 1_000])
@pytest.mark.parametrize(("container_has", "most"), [({}, 1.0), (CHECKED, 1.5)])
def test_calls_of_sweeps(tasks: int, container_has: Document, most: float) -> None:
    """⌈T/100⌉ each, and half as many more for health where every container is checked."""
    aws = FixedAws()
    hosts = aws.add_hosts(tasks)
    for number in range(tasks // 10):
        aws.add_service(f"service-{number}", 10, hosts, **container_has)
    found, made = Quiet(aws), 0
    for _ in range(10):
        found.sweep()
        made += aws.operations["ListTasks"] + aws.operations["DescribeTasks"]
    assert made == 10 * most * ceil(tasks / 100)


def test_every_sweep_brings_health() -> None:
    """Of each task that is checked, whether the tasks are listed or not."""
    aws = FixedAws()
    aws.add_service("orders", 110, aws.add_hosts(110), **CHECKED)
    found = Quiet(aws)
    for health in ("HEALTHY", "UNHEALTHY", "HEALTHY"):
        for document in aws.tasks.values():
            document["containers"][0]["healthStatus"] = health
        (service,) = found.sweep().services
        assert [each.health for each in service.endpoints] == [health.lower()] * 110


def test_a_stop_that_no_event_told_is_found_without_a_list(quiet: Quiet) -> None:
    """Each task is described."""
    quiet.aws.tasks[task_arn(1)]["desiredStatus"] = "STOPPED"
    quiet.aws.tasks[task_arn(3)] |= {"desiredStatus": "STOPPED", "lastStatus": "STOPPED"}
    assert sizes(quiet.sweep()) == {"orders": 1, "users": 0}
    assert not quiet.listed


def test_what_has_stopped_is_described_no_more(quiet: Quiet) -> None:
    """Its end is known."""
    quiet.aws.tasks[task_arn(3)] |= {"desiredStatus": "STOPPED", "lastStatus": "STOPPED"}
    quiet.sweep()
    quiet.sweep()
    assert quiet.aws.operations == {"ListTasks": 1}


def test_a_start_that_no_event_told_is_found_by_the_next_list(quiet: Quiet) -> None:
    """Which comes with the next sweep but one."""
    quiet.aws.add_service("new", 1, list(quiet.aws.instances))
    quiet.sweep()
    assert sizes(quiet.sweep())["new"] == 1


def test_who_reads_sooner_gets_a_list(quiet: Quiet) -> None:
    """Somebody wishes to know what there is."""
    quiet.aws.add_service("new", 1, list(quiet.aws.instances))
    assert sizes(quiet.sweep(HURRIED_S - 1))["new"] == 1


def test_a_task_that_ecs_does_not_know_waits_for_a_list_to_agree(quiet: Quiet) -> None:
    """Stopped ones are known for an hour."""
    del quiet.aws.tasks[task_arn(1)]
    assert sizes(quiet.sweep()) == {"users": 1}
    assert sizes(quiet.sweep()) == {"orders": 1, "users": 1}
    assert quiet.listed


def test_a_cluster_that_knows_nothing_empties_nobody(quiet: Quiet) -> None:
    """A wrong one would say the same."""
    quiet.aws.tasks.clear()
    assert sizes(quiet.sweep()) == {}


def test_what_could_not_be_described_is_listed_again(quiet: Quiet) -> None:
    """And what was known of it stays."""
    quiet.sweep()
    quiet.aws.fail = fail_on(SourceUnreachable("no answer"), "DescribeTasks")
    quiet.aws.add_service("new", 1, list(quiet.aws.instances))
    quiet.sweep()
    assert quiet.listed
    quiet.aws.fail = lambda call: None
    assert sizes(quiet.sweep()) == {"orders": 2, "users": 1, "new": 1}
    assert quiet.listed


def test_a_cluster_without_a_task_is_listed_each_time(quiet: Quiet) -> None:
    """A read that asks nothing would say that all is well in an outage."""
    for document in quiet.aws.tasks.values():
        document |= {"desiredStatus": "STOPPED", "lastStatus": "STOPPED"}
    for _ in range(3):
        quiet.sweep()
        assert quiet.aws.calls


def test_a_read_of_some_names_is_no_list_of_all(quiet: Quiet) -> None:
    """Of the others nothing is known since."""
    quiet.aws.read(quiet.memory, quiet.now, {"orders"})
    quiet.sweep()
    assert quiet.listed

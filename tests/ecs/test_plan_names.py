"""Names that are asked for one by one: what groups, unknown and new names cost, and are told."""

from cProfile import Profile
from typing import Any

from discovery.ecs.memory import AGAIN_AFTER_S, Memory
from discovery.ecs.plan import NEW_NAMES
from discovery.ecs.tasks import Task
from tests.ecs.documents import task_arn
from tests.ecs.fixed import CLUSTER_RESOURCES, FixedAws, large_cluster, sizes, small_cluster

NOW = 1_000.0


class TestGroups:
    """Tasks started under a name in free text, which no call lists by."""

    @staticmethod
    def cluster() -> FixedAws:
        """One task in the group `nightly`, beside services."""
        aws = small_cluster()
        aws.tasks[task_arn(1)] |= {"group": "nightly", "startedBy": "me"}
        return aws

    def test_a_group_grows_within_a_minute(self) -> None:
        """The cluster is looked through again."""
        aws, memory = self.cluster(), Memory()
        assert sizes(aws.read(memory, NOW, {"nightly"})) == {"nightly": 1}
        aws.add_task(aws.tasks[task_arn(1)] | {"taskArn": task_arn(50)})
        aws.tasks[task_arn(50)]["containerInstanceArn"] = next(iter(aws.instances))
        for n in range(1, 7):
            found = aws.read(memory, NOW + 10 * n, {"nightly"})
        assert sizes(found) == {"nightly": 2}

    def test_a_group_is_looked_for_once_a_minute_only(self) -> None:
        """Between, its family is listed and its known tasks are described."""
        aws, memory = self.cluster(), Memory()
        aws.read(memory, NOW, {"nightly"})
        for n in range(1, 6):
            aws.read(memory, NOW + 10 * n, {"nightly"})
            listings = [c for c in aws.calls if c.operation == "ListTasks"]
            assert all("family" in c.parameters for c in listings)
        assert aws.operations["DescribeTasks"] == 1


class TestUnknownNames:
    """Anyone may ask for any name; the scarce calls are for those that exist."""

    def test_a_name_that_is_asked_for_all_the_time_costs_little(self) -> None:
        """It stays absent for longer each time."""
        aws, memory = small_cluster(), Memory()
        calls = 0
        for second in range(120):
            found = aws.read(memory, NOW + second, {"nope"})
            assert found.absent == {"nope"}
            calls += aws.groups[CLUSTER_RESOURCES] if second >= 62 else 0
        assert calls <= 3

    def test_a_name_that_exists_by_now_is_found_within_a_minute(self) -> None:
        """However often it was asked for in vain."""
        aws, memory = small_cluster(), Memory()
        for second in range(120):
            aws.read(memory, NOW + second, {"late"})
        aws.add_service("late", 1, list(aws.instances))
        after = NOW + 119 + AGAIN_AFTER_S
        assert sizes(aws.read(memory, after, {"late"})) == {"late": 1}

    def test_a_name_that_was_found_is_soon_found_again(self) -> None:
        """It begins anew with a short rest."""
        aws, memory = small_cluster(), Memory()
        for second in range(120):
            aws.read(memory, NOW + second, {"late"})
        aws.add_service("late", 1, list(aws.instances))
        aws.read(memory, NOW + 200, {"late"})
        service, document = aws.services.pop("late"), aws.tasks.pop(task_arn(4))
        assert aws.read(memory, NOW + 260, {"late"}).unread == {"late"}
        assert aws.read(memory, NOW + 270, {"late"}).absent == {"late"}
        aws.services["late"], aws.tasks[task_arn(4)] = service, document
        assert sizes(aws.read(memory, NOW + 272, {"late"})) == {"late": 1}

    def test_a_listed_service_is_found_at_once(self) -> None:
        """The list of services, read for another name, ends its rest."""
        aws, memory = small_cluster(), Memory()
        for second in range(60):
            aws.read(memory, NOW + second, {"late"})
        aws.add_service("late", 1, list(aws.instances))
        aws.read(memory, NOW + 61, {"other"})
        assert "late" in memory.service_names
        assert sizes(aws.read(memory, NOW + 62, {"late"})) == {"late": 1}

    def test_what_is_absent_is_forgotten_when_nobody_asks(self) -> None:
        """The memory of wrong names is bounded by time."""
        aws, memory = small_cluster(), Memory()
        aws.read(memory, NOW, {"nope"})
        aws.read(memory, NOW + 700, {"orders"})
        assert memory.absences == {}

    def test_many_new_names_take_turns(self) -> None:
        """One load asks for so many; the others are neither known nor absent until their turn."""
        aws, memory = small_cluster(), Memory()
        wanted = {"orders", *(f"name-{n:04}" for n in range(2 * NEW_NAMES))}
        found = aws.read(memory, NOW, wanted)
        assert sizes(found) == {"orders": 2}
        assert len(found.absent) == len(found.unread) == NEW_NAMES
        assert aws.operations["DescribeServices"] <= NEW_NAMES // 10 + 1
        turns = found.absent
        found = aws.read(memory, NOW + 1, wanted)
        assert found.absent == wanted - {"orders"}
        assert turns < found.absent

    def test_who_waits_longer_is_asked_for_first(self) -> None:
        """Names that come later do not push it back."""
        aws, memory = small_cluster(), Memory()
        early = {f"b{n}" for n in range(NEW_NAMES + 1)}
        (last,) = aws.read(memory, NOW, early).unread
        late = {f"a{n}" for n in range(NEW_NAMES)}
        assert last in aws.read(memory, NOW + 1, early | late).absent

    def test_names_of_listed_services_wait_for_no_turn(self) -> None:
        """One list tells that they exist."""
        aws = FixedAws()
        hosts = aws.add_hosts(2)
        for n in range(2 * NEW_NAMES):
            aws.add_service(f"service-{n:03}", 1, hosts)
        found = aws.read(Memory(), NOW, set(aws.services))
        assert len(found.services) == 2 * NEW_NAMES


def test_the_work_grows_with_tasks_and_names_and_not_with_their_product() -> None:
    """Tasks are gone through for their names a few times a read, however many are asked for."""
    aws, memory = large_cluster(), Memory()
    wanted = set(aws.services)
    aws.services.clear()
    for document in aws.tasks.values():
        document["group"] = document["group"].replace("service:", "family:")
    aws.read(memory, NOW, wanted)
    profile = Profile()
    found = profile.runcall(aws.read, memory, NOW + 10, wanted)
    assert len(found.services) == len(wanted) == 100
    by_code = {entry.code: entry.callcount for entry in profile.getstats()}
    getter: Any = vars(Task)["names"].fget
    assert len(aws.tasks) <= by_code[getter.__code__] <= 20 * len(aws.tasks)

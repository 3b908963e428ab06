"""Which calls a read takes, counted; and what a reading says when calls fail."""

from collections.abc import Iterable

import pytest

from discovery.ecs.calls import (
    CLUSTER_RESOURCES,
    CLUSTERS,
    DEFINITIONS,
    EC2,
    SERVICES,
    SSM,
    Call,
    Postponed,
)
from discovery.ecs.census import AT_ONCE, Census
from discovery.ecs.memory import Memory, Scope
from discovery.ecs.plan import follow_up
from discovery.errors import (
    AccessDenied,
    ClusterNotFound,
    SourceError,
    SourceThrottled,
    SourceUnreachable,
)
from discovery.model import ClusterReading
from tests.ecs.documents import (
    ACCOUNT,
    awsvpc_task,
    binding,
    container,
    container_definition,
    definition,
    port,
    task,
    task_arn,
)
from tests.ecs.fixed import (
    CHECKED,
    SCOPE,
    FixedAws,
    by_name,
    fail_on,
    large_cluster,
    sizes,
    small_cluster,
)

DOWN = SourceUnreachable("no answer")
NOW = 1_000.0


class TestCallsOfALargeCluster:
    """1,000 tasks, 50 instances, 100 services, 100 bridge definitions."""

    def test_a_cold_read_takes_21_calls_of_the_scarce_group_and_one_of_ec2(self) -> None:
        """10 pages, 10 chunks, one for the instances."""
        aws = large_cluster()
        found = aws.read(Memory(), NOW)
        assert sum(sizes(found).values()) == 1_000
        assert aws.groups[CLUSTER_RESOURCES] == 21
        assert aws.groups[EC2] == 1
        assert aws.groups[SERVICES] == 11

    def test_answers_are_taken_in_before_there_are_too_many_of_them(self) -> None:
        """All those of 10,000 tasks would be 25 MB of text."""
        arns = [task_arn(number) for number in range(100 * AT_ONCE + 1)]
        steps = Census(SCOPE, Memory(), NOW).describe_these(arns)
        assert len(next(steps)) == AT_ONCE
        assert [len(call.parameters["tasks"]) for call in steps.send([DOWN] * AT_ONCE)] == [1]

    def test_a_cold_read_of_bridge_tasks_waits_for_no_definition(self) -> None:
        """They only name ports; they are said to be pending."""
        aws, memory = large_cluster(), Memory()
        found = aws.read(memory, NOW)
        assert aws.groups[DEFINITIONS] == 0
        assert memory.pending
        assert all(s.definitions_pending for s in found.services)

    def test_a_follow_up_reads_definitions_and_nothing_else(self) -> None:
        """The tasks of the last read are mapped again, now with names."""
        aws, memory = large_cluster(), Memory()
        aws.read(memory, NOW)
        found = aws.drive(follow_up(SCOPE, memory, NOW + 1))
        assert set(aws.groups) == {DEFINITIONS}
        assert aws.groups[DEFINITIONS] == 100
        assert not memory.pending
        assert found.complete
        assert {e.port_name for s in found.services for e in s.endpoints} == {"http"}
        assert {s.observed_at for s in found.services} == {NOW}

    def test_a_steady_read_takes_10_pages_and_the_health_of_a_third(self) -> None:
        """What cannot change is not asked for again."""
        aws, memory = large_cluster(**CHECKED), Memory()
        aws.read(memory, NOW)
        aws.drive(follow_up(SCOPE, memory, NOW + 1))
        for n, described in enumerate([4, 3, 3, 4, 3], 1):
            aws.read(memory, NOW + 10 * n)
            assert aws.operations == {"ListTasks": 10, "DescribeTasks": described}

    def test_once_a_minute_instances_and_services_are_read_again(self) -> None:
        """One call more of the scarce group, and a round of services."""
        aws, memory = large_cluster(**CHECKED), Memory()
        aws.read(memory, NOW)
        aws.drive(follow_up(SCOPE, memory, NOW + 1))
        found = aws.read(memory, NOW + 60)
        assert aws.groups == {CLUSTER_RESOURCES: 21, SERVICES: 11}
        assert sum(sizes(found).values()) == 1_000

    def test_some_names_are_listed_one_by_one_and_described_in_one_pool(self) -> None:
        """Σ⌈Tₖ/100⌉ ListTasks and ⌈ΣTₖ/100⌉ DescribeTasks."""
        aws, memory = large_cluster(**CHECKED), Memory()
        wanted = {"service-001", "service-002", "service-003"}
        found = aws.read(memory, NOW, wanted)
        assert set(sizes(found)) == wanted
        assert aws.operations["ListTasks"] == 3
        assert aws.operations["DescribeTasks"] == 1
        assert aws.operations["DescribeServices"] == 1
        aws.read(memory, NOW + 10, wanted)
        assert aws.operations == {"ListTasks": 3, "DescribeTasks": 1}

    def test_many_names_are_read_with_the_whole_cluster(self) -> None:
        """100 lists and 10 descriptions are more than 10 of each."""
        aws, memory = large_cluster(), Memory()
        found = aws.read(memory, NOW, set(aws.services))
        assert len(found.services) == 100
        assert aws.groups[CLUSTERS] == 1
        assert aws.operations["ListTasks"] == aws.operations["DescribeTasks"] == 10

    def test_only_what_is_wanted_is_said(self) -> None:
        """Also where the whole cluster was read."""
        aws, memory = large_cluster(), Memory()
        wanted = set(list(aws.services)[:30])
        found = aws.read(memory, NOW, wanted)
        assert aws.operations["ListTasks"] == 10
        assert set(sizes(found)) == wanted
        assert not found.complete


class TestWhole:
    """Reading everything."""

    def test_services_without_tasks_are_known(self) -> None:
        """ListServices names them."""
        aws = small_cluster(orders=1, idle=0)
        found = aws.read(Memory(), NOW)
        assert sizes(found) == {"orders": 1, "idle": 0}
        assert found.complete

    def test_awsvpc_tasks_wait_for_their_definition(self) -> None:
        """Their ports are in it."""
        aws = small_cluster("host", orders=2)
        found = aws.read(Memory(), NOW)
        assert sizes(found) == {"orders": 2}
        assert aws.operations["DescribeTaskDefinition"] == 1

    def test_a_definition_is_read_once_for_ever(self) -> None:
        """By its ARN, whatever tasks use it."""
        aws, memory = small_cluster("host", orders=2), Memory()
        for n in range(3):
            aws.read(memory, NOW + 100 * n)
            assert aws.operations["DescribeTaskDefinition"] == (1 if n == 0 else 0)

    def test_a_definition_beyond_our_share_leaves_its_service_unread(self) -> None:
        """It is not published with holes, and the rest is not held up."""
        aws, memory = small_cluster("host", orders=1, users=1), Memory()

        def fail(call: Call) -> SourceError | None:
            late = call.parameters.get("taskDefinition", "").endswith("/users:1")
            return Postponed("later") if late else None

        aws.fail = fail
        found = aws.read(memory, NOW)
        assert sizes(found) == {"orders": 1}
        assert found.unread == {"users"}
        assert found.error is None
        assert memory.pending
        aws.fail = lambda call: None
        again = aws.drive(follow_up(SCOPE, memory, NOW + 1))
        assert sizes(again) == {"orders": 1, "users": 1}

    def test_a_task_of_a_new_service_has_it_described_at_once(self) -> None:
        """Not only with the next minute's round."""
        aws, memory = small_cluster(), Memory()
        aws.read(memory, NOW)
        aws.add_service("new", 1, list(aws.instances))
        found = aws.read(memory, NOW + 10)
        assert sizes(found)["new"] == 1
        assert aws.operations["DescribeServices"] == 1
        assert aws.operations["ListServices"] == 0

    def test_a_new_deployment_has_its_service_described_once(self) -> None:
        """Also where the service no longer knows the deployment."""
        aws, memory = small_cluster(orders=1), Memory()
        aws.read(memory, NOW)
        aws.tasks[task_arn(1)]["startedBy"] = "ecs-svc/unheard-of"
        aws.read(memory, NOW + 10)
        assert aws.operations["DescribeServices"] == 1
        aws.read(memory, NOW + 20)
        assert aws.operations["DescribeServices"] == 0

    def test_a_rolling_service_is_read_again_soon(self) -> None:
        """Until its deployment has ended."""
        aws, memory = small_cluster(orders=1, users=1), Memory()
        deployments = aws.services["orders"]["deployments"]
        deployments[0]["rolloutState"] = "IN_PROGRESS"
        aws.read(memory, NOW)
        assert memory.services["orders"].is_rolling
        deployments[0]["rolloutState"] = "COMPLETED"
        aws.read(memory, NOW + 10)
        (call,) = [c for c in aws.calls if c.operation == "DescribeServices"]
        assert call.parameters["services"] == ["orders"]
        assert not memory.services["orders"].is_rolling

    def test_shares_of_the_traffic_are_read_while_they_shift(self) -> None:
        """With each read, for they change by the minute."""
        aws, memory = small_cluster(orders=2), Memory()
        arn = f"{ACCOUNT}:service-deployment/prod/orders/d1"
        aws.services["orders"] |= {
            "deploymentConfiguration": {"strategy": "CANARY"},
            "currentServiceDeployment": arn,
            "deployments": [
                {"id": "ecs-svc/2", "status": "PRIMARY"},
                {"id": "ecs-svc/1", "status": "ACTIVE"},
            ],
        }
        aws.tasks[task_arn(1)]["startedBy"] = "ecs-svc/1"
        aws.tasks[task_arn(2)]["startedBy"] = "ecs-svc/2"
        aws.shares = {arn: ("orders", {"1": 75.0, "2": 25.0})}
        for n in range(2):
            found = by_name(aws.read(memory, NOW + n))["orders"]
            assert [e.weight for e in found.endpoints] == [1.5, 0.5]
            assert aws.operations["DescribeServiceDeployments"] == 1

    def test_a_first_read_explains_nothing(self) -> None:
        """What vanished before we looked may need a second read."""
        aws, memory = small_cluster(), Memory()
        assert not aws.read(memory, NOW).explained
        assert aws.read(memory, NOW + 10).explained

    def test_a_deleted_service_is_gone(self) -> None:
        """With the next round of services."""
        aws, memory = small_cluster(orders=1, idle=0), Memory()
        aws.read(memory, NOW)
        del aws.services["idle"]
        assert sizes(aws.read(memory, NOW + 60)) == {"orders": 1}

    def test_external_instances_are_found_in_systems_manager(self) -> None:
        """And asked for again with the instances, since their addresses change."""
        aws, memory = small_cluster(orders=2), Memory()
        arn = next(iter(aws.instances))
        aws.instances[arn]["ec2InstanceId"] = "mi-1"
        aws.managed["mi-1"] = "192.168.7.7"
        found = aws.read(memory, NOW)
        assert "192.168.7.7" in {e.host for e in by_name(found)["orders"].endpoints}
        assert aws.groups[SSM] == aws.groups[EC2] == 1
        aws.managed["mi-1"] = "192.168.7.8"
        found = aws.read(memory, NOW + 60)
        assert "192.168.7.8" in {e.host for e in by_name(found)["orders"].endpoints}

    def test_public_addresses_are_asked_for_where_wanted(self) -> None:
        """Once per interface."""
        aws, memory = FixedAws(), Memory()
        aws.add_task(awsvpc_task(container("app"), group="family:orders", startedBy="me"))
        arn = aws.tasks[task_arn(1)]["taskDefinitionArn"]
        aws.definitions[arn] = definition(container_definition("app", port(8080)))
        aws.public["eni-1"] = "203.0.113.9"
        scope = Scope("prod", "prod", public=True)
        found = aws.read(memory, NOW, scope=scope)
        assert [e.host for e in by_name(found)["orders"].endpoints] == ["203.0.113.9"]
        aws.read(memory, NOW + 10, scope=scope)
        assert aws.groups[EC2] == 0

    def test_tokens_that_repeat_end_the_listing(self) -> None:
        """A server that turns in circles is an error, not an endless loop."""
        aws = small_cluster()
        arns = list(aws.tasks)
        aws.fail = lambda call: (
            {"taskArns": arns, "nextToken": "same"} if call.operation == "ListTasks" else None
        )
        found = aws.read(Memory(), NOW)
        assert isinstance(found.error, SourceError)
        assert found.services == ()


class TestVanishedTasks:
    """What is gone is gone by proof."""

    def test_a_stopped_task_is_gone_and_its_end_is_said(self) -> None:
        """It is described once more, in the same pool."""
        aws, memory = small_cluster(orders=2), Memory()
        aws.read(memory, NOW)
        aws.tasks[task_arn(1)] |= {
            "lastStatus": "STOPPED",
            "desiredStatus": "STOPPED",
            "stoppedReason": "Scaling activity",
        }
        found = by_name(aws.read(memory, NOW + 10))["orders"]
        assert aws.operations["DescribeTasks"] == 1
        assert [e.task_arn for e in found.endpoints] == [task_arn(2)]
        assert [e.reason for e in found.exclusions] == ["it is STOPPED: Scaling activity"]
        aws.read(memory, NOW + 20)
        assert aws.operations == {"ListTasks": 1}

    def test_a_draining_task_stays_in_sight(self) -> None:
        """ListTasks hides it from the moment it is to stop."""
        aws, memory = small_cluster(orders=2), Memory()
        aws.read(memory, NOW)
        aws.tasks[task_arn(1)]["desiredStatus"] = "STOPPED"
        found = by_name(aws.read(memory, NOW + 10))["orders"]
        assert [e.task_arn for e in found.endpoints] == [task_arn(2)]
        assert "it is being stopped" in found.exclusions[0].reason

    def test_the_last_ones_draining_are_a_last_resort(self) -> None:
        """Better than nothing while nothing else runs."""
        aws, memory = small_cluster(orders=1), Memory()
        aws.read(memory, NOW)
        aws.tasks[task_arn(1)]["desiredStatus"] = "STOPPED"
        found = by_name(aws.read(memory, NOW + 10))["orders"]
        assert found.last_resort
        assert [e.health for e in found.endpoints] == ["draining"]

    def test_a_task_missing_from_the_list_that_runs_stays(self) -> None:
        """A stale list is no proof."""
        aws, memory = small_cluster(orders=2), Memory()
        aws.read(memory, NOW)
        aws.unlisted.add(task_arn(1))
        assert sizes(aws.read(memory, NOW + 10)) == {"orders": 2}

    def test_a_task_that_ecs_no_longer_knows_is_gone(self) -> None:
        """Beside others that it does know."""
        aws, memory = small_cluster(orders=2), Memory()
        aws.read(memory, NOW)
        del aws.tasks[task_arn(1)]
        assert sizes(aws.read(memory, NOW + 10)) == {"orders": 1}

    def test_an_answer_that_knows_no_task_waits_for_a_second_read(self) -> None:
        """A wrong cluster answers just so."""
        aws, memory = small_cluster(orders=2), Memory()
        aws.read(memory, NOW)
        aws.tasks.clear()
        first = aws.read(memory, NOW + 10)
        assert first.services == ()
        assert first.unread == {"orders"}
        assert "second read" in str(first.error)
        second = aws.read(memory, NOW + 20)
        assert sizes(second) == {"orders": 0}
        assert second.error is None

    def test_a_task_that_an_answer_says_nothing_of_waits_for_a_second_read(self) -> None:
        """Neither described nor MISSING is no proof."""
        aws, memory = small_cluster(orders=2, users=1), Memory()
        aws.read(memory, NOW)
        kept = [aws.tasks[task_arn(n)] for n in (2, 3)]
        aws.fail = lambda call: {"tasks": kept} if call.operation == "DescribeTasks" else None
        first = aws.read(memory, NOW + 10)
        assert first.unread == {"orders"}
        assert sizes(first) == {"users": 1}
        assert sizes(aws.read(memory, NOW + 20)) == {"orders": 1, "users": 1}

    def test_few_stopped_tasks_of_a_name_are_kept_for_a_while(self) -> None:
        """The memory of a service that crashes in a loop is bounded."""
        aws, memory = small_cluster(orders=9), Memory()
        aws.read(memory, NOW)
        for document in aws.tasks.values():
            document |= {"lastStatus": "STOPPED", "desiredStatus": "STOPPED"}
        assert len(by_name(aws.read(memory, NOW + 10))["orders"].exclusions) == 3
        hosts = list(aws.instances)
        aws.add_service("users", 1, hosts)
        aws.read(memory, NOW + 700)
        del aws.tasks[task_arn(10)]
        aws.read(memory, NOW + 710)
        aws.read(memory, NOW + 720)
        assert memory.stopped == {}


class TestFailures:
    """All or nothing per service; an error is never an empty set."""

    def test_a_failed_list_says_nothing_but_the_error(self) -> None:
        """Nothing is complete, nothing is absent."""
        aws, memory = small_cluster(), Memory()
        aws.read(memory, NOW)
        aws.fail = fail_on(DOWN, "ListTasks")
        assert aws.read(memory, NOW + 10) == ClusterReading("prod", error=DOWN)

    def test_a_failed_second_page_is_a_failed_list(self) -> None:
        """A part is never published as the truth."""
        aws, memory = large_cluster(), Memory()
        aws.fail = fail_on(DOWN, "ListTasks", after=1)
        found = aws.read(memory, NOW)
        assert (found.services, found.complete, found.error) == ((), False, DOWN)
        assert aws.operations["DescribeTasks"] == 0

    def test_a_failed_chunk_leaves_its_services_unread(self) -> None:
        """The others are published."""
        aws, memory = large_cluster(), Memory()
        aws.read(memory, NOW)
        aws.fail = fail_on(DOWN, "DescribeTasks", after=9)
        found = aws.read(memory, NOW + 30)
        assert len(found.services) == 90
        assert found.unread == {f"service-{n:03}" for n in range(90, 100)}
        assert found.complete
        assert found.error is DOWN

    def test_a_cold_failed_chunk_leaves_unread_what_is_not_known_to_be_whole(self) -> None:
        """The services' own counts prove which of them have all their tasks described."""
        aws, memory = large_cluster(), Memory()
        aws.fail = fail_on(DOWN, "DescribeTasks", after=9)
        found = aws.read(memory, NOW)
        assert set(sizes(found).values()) == {10}
        assert found.unread == {f"service-{n:03}" for n in range(90, 100)}
        assert not found.complete

    @pytest.mark.parametrize(
        "operation",
        [
            *("ListTasks", "DescribeTasks", "ListServices", "DescribeServices"),
            *("DescribeContainerInstances", "DescribeTaskDefinition"),
        ],
    )
    def test_an_answer_that_was_cut_off_ends_nothing(self, operation: str) -> None:
        """Nothing that was known is said to be gone or empty."""
        aws, memory = small_cluster("host", orders=1, idle=0), Memory()
        aws.read(memory, NOW)
        aws.add_service("new", 1, list(aws.instances), "host")
        aws.fail = lambda call: {} if call.operation == operation else None
        found = aws.read(memory, NOW + 60)
        assert found.error is not None or operation == "DescribeContainerInstances"
        assert "orders" not in sizes(found) or sizes(found)["orders"] == 1
        kept = {*sizes(found), *found.unread}
        assert {"orders", "idle"} <= kept or not found.complete
        assert sizes(found).get("new", 1) == 1

    def test_what_failed_is_read_by_the_next_read(self) -> None:
        """Nothing needs to be repaired."""
        aws, memory = large_cluster(), Memory()
        aws.fail = fail_on(DOWN, "DescribeTasks", after=9)
        aws.read(memory, NOW)
        aws.fail = lambda call: None
        found = aws.read(memory, NOW + 10)
        assert (len(found.services), found.unread, found.error) == (100, frozenset(), None)

    @pytest.mark.parametrize(
        "operation", ["DescribeContainerInstances", "DescribeInstances", "DescribeServices"]
    )
    def test_what_fails_in_passing_leaves_unread_what_depends_on_it(self, operation: str) -> None:
        """Endpoints without address, and deployments without shares, are not published."""
        aws, memory = small_cluster(), Memory()
        aws.fail = fail_on(SourceThrottled("slow down"), operation)
        found = aws.read(memory, NOW)
        assert found.services == ()
        assert found.unread == {"orders", "users"}
        assert isinstance(found.error, SourceThrottled)
        aws.fail = lambda call: None
        assert sizes(aws.read(memory, NOW + 10)) == {"orders": 2, "users": 1}

    @pytest.mark.parametrize(
        ("operation", "action"),
        [
            ("DescribeContainerInstances", "ecs:DescribeContainerInstances"),
            ("DescribeInstances", "ec2:DescribeInstances"),
        ],
    )
    def test_a_missing_permission_leaves_unread_and_is_the_error(
        self, operation: str, action: str
    ) -> None:
        """It never fails the cluster, empties no service, and is noticed once."""
        aws, memory = small_cluster(orders=2, idle=0), Memory()
        denied = AccessDenied(action)
        aws.fail = fail_on(denied, operation)
        for n in range(3):
            found = aws.read(memory, NOW + 100 * n)
            assert found.error is denied
            assert found.unread == {"orders"}
            assert sizes(found) == {"idle": 0}
        assert list(memory.notices) == [str(denied)]

    def test_without_permission_for_definitions_bridge_tasks_serve(self) -> None:
        """Their ports have no names, and nothing is pending for ever."""
        aws, memory = small_cluster(), Memory()
        aws.fail = fail_on(AccessDenied("ecs:DescribeTaskDefinition"), "DescribeTaskDefinition")
        aws.read(memory, NOW)
        found = aws.read(memory, NOW + 10)
        assert sizes(found) == {"orders": 2, "users": 1}
        assert not memory.pending
        assert not by_name(found)["orders"].definitions_pending

    @pytest.mark.parametrize("operation", ["ListServices", "DescribeServices"])
    def test_without_permission_for_services_tasks_tell(self, operation: str) -> None:
        """Group names are enough for endpoints; what was refused is not asked each time."""
        aws, memory = small_cluster(), Memory()
        aws.fail = fail_on(AccessDenied(f"ecs:{operation}"), operation)
        found = aws.read(memory, NOW)
        assert sizes(found) == {"orders": 2, "users": 1}
        assert found.error is None
        aws.read(memory, NOW + 10)
        assert aws.operations[operation] == 0

    def test_a_service_round_that_fails_keeps_what_is_known(self) -> None:
        """Ports and deployments are a minute old then; the error is said."""
        aws, memory = small_cluster(orders=1, idle=0), Memory()
        aws.read(memory, NOW)
        aws.fail = fail_on(DOWN, "DescribeServices")
        found = aws.read(memory, NOW + 60)
        assert sizes(found) == {"orders": 1, "idle": 0}
        assert found.error is DOWN

    def test_names_that_cannot_be_listed_do_not_end_services(self) -> None:
        """Without the list of services the reading is not complete."""
        aws, memory = small_cluster(orders=1, idle=0), Memory()
        aws.fail = fail_on(DOWN, "ListServices")
        found = aws.read(memory, NOW)
        assert sizes(found) == {"orders": 1}
        assert not found.complete

    def test_a_minute_round_beyond_our_share_is_not_waited_for(self) -> None:
        """Rereading what is known never holds up a read."""
        aws, memory = small_cluster(), Memory()
        aws.read(memory, NOW)
        aws.read(memory, NOW + 10)
        aws.read(memory, NOW + 70)
        again = [
            c for c in aws.calls if c.operation.startswith("Describe") and "task" not in c.reason
        ]
        patience = {c.patience_s for c in again if c.operation != "DescribeTasks"}
        assert patience == {0.0}

    def test_one_odd_machine_does_not_fail_the_cluster(self) -> None:
        """A managed machine, one that is gone, and an instance without any."""
        aws = small_cluster(orders=6)
        hosts = [*aws.instances, *(f"{ACCOUNT}:container-instance/prod/{n}" for n in "ab")]
        aws.instances[hosts[2]] = {"containerInstanceArn": hosts[2], "ec2InstanceId": "i-gone"}
        aws.instances[hosts[3]] = {"containerInstanceArn": hosts[3]}
        for n, document in enumerate(aws.tasks.values()):
            document["containerInstanceArn"] = [*hosts, "never-heard-of"][n % 5]
        found = by_name(aws.read(Memory(), NOW))["orders"]
        assert len(found.endpoints) == 3
        assert sorted(e.reason for e in found.exclusions) == [
            "EC2 knows no instance i-gone",
            "ECS does not report the machine of container instance b",
            "ECS knows no such container instance",
        ]


class TestSomeNames:
    """Reading only what is asked for."""

    def test_a_family_is_found_by_its_name(self) -> None:
        """It is no service: ECS says so at once."""
        aws, memory = small_cluster(), Memory()
        aws.add_task(
            task(
                container("app", binding(80, 80)),
                number=9,
                group="family:batch",
                startedBy="me",
                taskDefinitionArn=f"{ACCOUNT}:task-definition/batch:1",
                containerInstanceArn=next(iter(aws.instances)),
            )
        )
        aws.definitions[f"{ACCOUNT}:task-definition/batch:1"] = definition(
            container_definition("app", port(80)), arn=f"{ACCOUNT}:task-definition/batch:1"
        )
        found = aws.read(memory, NOW, {"batch"})
        assert by_name(found)["batch"].kind == "family"
        assert [c.parameters.get("family") for c in aws.calls if c.operation == "ListTasks"] == [
            "batch"
        ]
        aws.read(memory, NOW + 10, {"batch"})
        assert aws.operations == {"ListTasks": 1}

    def test_an_unknown_name_is_absent_and_cheap(self) -> None:
        """The cluster is looked through at most once a minute for it."""
        aws, memory = small_cluster(), Memory()
        first = aws.read(memory, NOW, {"nope"})
        assert first.absent == {"nope"}
        assert (first.services, first.error) == ((), None)
        second = aws.read(memory, NOW + 10, {"nope"})
        assert second.absent == {"nope"}
        assert aws.operations == {"DescribeServices": 1, "ListTasks": 1}

    def test_a_name_in_another_case_is_found(self) -> None:
        """Names come from DNS, which has no case."""
        aws, memory = small_cluster(Orders=2), Memory()
        found = aws.read(memory, NOW, {"orders"})
        assert sizes(found) == {"Orders": 2}
        assert found.absent == frozenset()
        aws.read(memory, NOW + 10, {"orders"})
        assert aws.operations == {"ListTasks": 1}

    def test_a_group_in_free_text_is_found(self) -> None:
        """No call lists by group: the cluster is looked through."""
        aws, memory = small_cluster(), Memory()
        aws.tasks[task_arn(1)] |= {"group": "nightly", "startedBy": "me"}
        found = aws.read(memory, NOW, {"nightly"})
        assert sizes(found) == {"nightly": 1}

    def test_a_name_that_nothing_can_have_costs_no_call_of_its_own(self) -> None:
        """One impossible name would fail a whole call for others."""
        aws, memory = small_cluster(), Memory()
        found = aws.read(memory, NOW, {"orders", "not a name!"})
        assert sizes(found) == {"orders": 2}
        assert found.absent == {"not a name!"}
        asked = [
            c.parameters for c in aws.calls if c.operation in ("ListTasks", "DescribeServices")
        ]
        assert "not a name!" not in str(asked)

    def test_a_service_made_since_is_found(self) -> None:
        """That it was absent a moment ago is no reason."""
        aws, memory = small_cluster(), Memory()
        assert aws.read(memory, NOW, {"late"}).absent == {"late"}
        aws.add_service("late", 1, list(aws.instances))
        assert sizes(aws.read(memory, NOW + 2, {"late"})) == {"late": 1}

    def test_a_deleted_service_is_absent(self) -> None:
        """ECS no longer knows it when its tasks are listed."""
        aws, memory = small_cluster(), Memory()
        aws.read(memory, NOW, {"orders", "users"})
        del aws.services["orders"]
        for arn in [a for a, t in aws.tasks.items() if t["group"] == "service:orders"]:
            del aws.tasks[arn]
        aws.read(memory, NOW + 60, {"orders", "users"})
        found = aws.read(memory, NOW + 70, {"orders", "users"})
        assert found.absent == {"orders"}
        assert sizes(found) == {"users": 1}

    def test_a_failed_list_leaves_its_name_unread_and_no_other(self) -> None:
        """Its tasks have not vanished."""
        aws, memory = small_cluster(), Memory()
        aws.read(memory, NOW, {"orders", "users"})
        aws.fail = lambda call: DOWN if call.parameters.get("serviceName") == "orders" else None
        found = aws.read(memory, NOW + 10, {"orders", "users"})
        assert found.unread == {"orders"}
        assert found.error is DOWN
        assert sizes(found) == {"users": 1}
        assert all("orders" not in str(c.parameters) for c in aws.calls[2:])

    def test_a_cluster_that_is_not_there_is_said(self) -> None:
        """Nothing is absent then."""
        aws, memory = small_cluster(), Memory()
        error = ClusterNotFound("no cluster 'prod'")
        aws.fail = lambda call: error
        found = aws.read(memory, NOW, {"orders"})
        assert (found.error, found.absent) == (error, frozenset())
        assert found.unread == {"orders"}

    def test_what_is_not_asked_for_this_time_is_not_described(self) -> None:
        """A load may be for one new name only."""
        aws, memory = small_cluster(), Memory()
        for document in aws.tasks.values():
            document["startedAt"] = NOW  # young
        aws.read(memory, NOW, {"orders", "users"})
        aws.read(memory, NOW + 10, {"users"})
        (described,) = [c for c in aws.calls if c.operation == "DescribeTasks"]
        assert described.parameters["tasks"] == [task_arn(3)]

    def test_what_is_not_asked_for_this_time_is_remembered(self) -> None:
        """Its health, too, and which of its tasks have vanished since."""
        aws, memory = small_cluster(orders=2, users=1), Memory()
        aws.read(memory, NOW, {"orders"})
        aws.read(memory, NOW + 70, {"users"})
        aws.tasks[task_arn(1)]["desiredStatus"] = "STOPPED"
        found = by_name(aws.read(memory, NOW + 80, {"orders", "users"}))["orders"]
        assert [e.task_arn for e in found.exclusions] == [task_arn(1)]

    def test_names_that_are_no_longer_wanted_are_forgotten(self) -> None:
        """After ten minutes."""
        aws, memory = small_cluster(), Memory()
        aws.read(memory, NOW, {"orders", "users"})
        aws.read(memory, NOW + 700, {"users"})
        assert set(memory.tasks) == {task_arn(3)}


def test_every_call_says_why_it_is_made() -> None:
    """Reasons are for people who watch the calls."""
    aws, memory = small_cluster("host"), Memory()
    aws.read(memory, NOW)
    assert all(call.reason for call in aws.calls)


def test_health_is_remembered_between_reads() -> None:
    """UNKNOWN after HEALTHY only means that ECS has lost sight."""
    aws, memory = small_cluster(orders=1), Memory()
    checks = {"healthCheck": {"command": ["CMD", "true"]}}
    (arn,) = aws.definitions
    aws.definitions[arn] = definition(container_definition("app", port(8080), **checks), arn=arn)

    def health(now: float, reported: str) -> Iterable[str]:
        aws.tasks[task_arn(1)]["containers"][0]["healthStatus"] = reported
        return [e.health for e in by_name(aws.read(memory, now))["orders"].endpoints]

    assert health(NOW, "UNKNOWN") == ["unknown"]  # its definition is not read yet
    assert health(NOW + 10, "UNKNOWN") == ["starting"]
    assert health(NOW + 20, "HEALTHY") == ["healthy"]
    assert health(NOW + 30, "UNKNOWN") == ["healthy"]
    assert health(NOW + 40, "UNHEALTHY") == ["unhealthy"]
    assert health(NOW + 50, "UNKNOWN") == ["unhealthy"]

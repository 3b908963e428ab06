"""What a read does not believe at once: refused calls, omitted rows, old counts."""

from typing import Any

import pytest

from discovery.ecs.calls import DEPLOYMENTS, Call
from discovery.ecs.memory import Memory, Scope
from discovery.ecs.plan import follow_up
from discovery.errors import AccessDenied, SourceError, SourceUnreachable
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
from tests.ecs.fixed import SCOPE, FixedAws, by_name, fail_on, sizes, small_cluster

DENIED = AccessDenied("ecs:DescribeServiceDeployments")
DOWN = SourceUnreachable("no answer")
ODD = SourceError("ec2 was refused (OptInRequired)")
NOW = 1_000.0

REFUSED = [
    ("DescribeInstances", AccessDenied("ec2:DescribeInstances")),
    ("DescribeInstances", ODD),
    ("DescribeContainerInstances", AccessDenied("ecs:DescribeContainerInstances")),
    ("DescribeContainerInstances", ODD),
    ("DescribeTaskDefinition", AccessDenied("ecs:DescribeTaskDefinition")),
    ("DescribeTaskDefinition", ODD),
]


def told(found: ClusterReading) -> tuple[dict[str, int], set[str], SourceError | None]:
    """Endpoints by service, the services that are left unread, and the error."""
    return sizes(found), set(found.unread), found.error


def serving(found: ClusterReading, name: str) -> list[str | None]:
    """The tasks behind a service's endpoints."""
    return [e.task_arn for e in by_name(found)[name].endpoints]


class TestRefusedCalls:
    """A refused call is no fact about what it asked for."""

    @pytest.mark.parametrize(("operation", "error"), REFUSED)
    def test_it_empties_no_service(self, operation: str, error: SourceError) -> None:
        """What is known keeps being served, and the error is said."""
        aws, memory = small_cluster("host", orders=1), Memory()
        aws.fail = fail_on(error, operation)
        found = aws.read(memory, NOW)
        assert told(found) == ({}, {"orders"}, error)

    def test_a_service_that_moved_to_an_unknown_host_keeps_what_was_known(self) -> None:
        """Its tasks have stopped; that it serves nowhere is not to be believed."""
        aws, memory = small_cluster(orders=1), Memory()
        aws.read(memory, NOW)
        denied = AccessDenied("ec2:DescribeInstances")
        aws.fail = fail_on(denied, "DescribeInstances")
        aws.tasks[task_arn(1)] |= {"lastStatus": "STOPPED", "desiredStatus": "STOPPED"}
        other = (set(aws.instances) - {aws.tasks[task_arn(1)]["containerInstanceArn"]}).pop()
        moved = {"taskArn": task_arn(2), "containerInstanceArn": other}
        running = {"lastStatus": "RUNNING", "desiredStatus": "RUNNING"}
        aws.add_task(aws.tasks[task_arn(1)] | moved | running)
        found = aws.read(memory, NOW + 10)
        assert told(found) == ({}, {"orders"}, denied)

    def test_a_public_address_that_is_refused_empties_no_service(self) -> None:
        """It is like any other address."""
        aws, memory = FixedAws(), Memory()
        aws.add_task(awsvpc_task(container("app"), group="family:orders", startedBy="me"))
        arn = aws.tasks[task_arn(1)]["taskDefinitionArn"]
        aws.definitions[arn] = definition(container_definition("app", port(8080)))
        aws.fail = fail_on(ODD, "DescribeNetworkInterfaces")
        found = aws.read(memory, NOW, scope=Scope("prod", "prod", public=True))
        assert told(found) == ({}, {"orders"}, ODD)

    def test_where_others_serve_it_excludes_with_the_reason(self) -> None:
        """A service is not held back for one of its tasks while a permission is missing."""
        aws, memory = small_cluster(orders=1), Memory()
        aws.read(memory, NOW)
        aws.fail = fail_on(AccessDenied("ec2:DescribeInstances"), "DescribeInstances")
        (new,) = (a for a in aws.instances if a != aws.tasks[task_arn(1)]["containerInstanceArn"])
        aws.add_task(aws.tasks[task_arn(1)] | {"taskArn": task_arn(2), "containerInstanceArn": new})
        found = aws.read(memory, NOW + 10)
        assert (found.unread, found.error) == (frozenset(), None)
        assert serving(found, "orders") == [task_arn(1)]
        (left_out,) = by_name(found)["orders"].exclusions
        assert left_out.task_arn == task_arn(2)
        assert "ec2:DescribeInstances" in left_out.reason

    def test_an_error_about_many_things_is_asked_about_again_at_once(self) -> None:
        """Nobody knows which of them it is about."""
        aws, memory = small_cluster(), Memory()
        aws.fail = fail_on(ODD, "DescribeInstances")
        aws.read(memory, NOW)
        aws.fail = lambda call: None
        assert sizes(aws.read(memory, NOW + 10)) == {"orders": 2, "users": 1}

    def test_a_follow_up_repeats_the_error(self) -> None:
        """It reads definitions only, and hides nothing."""
        aws, memory = small_cluster(), Memory()
        aws.fail = fail_on(ODD, "DescribeInstances")
        aws.read(memory, NOW)
        found = aws.drive(follow_up(SCOPE, memory, NOW + 1))
        assert told(found) == ({}, {"orders", "users"}, ODD)

    @pytest.mark.parametrize(
        ("operation", "scope"),
        [
            ("DescribeInstances", SCOPE),
            ("DescribeNetworkInterfaces", Scope("prod", "prod", public=True)),
        ],
    )
    def test_an_answer_of_ec2_that_was_cut_off_is_no_answer(
        self, operation: str, scope: Scope
    ) -> None:
        """An answer without its list does not say that EC2 knows nothing."""
        aws, memory = small_cluster(orders=1), Memory()
        other = awsvpc_task(container("app"), group="service:orders")
        aws.add_task(other | {"taskArn": task_arn(9)})
        arn = aws.tasks[task_arn(9)]["taskDefinitionArn"]
        aws.definitions[arn] = definition(container_definition("app", port(8080)), arn=arn)
        aws.public["eni-1"] = "203.0.113.9"
        aws.fail = lambda call: {} if call.operation == operation else None
        found = aws.read(memory, NOW, scope=scope)
        assert found.unread == {"orders"}
        assert "without" in str(found.error)
        aws.fail = lambda call: None
        assert sizes(aws.read(memory, NOW + 10, scope=scope)) == {"orders": 2}

    def test_an_instance_that_an_answer_says_nothing_of_is_asked_for_again(self) -> None:
        """Only MISSING says that there is none."""
        aws, memory = small_cluster(orders=2), Memory()
        none: dict[str, Any] = {"containerInstances": [], "failures": []}
        aws.fail = lambda call: none if call.operation == "DescribeContainerInstances" else None
        found = aws.read(memory, NOW)
        assert told(found)[:2] == ({}, {"orders"})
        assert "second read" in str(found.error)
        aws.fail = lambda call: None
        assert sizes(aws.read(memory, NOW + 10)) == {"orders": 2}


class TestShiftingTraffic:
    """A blue/green deployment while its shares cannot be read."""

    BLUE, GREEN = task_arn(1), task_arn(2)

    def cluster(self, *, green: float) -> FixedAws:
        """One task in each deployment, and the share of the new one."""
        aws = small_cluster(orders=2)
        aws.services["orders"] |= {
            "deploymentConfiguration": {"strategy": "BLUE_GREEN"},
            "currentServiceDeployment": "deployment/1",
            "deployments": [
                {"id": "ecs-svc/2", "status": "PRIMARY", "runningCount": 1},
                {"id": "ecs-svc/1", "status": "ACTIVE", "runningCount": 1},
            ],
        }
        aws.tasks[self.BLUE]["startedBy"] = "ecs-svc/1"
        aws.tasks[self.GREEN]["startedBy"] = "ecs-svc/2"
        aws.shares = {"deployment/1": ("orders", {"1": 100.0 - green, "2": green})}
        return aws

    @pytest.mark.parametrize(
        "failure",
        [DOWN, DENIED, {"serviceDeployments": []}],
    )
    def test_a_failure_keeps_the_shares_of_the_same_deployment(self, failure: Any) -> None:
        """Traffic that has moved does not move back."""
        aws, memory = self.cluster(green=100.0), Memory()
        aws.read(memory, NOW)
        aws.fail = fail_on(failure, "DescribeServiceDeployments")
        for n in range(1, 4):
            found = aws.read(memory, NOW + 10 * n)
            assert serving(found, "orders") == [self.GREEN]

    def test_shares_that_were_never_read_leave_the_service_unread(self) -> None:
        """Nobody knows who serves."""
        aws, memory = self.cluster(green=100.0), Memory()
        aws.fail = fail_on(DOWN, "DescribeServiceDeployments")
        for n in range(3):
            found = aws.read(memory, NOW + 10 * n)
            assert told(found) == ({}, {"orders"}, DOWN)
        aws.fail = lambda call: None
        assert serving(aws.read(memory, NOW + 40), "orders") == [self.GREEN]

    def test_without_the_permission_what_is_replaced_serves(self) -> None:
        """It did before the shift, and can while it runs; the rest says what is missing."""
        aws, memory = self.cluster(green=100.0), Memory()
        aws.fail = fail_on(DENIED, "DescribeServiceDeployments")
        found = aws.read(memory, NOW)
        assert serving(found, "orders") == [self.BLUE]
        (out,) = by_name(found)["orders"].exclusions
        assert out.task_arn == self.GREEN
        assert "ecs:DescribeServiceDeployments is missing" in out.reason
        assert found.error is None

    def test_a_missing_permission_is_asked_for_once_an_hour(self) -> None:
        """Each read would be refused alike; a person is told each time."""
        aws, memory = self.cluster(green=100.0), Memory()
        aws.fail = fail_on(DENIED, "DescribeServiceDeployments")
        made = 0
        for n in range(361):
            aws.read(memory, NOW + 10 * n)
            made += aws.operations["DescribeServiceDeployments"]
        assert made == 2
        assert memory.notices == {str(DENIED): NOW + 3_600}

    def test_without_the_permission_the_new_serves_when_the_old_is_gone(self) -> None:
        """A guess does not filter down to nothing."""
        aws, memory = self.cluster(green=0.0), Memory()
        aws.read(memory, NOW)
        aws.fail = fail_on(DENIED, "DescribeServiceDeployments")
        aws.services["orders"]["deployments"][1]["runningCount"] = 0
        aws.tasks[self.BLUE] |= {"lastStatus": "STOPPED", "desiredStatus": "STOPPED"}
        assert serving(aws.read(memory, NOW + 10), "orders") == [self.GREEN]

    def test_a_service_that_names_no_deployment_has_it_listed(self) -> None:
        """Those that are under way, newest first."""
        aws, memory = self.cluster(green=100.0), Memory()
        del aws.services["orders"]["currentServiceDeployment"]
        assert serving(aws.read(memory, NOW), "orders") == [self.GREEN]
        assert aws.groups[DEPLOYMENTS] == 2

    def test_a_revision_of_another_number_is_told_by_its_definition(self) -> None:
        """A rollback deploys an old revision anew; what a revision is is read once."""
        aws, memory = self.cluster(green=100.0), Memory()
        aws.add_service("old", 0, [])
        aws.add_service("new", 0, [])
        new, old = aws.services["orders"]["deployments"]
        new["taskDefinition"] = f"{ACCOUNT}:task-definition/new:1"
        old["taskDefinition"] = f"{ACCOUNT}:task-definition/old:1"
        aws.shares = {"deployment/1": ("orders", {"77": 100.0, "78": 0.0})}
        aws.revisions = {
            "revision/77": f"{ACCOUNT}:task-definition/old:1",
            "revision/78": f"{ACCOUNT}:task-definition/new:1",
        }
        for n in range(2):
            assert serving(aws.read(memory, NOW + n), "orders") == [self.BLUE]
            assert aws.operations["DescribeServiceRevisions"] == (1 if n == 0 else 0)

    def test_services_that_shift_no_traffic_cost_no_call(self) -> None:
        """A rolling deployment, and none at all."""
        aws, memory = self.cluster(green=100.0), Memory()
        aws.services["orders"]["deploymentConfiguration"] = {"strategy": "ROLLING"}
        assert serving(aws.read(memory, NOW), "orders") == [self.BLUE, self.GREEN]
        assert aws.groups[DEPLOYMENTS] == 0
        aws.services["orders"]["deploymentConfiguration"] = {"strategy": "BLUE_GREEN"}
        del aws.services["orders"]["deployments"][1:]
        aws.read(memory, NOW + 100)
        assert aws.groups[DEPLOYMENTS] == 0

    def test_a_deployment_that_begins_unseen_leaves_the_service_as_it_was(self) -> None:
        """Shares of the deployment before it say nothing."""
        aws, memory = self.cluster(green=100.0), Memory()
        aws.read(memory, NOW)
        aws.services["orders"]["currentServiceDeployment"] = "deployment/2"
        aws.fail = fail_on(DOWN, "DescribeServiceDeployments")
        found = aws.read(memory, NOW + 10)
        assert told(found) == ({}, {"orders"}, DOWN)

    def test_old_shares_never_empty_a_service(self) -> None:
        """The deployment that served has ended; that nothing serves is not believed."""
        aws, memory = self.cluster(green=0.0), Memory()
        assert serving(aws.read(memory, NOW), "orders") == [self.BLUE]
        aws.fail = fail_on(DOWN, "DescribeServiceDeployments")
        aws.tasks[self.BLUE] |= {"lastStatus": "STOPPED", "desiredStatus": "STOPPED"}
        for n in range(1, 4):
            found = aws.read(memory, NOW + 10 * n)
            assert told(found) == ({}, {"orders"}, DOWN)

    def test_before_shares_are_told_what_is_replaced_serves(self) -> None:
        """ECS tells of the deployment, but of no weights yet."""
        aws, memory = self.cluster(green=0.0), Memory()
        aws.shares = {"deployment/1": ("orders", {"1": 0.0, "2": 0.0})}
        assert serving(aws.read(memory, NOW), "orders") == [self.BLUE]

    def test_what_is_replaced_does_not_serve_where_it_does_not_run(self) -> None:
        """A guess does not filter down to nothing."""
        aws, memory = self.cluster(green=0.0), Memory()
        aws.shares = {"deployment/1": ("orders", {"1": 0.0, "2": 0.0})}
        aws.services["orders"]["deployments"][1]["runningCount"] = 0
        aws.tasks[self.BLUE] |= {"lastStatus": "STOPPED", "desiredStatus": "STOPPED"}
        assert serving(aws.read(memory, NOW), "orders") == [self.GREEN]


class TestOmittedServices:
    """DescribeServices says MISSING of what it does not know."""

    @staticmethod
    def omit(call: Call) -> Any:
        """An answer without rows and without failures."""
        return {"services": [], "failures": []} if call.operation == "DescribeServices" else None

    def test_one_answer_without_a_row_ends_nothing(self) -> None:
        """The facts stay, and the service is asked for again with the next read."""
        aws, memory = small_cluster(orders=1, idle=0), Memory()
        aws.read(memory, NOW)
        facts = memory.services["orders"]
        aws.fail = self.omit
        found = aws.read(memory, NOW + 60)
        assert sizes(found) == {"orders": 1, "idle": 0}
        assert "second read" in str(found.error)
        assert memory.services["orders"] is facts
        aws.fail = lambda call: None
        again = aws.read(memory, NOW + 70)
        assert (sizes(again), again.error) == ({"orders": 1, "idle": 0}, None)
        assert aws.operations["DescribeServices"] == 1

    def test_a_second_answer_without_it_is_believed(self) -> None:
        """What has no task is gone then."""
        aws, memory = small_cluster(orders=1, idle=0), Memory()
        aws.read(memory, NOW)
        aws.fail = self.omit
        assert "idle" in sizes(aws.read(memory, NOW + 60))
        assert sizes(aws.read(memory, NOW + 70)) == {"orders": 1}

    @pytest.mark.parametrize("wanted", [None, {"new"}])
    def test_a_new_service_of_which_nothing_is_said_is_unread(
        self, wanted: set[str] | None
    ) -> None:
        """Neither known nor absent; one read asks once."""
        aws, memory = small_cluster(new=1), Memory()
        aws.fail = self.omit
        found = aws.read(memory, NOW, wanted)
        assert (told(found)[:2], found.absent) == (({}, {"new"}), frozenset())
        assert aws.operations["DescribeServices"] == 1
        aws.fail = lambda call: None
        assert sizes(aws.read(memory, NOW + 10, wanted)) == {"new": 1}

    def test_a_list_without_a_service_has_it_described(self) -> None:
        """The description decides, in the same read."""
        aws, memory = small_cluster(orders=1, idle=0), Memory()
        aws.read(memory, NOW)
        none: dict[str, Any] = {"serviceArns": []}
        aws.fail = lambda call: none if call.operation == "ListServices" else None
        assert sizes(aws.read(memory, NOW + 60)) == {"orders": 1, "idle": 0}
        del aws.services["idle"]
        assert sizes(aws.read(memory, NOW + 120)) == {"orders": 1}

    def test_a_service_that_became_inactive_is_gone_at_once(self) -> None:
        """That is what ECS says of a deleted one for a while."""
        aws, memory = small_cluster(orders=1, idle=0), Memory()
        aws.read(memory, NOW)
        aws.services["idle"]["status"] = "INACTIVE"
        found = aws.read(memory, NOW + 60)
        assert (sizes(found), found.error) == ({"orders": 1}, None)


class TestHalfReadServices:
    """Whether all tasks of a service are described."""

    def test_an_old_count_proves_nothing(self) -> None:
        """It was right for the tasks there were then."""
        aws, memory = small_cluster(orders=1), Memory()
        aws.read(memory, NOW)
        for number in (2, 3):
            aws.add_task(aws.tasks[task_arn(1)] | {"taskArn": task_arn(number)})
        first = task_arn(1)
        aws.fail = lambda call: (
            {"tasks": [aws.tasks[first]], "failures": []}
            if call.operation == "DescribeTasks"
            else None
        )
        found = aws.read(memory, NOW + 10)
        assert told(found)[:2] == ({}, {"orders"})

    def test_a_task_listed_for_two_names_leaves_both_unread(self) -> None:
        """A service's task is of a family, too, which may be asked for beside it."""
        aws = small_cluster(orders=2)
        arn = f"{ACCOUNT}:task-definition/zfamily:1"
        aws.definitions[arn] = definition(container_definition("app", port(8080)), arn=arn)
        for document in aws.tasks.values():
            document["taskDefinitionArn"] = arn
        aws.fail = fail_on(DOWN, "DescribeTasks")
        found = aws.read(Memory(), NOW, {"orders", "zfamily"})
        assert told(found) == ({}, {"orders", "zfamily"}, DOWN)

    def test_a_service_first_heard_of_by_a_failed_read_is_not_said_to_be_empty(self) -> None:
        """A follow-up maps the tasks of the read before, which knows none of its tasks."""
        aws, memory = small_cluster(orders=1), Memory()
        aws.read(memory, NOW)
        aws.add_service("late", 1, list(aws.instances))
        aws.fail = fail_on(DOWN, "ListTasks")
        aws.read(memory, NOW + 60)
        found = aws.drive(follow_up(SCOPE, memory, NOW + 61))
        assert sizes(found) == {"orders": 1}
        assert found.unread == {"late"}


def test_a_group_that_cannot_be_looked_for_is_unread() -> None:
    """Not absent: nobody has looked."""
    aws, memory = small_cluster(), Memory()
    hosts = list(aws.instances)
    ports = container("app", binding(80, 80))
    aws.add_task(task(ports, number=9, group="nightly", containerInstanceArn=hosts[0]))
    whole = {"cluster", "maxResults"}
    aws.fail = lambda call: (
        DOWN if call.operation == "ListTasks" and set(call.parameters) == whole else None
    )
    found = aws.read(memory, NOW, {"nightly"})
    assert told(found) == ({}, {"nightly"}, DOWN)
    assert not found.absent

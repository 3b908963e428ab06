"""The queue of events against a local ECS that feeds it: real boto3, real sockets, real threads."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import boto3
import pytest

from discovery.client.resolver import Resolver
from discovery.ecs import eventbridge
from discovery.ecs.pace import SWEEP_S
from discovery.ecs.source import EcsSource
from discovery.events import Event, Listeners, MessagesReceived, Noticed
from discovery.local.server import LocalECS
from discovery.model import Observation
from discovery.settings import Settings
from discovery.written import ClusterSettings
from tests.ecs.told import event

PATIENCE_S = 30.0
QUEUE = "events"


def until(what: Callable[[], Any], claim: str) -> Any:
    """What it gives, once that is true."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError(f"never: {claim}")


class Told:
    """Everything that listeners were told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def notices(self) -> list[str]:
        """What a person was told."""
        return [event.message for event in self.events if isinstance(event, Noticed)]

    @property
    def received(self) -> list[MessagesReceived]:
        """What came from the queue."""
        return [event for event in self.events if isinstance(event, MessagesReceived)]


class Stage:
    """A local ECS whose events go to a queue, and stock clients of it."""

    def __init__(self, ecs: LocalECS) -> None:
        self.local = ecs
        self.ecs: Any = boto3.client("ecs", endpoint_url=ecs.url, region_name="us-east-1")
        self.sqs: Any = boto3.client("sqs", endpoint_url=ecs.url, region_name="us-east-1")
        self.url: str = self.sqs.create_queue(
            QueueName=QUEUE, Attributes={"VisibilityTimeout": "1"}
        )["QueueUrl"]
        app: Any = {
            "name": "app",
            "image": "app",
            "memory": 8,
            "portMappings": [{"containerPort": 80}],
        }
        self.ecs.register_task_definition(family="web", containerDefinitions=[app])
        ecs.add_instances("prod", 2, simulated=True)

    def run(self, count: int) -> list[str]:
        """Start standalone tasks; their ARNs."""
        answer = self.ecs.run_task(cluster="prod", taskDefinition="web", count=count)
        return [task["taskArn"] for task in answer["tasks"]]

    @property
    def left(self) -> int:
        """How many messages are in the queue, visible or not."""
        answer = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["All"])
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])


@pytest.fixture
def stage(ecs: LocalECS) -> Stage:
    """One cluster with two instances, and nothing that runs."""
    return Stage(ecs)


@pytest.fixture
def told() -> Told:
    """Who listens."""
    return Told()


def settings(**more: Any) -> Settings:
    """Settings that follow events, with no sweep before the test is over."""
    given: dict[str, Any] = {"events": QUEUE, "interval_s": 3_600.0, "boot_check": False} | more
    return Settings(clusters=(ClusterSettings("prod"),), **given)


@pytest.fixture
def resolver(stage: Stage, told: Told) -> Iterator[Resolver]:
    """It has read the empty cluster, and reads no more by itself."""
    with Resolver(settings=settings(), whole=True, listeners=Listeners(told)) as opened:
        assert opened.wait_ready(PATIENCE_S)
        yield opened


def running(resolver: Resolver) -> int:
    """How many endpoints the family has."""
    service = resolver.snapshot.services.get(("prod", "web"))
    return len(service.endpoints) if service else 0


class TestFollowing:
    """What happens is known without a read."""

    def test_tasks_are_known_by_their_events(self, stage: Stage, resolver: Resolver) -> None:
        """They come and go, and no list is read meanwhile."""
        lists = stage.local.calls["ListTasks"]
        arns = stage.run(3)
        until(lambda: running(resolver) == 3, "three endpoints")
        stage.ecs.stop_task(cluster="prod", task=arns[0])
        until(lambda: running(resolver) == 2, "two endpoints")
        assert stage.local.calls["ListTasks"] == lists

    def test_events_out_of_order_and_repeated_end_in_the_truth(
        self, stage: Stage, resolver: Resolver
    ) -> None:
        """As EventBridge and SQS promise no more."""
        with stage.local.faults.disorder():
            arns = stage.run(5)
            until(lambda: running(resolver) == 5, "five endpoints")
            for arn in arns[:3]:
                stage.ecs.stop_task(cluster="prod", task=arn)
            until(lambda: running(resolver) == 2, "two endpoints")
        until(lambda: stage.left == 0, "an empty queue")
        assert running(resolver) == 2

    def test_messages_are_deleted_once_they_are_taken_in(
        self, stage: Stage, resolver: Resolver
    ) -> None:
        """Nothing is left to come again."""
        stage.run(2)
        until(lambda: running(resolver) == 2, "two endpoints")
        until(lambda: stage.left == 0, "an empty queue")

    @pytest.mark.parametrize("queue", ["name", "url", "arn"])
    def test_a_queue_is_found(self, stage: Stage, told: Told, queue: str) -> None:
        """By whatever it is called."""
        arn = f"arn:aws:sqs:us-east-1:123456789012:{QUEUE}"
        written = {"name": QUEUE, "url": stage.url, "arn": arn}[queue]
        with Resolver(
            settings=settings(events=written), whole=True, listeners=Listeners(told)
        ) as resolver:
            assert resolver.wait_ready(PATIENCE_S)
            stage.run(1)
            until(lambda: running(resolver) == 1, "an endpoint")

    def test_names_on_demand_follow_events_too(self, stage: Stage, told: Told) -> None:
        """Those that were asked for."""
        stage.run(1)
        with Resolver(settings=settings(), listeners=Listeners(told)) as resolver:
            until(lambda: resolver.endpoints("web"), "the first endpoint")
            stage.run(1)
            until(lambda: running(resolver) == 2, "two endpoints")

    def test_a_read_that_waits_holds_up_no_event(self, stage: Stage, resolver: Resolver) -> None:
        """What happens meanwhile is published, and the list is never there."""
        stage.run(1)
        until(lambda: running(resolver) == 1, "an endpoint")
        with stage.local.faults.latency(PATIENCE_S, "ListTasks"):
            lists = stage.local.calls["ListTasks"]
            resolver.hurry()
            until(lambda: stage.local.calls["ListTasks"] > lists, "a read that waits")
            stage.run(1)
            until(lambda: running(resolver) == 2, "two endpoints")


@pytest.mark.parametrize(
    ("arn", "label"),
    [
        ("arn:aws:ecs:us-east-1:111111111111:cluster/prod", "prod"),
        ("arn:aws:ecs:us-east-1:222222222222:cluster/prod", "theirs"),
        ("arn:aws:ecs:eu-west-1:111111111111:cluster/prod", "europe"),
        ("arn:aws:ecs:eu-west-1:111111111111:cluster/other", None),
        ("arn:aws:ecs:eu-west-1:333333333333:cluster/whole", "whole"),
        ("arn:aws:ecs:eu-west-1:111111111111:cluster/whole", None),
    ],
)
def test_clusters_of_one_name_are_told_apart(stage: Stage, arn: str, label: str | None) -> None:
    """By their region, and by the account of the role that reads them."""
    role_arn = "arn:aws:iam::222222222222:role/discovery"
    whole = "arn:aws:ecs:eu-west-1:333333333333:cluster/whole"
    clusters = (
        ClusterSettings("prod"),
        ClusterSettings("prod", alias="theirs", role_arn=role_arn),
        ClusterSettings("prod", region="eu-west-1", alias="europe"),
        ClusterSettings("whole", "eu-west-1", arn=whole),
    )
    with closing(EcsSource(Settings(clusters=clusters, events=QUEUE))) as source:
        assert source._label_of(eventbridge.Told(arn)) == label


class TestTrouble:
    """Queues hold anything, and fail."""

    def test_what_cannot_be_read_is_counted_said_and_deleted(
        self, stage: Stage, resolver: Resolver, told: Told
    ) -> None:
        """Once a minute; the next messages are read as ever."""
        for body in ("hello", "[]", "{}"):
            stage.sqs.send_message(QueueUrl=stage.url, MessageBody=body)
        until(lambda: stage.left == 0, "an empty queue")
        assert sum(each.unreadable for each in told.received) == 3
        assert len([text for text in told.notices if "could not be read" in text]) == 1
        stage.run(1)
        until(lambda: running(resolver) == 1, "an endpoint")

    def test_an_event_of_a_task_that_cannot_be_fails_no_read(
        self, stage: Stage, resolver: Resolver, told: Told
    ) -> None:
        """ECS refuses a whole call for one ARN that is none."""
        (known,) = stage.run(1)
        until(lambda: running(resolver) == 1, "an endpoint")
        (task,) = stage.ecs.describe_tasks(cluster="prod", tasks=[known])["tasks"]
        later = {"version": 99, "updatedAt": "2999-01-01T00:00:00Z"}
        for arn in ("none", "arn:aws:ecs:us-east-1:123456789012:task/other/abc", f"{known} "):
            detail = {k: v for k, v in task.items() if not k.endswith("At")} | later
            body = event("ECS Task State Change", detail | {"taskArn": arn})
            stage.sqs.send_message(QueueUrl=stage.url, MessageBody=body)
        until(lambda: sum(each.unreadable for each in told.received) == 3, "three refusals")
        resolver.refresh()
        stage.run(1)
        until(lambda: running(resolver) == 2, "another endpoint")

    def test_events_of_other_clusters_are_deleted(
        self, stage: Stage, resolver: Resolver, told: Told
    ) -> None:
        """They are nobody's news."""
        stage.local.add_cluster("other")
        stage.local.add_instances("other", 1, simulated=True)
        stage.ecs.run_task(cluster="other", taskDefinition="web")
        until(lambda: any(each.foreign for each in told.received), "foreign messages")
        until(lambda: stage.left == 0, "an empty queue")
        assert running(resolver) == 0

    def test_a_queue_that_is_not_there_is_said_and_clusters_are_polled(
        self, stage: Stage, told: Told
    ) -> None:
        """At the usual pace; the notice names the queue and the call."""
        with closing(EcsSource(settings(events="nobody"), listeners=Listeners(told))) as source:
            assert source.load(None).again_s is None
            until(lambda: told.notices, "a notice")
        assert "events are not heard, so clusters are polled" in told.notices[0]
        assert "queue nobody: sqs GetQueueUrl was refused" in told.notices[0]

    def test_a_missing_permission_is_said_once(self, stage: Stage, told: Told) -> None:
        """With the action that it takes."""
        with (
            stage.local.faults.deny("sqs:ReceiveMessage"),
            closing(EcsSource(settings(), listeners=Listeners(told))) as source,
        ):
            source.load(None)
            until(lambda: stage.local.calls["ReceiveMessage"] > 1, "a second try")
        assert len(told.notices) == 1
        assert "sqs:ReceiveMessage" in told.notices[0]

    def test_messages_that_may_not_be_deleted_are_heard_all_the_same(
        self, stage: Stage, resolver: Resolver, told: Told
    ) -> None:
        """Which is said once: they come again, and slow the others down."""
        with stage.local.faults.deny("sqs:DeleteMessage"):
            stage.run(1)
            until(lambda: running(resolver) == 1, "an endpoint")
            until(lambda: stage.local.calls["DeleteMessageBatch"] > 1, "a second try")
        (said,) = told.notices
        assert said.startswith("events stay in their queue, and are heard late and again")
        assert "sqs:DeleteMessage" in said

    def test_what_is_not_taken_in_comes_again(self, stage: Stage) -> None:
        """A source that nobody loads from any more deletes nothing."""
        with closing(EcsSource(settings())) as source:
            source.load(None)
            stage.run(1)
            until(lambda: stage.local.calls["ReceiveMessage"] > 0, "a poll")
        assert stage.left > 0


class TestPace:
    """Sweeps grow rarer while events tell what changes."""

    def news(self, source: EcsSource) -> threading.Event:
        """Is set when there is news."""
        heard = threading.Event()
        source.news = heard.set
        return heard

    def test_nothing_heard_changes_no_pace(self, stage: Stage) -> None:
        """The rule may match nothing."""
        with closing(EcsSource(settings(interval_s=10.0))) as source:
            assert source.load(None).again_s is None

    def slower(self, stage: Stage, source: EcsSource) -> Observation:
        """What the source says once it has heard of a task."""
        heard = self.news(source)
        source.load(None)
        stage.run(1)

        def taken_in() -> Observation | None:
            heard.wait(PATIENCE_S)
            found = source.load_pending()
            return found if found.again_s is not None and found.again_s > 10.0 else None

        found: Observation = until(taken_in, "a slower pace")
        return found

    def test_what_events_tell_is_swept_within_30_seconds(self, stage: Stage) -> None:
        """For health, and for what was lost."""
        with closing(EcsSource(settings(interval_s=10.0))) as source:
            found = self.slower(stage, source)
        assert found.again_s is not None
        assert 1.1 * found.again_s <= 30
        assert found.fresh_for_s > found.again_s

    def test_of_two_sweeps_one_lists_nothing(self, stage: Stage) -> None:
        """Events tell who starts, and descriptions who has stopped."""
        ahead_s = [0.0]
        lists: list[int] = []
        with closing(
            EcsSource(settings(interval_s=10.0), clock=lambda: time.time() + sum(ahead_s))
        ) as source:
            self.slower(stage, source)
            for _ in range(4):
                ahead_s.append(SWEEP_S)
                stage.local.calls.clear()
                source.load(None)
                lists.append(stage.local.calls["ListTasks"])
                assert stage.local.calls["DescribeTasks"] == 1
        assert lists == [0, 1, 0, 1]


class TestProcesses:
    """One queue has one consumer."""

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    def test_a_child_leaves_the_queue_to_its_parent(self, stage: Stage, told: Told) -> None:
        """It would get a part of the messages, and its parent the others."""
        with closing(EcsSource(settings(), listeners=Listeners(told))) as source:
            source.load(None)
            source.renew_after_fork()
            assert source.load(None).clusters[0].error is None
        assert told.notices == ["events go to the parent process: clusters are polled"]

"""What messages tell: events as AWS sends them, and whatever else may be in a queue."""

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.ecs.eventbridge import Told, told_in
from discovery.ecs.queues import Queue, queue_of
from tests.ecs.documents import ACCOUNT, INSTANCE, awsvpc_task, binding, container, task, task_arn
from tests.ecs.test_properties import ODD, damaged, paths
from tests.ecs.told import CLUSTER, event, task_event, told

AWS_URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/events"
LOCAL_URL = "http://127.0.0.1:8054/123456789012/events"
EXAMPLES = Path(__file__).parents[2] / "examples"
RECORDED = Path(__file__).parents[3] / "shared/recorded/events"


class TestTasks:
    """ "ECS Task State Change" holds a whole task."""

    def test_a_task_comes_with_its_version_and_when_it_changed(self) -> None:
        """Both are in the detail; the version outside of it is always 0."""
        found = told(task_event(task(container("app", binding(8080, 32768))), at=1_700_000_000.5))
        assert found.task is not None
        assert (found.cluster, found.task.arn, found.at) == (CLUSTER, task_arn(), 1_700_000_000.5)
        assert found.task.version == 3
        assert found.task.containers[0].bindings[0].host_port == 32768

    def test_events_call_a_network_interface_eni(self) -> None:
        """It is the same attachment."""
        found = told(task_event(awsvpc_task(container())))
        assert found.task is not None
        assert [attached.ipv4 for attached in found.task.attachments] == ["10.0.5.17"]

    def test_health_is_not_told(self) -> None:
        """Nothing is made up in its place."""
        found = told(task_event(task(container("app", healthStatus="HEALTHY"))))
        assert found.task is not None
        assert found.task.containers[0].health is None

    def test_an_event_may_come_through_a_topic(self) -> None:
        """A rule has at most five targets: SNS has it sent to more queues, wrapped."""
        body = task_event(task(container()))
        assert told(json.dumps({"Type": "Notification", "Message": body})) == told(body)


class TestOthers:
    """Instances, services, and what is of no interest."""

    def test_a_container_instance_comes_with_its_version(self) -> None:
        """And whether its agent is connected."""
        detail = {
            "clusterArn": CLUSTER,
            "containerInstanceArn": INSTANCE,
            "agentConnected": False,
            "status": "DRAINING",
            "version": 14801,
        }
        found = told(event("ECS Container Instance State Change", detail, INSTANCE)).instance
        assert found is not None
        assert (found.agent_connected, found.status, found.version) == (False, "DRAINING", 14801)

    @pytest.mark.parametrize("kind", ["ECS Service Action", "ECS Deployment State Change"])
    def test_a_service_is_told_by_name(self, kind: str) -> None:
        """That of the ARN, which has the cluster, too."""
        body = event(kind, {"eventName": "SERVICE_STEADY_STATE"}, f"{ACCOUNT}:service/prod/orders")
        assert told(body) == Told(CLUSTER, service="orders")

    def test_a_service_without_its_cluster_tells_nothing(self) -> None:
        """Old ARNs have none."""
        body = event("ECS Deployment State Change", {}, f"{ACCOUNT}:service/orders")
        assert told_in(body) is None

    @pytest.mark.parametrize(
        "body",
        [
            event("ECS Hook State Change", {}),
            event("EC2 Instance State-change Notification", {}, source="aws.ec2"),
        ],
    )
    def test_other_events_tell_nothing(self, body: str) -> None:
        """Rules may match more than is followed."""
        assert told_in(body) is None


def of_task(**members: str) -> str:
    """An event of a task with these members."""
    return event("ECS Task State Change", {"clusterArn": CLUSTER, "taskArn": task_arn()} | members)


class TestUnreadable:
    """What is no event is said to be none, in a sentence."""

    @pytest.mark.parametrize(
        ("body", "why"),
        [
            ("", "no JSON object"),
            ("hello", "no JSON object"),
            ("[1]", "no JSON object"),
            ("[" * 100_000, "no JSON object"),
            ("{}", "no event from EventBridge"),
            (event("ECS Task State Change", {"clusterArn": CLUSTER}), "no taskArn"),
            (event("ECS Task State Change", {"taskArn": task_arn()}), "no clusterArn"),
            (of_task(taskArn="none"), "no taskArn of its cluster"),
            (of_task(taskArn=task_arn().replace("/prod/", "/other/")), "no taskArn of its cluster"),
            (of_task(containerInstanceArn="i-1"), "containerInstanceArn that is none"),
            (
                event("ECS Container Instance State Change", {"clusterArn": CLUSTER}),
                "no containerInstanceArn",
            ),
            (json.dumps({"Type": "Notification", "Message": "hello"}), "no JSON object"),
        ],
    )
    def test_it_says_why(self, body: str, why: str) -> None:
        """A `ValueError`, never anything else."""
        with pytest.raises(ValueError, match=why):
            told_in(body)

    FULL = json.loads(task_event(awsvpc_task(container("app", binding(8080, 32768)))))

    @given(st.sampled_from(paths(FULL)), st.sampled_from([..., *ODD]))
    def test_any_member_may_be_missing_or_odd(self, path: tuple[Any, ...], odd: Any) -> None:
        """It tells something, nothing, or is unreadable."""
        with contextlib.suppress(ValueError):
            told_in(json.dumps(damaged(self.FULL, path, odd)))


@pytest.mark.skipif(not RECORDED.is_dir(), reason="no recorded documents here")
@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.json")), ids=lambda path: path.stem)
def test_recorded_events_tell_what_they_are_of(path: Path) -> None:
    """Each of the documents that AWS or others have published."""
    found = told_in(path.read_text())
    assert found is not None
    said = found.task or found.instance or found.service
    assert said is not None
    assert found.cluster.rpartition("/")[2] in (
        "default",
        "FargateCluster",
        "my-cluster-name",
        "test",
    )


@pytest.mark.parametrize("name", ["events.cloudformation.yaml", "events.tf"])
def test_the_examples_ask_for_what_is_followed(name: str) -> None:
    """Their rules name the kinds of events that tell something, and no others."""
    asked = set(re.findall(r"ECS [A-Z][A-Za-z ]+ (?:Change|Action)", (EXAMPLES / name).read_text()))
    arn = f"{ACCOUNT}:service/prod/orders"
    detail = {"clusterArn": CLUSTER, "taskArn": task_arn(), "containerInstanceArn": INSTANCE}
    assert len(asked) == 4
    assert all(told_in(event(kind, detail, arn)) for kind in asked)


@pytest.mark.parametrize(
    ("written", "want"),
    [
        ("events", Queue("events")),
        (AWS_URL, Queue("events", "123456789012", "eu-west-1", AWS_URL)),
        (LOCAL_URL, Queue("events", "123456789012", url=LOCAL_URL)),
        (
            "arn:aws:sqs:eu-west-1:123456789012:events",
            Queue("events", "123456789012", "eu-west-1", partition="aws"),
        ),
    ],
)
def test_a_queue_is_written_as_name_url_or_arn(written: str, want: Queue) -> None:
    """URL and ARN tell the region."""
    assert queue_of(written) == want

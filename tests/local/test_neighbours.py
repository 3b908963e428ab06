"""The services beside ECS: EC2, SSM, ELBv2, SQS, STS and the metadata endpoint."""

from __future__ import annotations

import json
from typing import Any
from urllib.request import urlopen

import pytest

from discovery.local.server import LocalECS
from tests.local.strict import Api, Refused
from tests.local.waiting import define, run, settled, until

TARGETS = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/web/1"


def test_instances_by_filter_ignore_what_is_unknown(api: Api) -> None:
    """An id that does not exist simply does not match."""
    known = _ids(api)
    wanted = [{"Name": "instance-id", "Values": [known[0], "i-00000000000000000"]}]
    found = api.ec2("DescribeInstances", Filters=wanted)["Reservations"]
    assert [each["InstanceId"] for r in found for each in r["Instances"]] == known[:1]


def _ids(api: Api) -> list[str]:
    found = api.ec2("DescribeInstances")["Reservations"]
    return [each["InstanceId"] for reservation in found for each in reservation["Instances"]]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("i-00000000000000000", "InvalidInstanceID.NotFound"),
        ("mi-0123456789abcdef0", "InvalidInstanceID.Malformed"),
    ],
)
def test_one_unknown_id_fails_the_whole_call(api: Api, name: str, code: str) -> None:
    """As EC2 does."""
    with pytest.raises(Refused) as refused:
        api.ec2("DescribeInstances", InstanceIds=[*_ids(api), name])
    assert refused.value.code == code


def test_too_many_filter_values_are_refused(api: Api) -> None:
    """EC2 takes 200."""
    values = [f"i-{number:017x}" for number in range(201)]
    with pytest.raises(Refused) as refused:
        api.ec2("DescribeInstances", Filters=[{"Name": "instance-id", "Values": values}])
    assert refused.value.code == "FilterLimitExceeded"


def test_instance_pages(ecs: LocalECS, api: Api) -> None:
    """MaxResults and NextToken."""
    ecs.add_instances("demo", 4)
    first = api.ec2("DescribeInstances", MaxResults=5)
    rest = api.ec2("DescribeInstances", MaxResults=5, NextToken=first["NextToken"])
    assert [len(each["Reservations"]) for each in (first, rest)] == [5, 2]
    assert "NextToken" not in rest


def test_hosts_have_addresses_of_their_own_in_rotating_zones(api: Api) -> None:
    """127.0.0.2, .3 and .4 in zones a, b and c."""
    found = api.ec2("DescribeInstances")["Reservations"]
    hosts = [each for reservation in found for each in reservation["Instances"]]
    assert [each["PrivateIpAddress"] for each in hosts] == ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
    assert [each["Placement"]["AvailabilityZone"][-1] for each in hosts] == ["a", "b", "c"]


def test_external_hosts_are_in_ssm_and_not_in_ec2(ecs: LocalECS, api: Api) -> None:
    """Pages hold at most 50 and at least 5."""
    ecs.add_instances("demo", 12, external=True)
    first = api.call("ssm", "DescribeInstanceInformation")
    assert len(first["InstanceInformationList"]) == 10
    rest = api.call("ssm", "DescribeInstanceInformation", NextToken=first["NextToken"])
    assert len(rest["InstanceInformationList"]) == 2
    assert all(each["InstanceId"].startswith("mi-") for each in rest["InstanceInformationList"])
    assert len(_ids(api)) == 3
    with pytest.raises(Refused, match="between 5 and 50"):
        api.call("ssm", "DescribeInstanceInformation", MaxResults=51)


def _balanced(api: Api, **members: Any) -> None:
    define(api, **members)
    balancer = {"targetGroupArn": TARGETS, "containerName": "app", "containerPort": 80}
    api.ecs(
        "CreateService",
        cluster="demo",
        serviceName="web",
        taskDefinition="web",
        desiredCount=2,
        loadBalancers=[balancer],
        healthCheckGracePeriodSeconds=1000,
    )


def _targets(api: Api) -> list[tuple[str, int, str]]:
    answer = api.call("elbv2", "DescribeTargetHealth", TargetGroupArn=TARGETS)
    return [
        (each["Target"]["Id"], each["Target"]["Port"], each["TargetHealth"]["State"])
        for each in answer["TargetHealthDescriptions"]
    ]


def test_targets_are_the_service_tasks(ecs: LocalECS, api: Api) -> None:
    """Healthy while their port accepts, unhealthy when it does not."""
    _balanced(api)
    until(lambda: [state for *_, state in _targets(api)] == ["healthy", "healthy"])
    tasks = api.ecs("ListTasks", cluster="demo", serviceName="web")["taskArns"]
    task = settled(api, tasks[0])
    ecs.lose_host(task["containerInstanceArn"])
    until(lambda: "unhealthy" in [state for *_, state in _targets(api)])


def test_unknown_target_group_is_an_error(api: Api) -> None:
    """TargetGroupNotFound, as ELB says it; its model names the class TargetGroupNotFound."""
    with pytest.raises(Refused) as refused:
        api.call("elbv2", "DescribeTargetHealth", TargetGroupArn="arn:nothing")
    assert refused.value.code == "TargetGroupNotFound"


def _messages(api: Api, url: str, **params: Any) -> list[Any]:
    answer = api.call("sqs", "ReceiveMessage", QueueUrl=url, MaxNumberOfMessages=10, **params)
    found: list[Any] = answer.get("Messages", [])
    return found


def test_queue_is_fed_with_task_events(ecs: LocalECS, api: Api) -> None:
    """Every step of a task arrives, in growing versions."""
    url = api.call("sqs", "CreateQueue", QueueName="events")["QueueUrl"]
    assert api.call("sqs", "GetQueueUrl", QueueName="events")["QueueUrl"] == url
    define(api)
    arn = run(api)
    settled(api, arn)
    events = [json.loads(each["Body"]) for each in _messages(api, url, WaitTimeSeconds=5)]
    mine = [each for each in events if each["resources"] == [arn]]
    assert {each["detail-type"] for each in mine} == {"ECS Task State Change"}
    assert [each["detail"]["lastStatus"] for each in mine] == ["PENDING", "RUNNING"]
    versions = [each["detail"]["version"] for each in mine]
    assert versions == sorted(set(versions))
    assert "healthStatus" not in mine[-1]["detail"]
    assert mine[-1]["detail"]["createdAt"].endswith("Z")


def test_received_message_is_hidden_until_it_is_deleted(api: Api) -> None:
    """After its visibility timeout it comes again."""
    url = api.call("sqs", "CreateQueue", QueueName="q")["QueueUrl"]
    api.call("sqs", "SendMessage", QueueUrl=url, MessageBody="hello")
    (message,) = _messages(api, url, VisibilityTimeout=1)
    assert _messages(api, url) == []
    (again,) = until(lambda: _messages(api, url, VisibilityTimeout=30))
    assert again["MessageId"] == message["MessageId"]
    entries = [{"Id": "1", "ReceiptHandle": again["ReceiptHandle"]}]
    api.call("sqs", "DeleteMessageBatch", QueueUrl=url, Entries=entries)
    attributes = api.call("sqs", "GetQueueAttributes", QueueUrl=url, AttributeNames=["All"])[
        "Attributes"
    ]
    assert attributes["ApproximateNumberOfMessages"] == "0"


def test_disorder_repeats_messages(ecs: LocalECS, api: Api) -> None:
    """At least once means twice while the fault is on."""
    url = api.call("sqs", "CreateQueue", QueueName="q")["QueueUrl"]
    for number in range(5):
        api.call("sqs", "SendMessage", QueueUrl=url, MessageBody=str(number))
    with ecs.faults.disorder():
        bodies = [each["Body"] for _ in range(2) for each in _messages(api, url)]
    assert sorted(bodies) == sorted("0123401234")


def test_unknown_queue_is_an_error(api: Api) -> None:
    """QueueDoesNotExist."""
    with pytest.raises(Refused) as refused:
        api.call("sqs", "GetQueueUrl", QueueName="nope")
    assert refused.value.code.endswith("QueueDoesNotExist")


def test_caller_is_told(api: Api) -> None:
    """GetCallerIdentity names the account."""
    assert api.call("sts", "GetCallerIdentity")["Account"] == "123456789012"


def test_metadata_names_task_and_service(ecs: LocalECS, api: Api) -> None:
    """The endpoint of a container answers for it and for its task."""
    define(api)
    api.ecs("CreateService", cluster="demo", serviceName="s", taskDefinition="web", desiredCount=1)
    (arn,) = until(lambda: api.ecs("ListTasks", cluster="demo", serviceName="s")["taskArns"])
    task = settled(api, arn)
    base = f"{ecs.url}/v4/{arn.rsplit('/', 1)[-1]}-0"
    with urlopen(base, timeout=5) as answer:
        container = json.load(answer)
    with urlopen(f"{base}/taskWithTags", timeout=5) as answer:
        whole = json.load(answer)
    port = task["containers"][0]["networkBindings"][0]["hostPort"]
    assert container["Ports"][0]["HostPort"] == port
    assert (whole["TaskARN"], whole["ServiceName"], whole["Family"]) == (arn, "s", "web")
    assert whole["Containers"] == [container]

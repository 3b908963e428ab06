"""What the ECS operations answer, each answer checked strictly against the service model."""

from __future__ import annotations

from typing import Any

import pytest

from discovery.local.server import LocalECS
from tests.local.strict import Api, Refused
from tests.local.waiting import define, described, run, settled, until


def test_definition_echoes_empty_lists(api: Api) -> None:
    """Clients rely on `environment`, `mountPoints` and `volumesFrom` being there."""
    define(api)
    found = api.ecs("DescribeTaskDefinition", taskDefinition="web")["taskDefinition"]
    container = found["containerDefinitions"][0]
    assert container["environment"] == container["mountPoints"] == container["volumesFrom"] == []
    assert container["portMappings"] == [{"containerPort": 80, "hostPort": 0, "protocol": "tcp"}]
    assert "networkMode" not in found


def test_revisions_count_and_inactive_ones_stay_describable(api: Api) -> None:
    """The family's name means its newest ACTIVE revision."""
    define(api)
    define(api)
    api.ecs("DeregisterTaskDefinition", taskDefinition="web:2")
    found = api.ecs("DescribeTaskDefinition", taskDefinition="web")["taskDefinition"]
    assert found["revision"] == 1
    old = api.ecs("DescribeTaskDefinition", taskDefinition="web:2")["taskDefinition"]
    assert old["status"] == "INACTIVE"
    arns = api.ecs("ListTaskDefinitions", familyPrefix="web")["taskDefinitionArns"]
    assert [arn.rsplit("/", 1)[-1] for arn in arns] == ["web:1"]
    assert api.ecs("ListTaskDefinitionFamilies")["families"] == ["web"]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"networkMode": "awsvpc", "container": {"dnsServers": ["1.1.1.1"]}}, "dnsServers"),
        ({"networkMode": "awsvpc", "container": {"links": ["a"]}}, "Links"),
        (
            {
                "networkMode": "host",
                "container": {"portMappings": [{"containerPort": 80, "hostPort": 81}]},
            },
            "must match",
        ),
        ({"requiresCompatibilities": ["FARGATE"]}, "Fargate only supports network mode"),
        ({"networkMode": "none"}, "not supported"),
        ({"container": {"memory": None}}, "memory"),
    ],
)
def test_definition_refuses_what_ecs_refuses(api: Api, members: dict[str, Any], words: str) -> None:
    """ClientException with the reason."""
    container = members.get("container", {})
    if "memory" in container:
        members = {"container": {"memoryReservation": 0, "cpu": 1}}
        with pytest.raises(Refused, match=words):
            api.ecs(
                "RegisterTaskDefinition",
                family="web",
                containerDefinitions=[{"name": "app", "image": "x"}],
            )
        return
    with pytest.raises(Refused, match=words) as refused:
        define(api, **members)
    assert refused.value.code == "ClientException"


def test_awsvpc_needs_a_network_configuration(api: Api) -> None:
    """And the other modes refuse one."""
    define(api, "vpc", networkMode="awsvpc")
    define(api, "bridge")
    with pytest.raises(Refused, match="must be provided"):
        run(api, taskDefinition="vpc")
    network = {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}
    with pytest.raises(Refused, match="not valid"):
        run(api, taskDefinition="bridge", networkConfiguration=network)
    with pytest.raises(Refused, match="does not support launch_type FARGATE"):
        run(api, taskDefinition="bridge", launchType="FARGATE")


def test_service_answers_are_valid_through_its_life(api: Api) -> None:
    """Create, update, scale, roll, delete: every answer passes the strict check."""
    define(api)
    made = api.ecs(
        "CreateService",
        cluster="demo",
        serviceName="web",
        taskDefinition="web",
        desiredCount=2,
        tags=[{"key": "team", "value": "a"}],
        propagateTags="SERVICE",
    )["service"]
    assert (made["status"], made["launchType"]) == ("ACTIVE", "EC2")
    until(lambda: _rollout(api) == ["COMPLETED"])
    arn = api.ecs("ListTasks", cluster="demo", serviceName="web")["taskArns"][0]
    assert described(api, arn)["tags"] == [{"key": "team", "value": "a"}]
    define(api)
    api.ecs("UpdateService", cluster="demo", service="web", taskDefinition="web")
    assert len(_rollout(api)) == 2
    until(lambda: _rollout(api) == ["COMPLETED"])
    api.ecs("UpdateService", cluster="demo", service="web", desiredCount=0)
    api.ecs("DeleteService", cluster="demo", service="web")
    until(lambda: _service(api)["status"] == "INACTIVE")


def _service(api: Api) -> Any:
    return api.ecs("DescribeServices", cluster="demo", services=["web"])["services"][0]


def _rollout(api: Api) -> list[str]:
    return [each["rolloutState"] for each in _service(api)["deployments"]]


def test_service_scaled_above_zero_is_deleted_only_by_force(api: Api) -> None:
    """As the real API insists."""
    define(api)
    api.ecs("CreateService", cluster="demo", serviceName="s", taskDefinition="web", desiredCount=1)
    with pytest.raises(Refused, match="scaled above 0"):
        api.ecs("DeleteService", cluster="demo", service="s")
    assert api.ecs("DeleteService", cluster="demo", service="s", force=True)


def test_tags_are_shown_only_when_asked_for(api: Api) -> None:
    """`include=[TAGS]` on each describe call."""
    define(api)
    arn = run(api, tags=[{"key": "a", "value": "b"}])
    plain = api.ecs("DescribeTasks", cluster="demo", tasks=[arn])["tasks"][0]
    assert plain["tags"] == []
    assert described(api, arn)["tags"] == [{"key": "a", "value": "b"}]
    api.ecs("TagResource", resourceArn=arn, tags=[{"key": "c", "value": "d"}])
    api.ecs("UntagResource", resourceArn=arn, tagKeys=["a"])
    assert api.ecs("ListTagsForResource", resourceArn=arn)["tags"] == [{"key": "c", "value": "d"}]


def test_cluster_counts_its_parts(ecs: LocalECS, api: Api) -> None:
    """Instances, services and RUNNING tasks; unknown clusters are failures."""
    ecs.populate("many", services=3, tasks=12, instances=2)
    answer = api.ecs("DescribeClusters", clusters=["many", "nope"], include=["STATISTICS", "TAGS"])
    (cluster,) = answer["clusters"]
    assert cluster["registeredContainerInstancesCount"] == 2
    assert cluster["runningTasksCount"] == 12
    assert cluster["activeServicesCount"] == 3
    assert [each["reason"] for each in answer["failures"]] == ["MISSING"]
    arns = api.ecs("ListClusters")["clusterArns"]
    assert [arn.rsplit("/", 1)[-1] for arn in arns] == ["demo", "many"]


def test_instance_shows_what_is_left(api: Api) -> None:
    """CPU, memory and fixed ports are taken by tasks; dynamic ports are not listed."""
    define(api, container={"cpu": 256, "portMappings": [{"containerPort": 80, "hostPort": 18083}]})
    task = settled(api, run(api))
    answer = api.ecs(
        "DescribeContainerInstances",
        cluster="demo",
        containerInstances=[task["containerInstanceArn"]],
        include=["TAGS", "CONTAINER_INSTANCE_HEALTH"],
    )
    (host,) = answer["containerInstances"]
    left = {each["name"]: each for each in host["remainingResources"]}
    assert left["CPU"]["integerValue"] == 4096 - 256
    assert left["MEMORY"]["integerValue"] == 16384 - 64
    assert "18083" in left["PORTS"]["stringSetValue"]
    assert host["runningTasksCount"] == 1


def test_deregistered_instance_is_gone(api: Api) -> None:
    """With tasks only by force."""
    define(api)
    host = settled(api, run(api))["containerInstanceArn"]
    with pytest.raises(Refused, match="running tasks"):
        api.ecs("DeregisterContainerInstance", cluster="demo", containerInstance=host)
    answer = api.ecs(
        "DeregisterContainerInstance", cluster="demo", containerInstance=host, force=True
    )
    assert answer["containerInstance"]["status"] == "INACTIVE"
    listed = api.ecs("ListContainerInstances", cluster="demo")["containerInstanceArns"]
    assert host not in listed
    assert len(listed) == 2


def test_regions_and_accounts_are_apart(ecs: LocalECS) -> None:
    """The signature's region and the credentials' account choose the records."""
    here, there = Api(ecs), Api(ecs, region="eu-west-1")
    assert there.ecs("ListClusters")["clusterArns"] == []
    arn = there.ecs("CreateCluster", clusterName="demo")["cluster"]["clusterArn"]
    assert arn == "arn:aws:ecs:eu-west-1:123456789012:cluster/demo"
    assert len(here.ecs("ListClusters")["clusterArns"]) == 1
    role = "arn:aws:iam::222222222222:role/reader"
    assumed = here.call("sts", "AssumeRole", RoleArn=role, RoleSessionName="test")
    other = Api(ecs, key=assumed["Credentials"]["AccessKeyId"])
    assert ":222222222222:" in other.ecs("CreateCluster", clusterName="x")["cluster"]["clusterArn"]


@pytest.mark.parametrize("mode", ["bridge", "host", "awsvpc", "fargate"])
def test_populated_tasks_look_like_real_ones(ecs: LocalECS, api: Api, mode: str) -> None:
    """Every simulated shape passes the strict check and is RUNNING."""
    ecs.populate("many", services=4, tasks=12, instances=3, mode=mode)
    arns = api.ecs("ListTasks", cluster="many")["taskArns"]
    tasks = api.ecs("DescribeTasks", cluster="many", tasks=arns)["tasks"]
    assert {task["lastStatus"] for task in tasks} == {"RUNNING"}
    names = [f"svc-{number}" for number in range(4)]
    services = api.ecs("DescribeServices", cluster="many", services=names)["services"]
    assert [each["runningCount"] for each in services] == [3, 3, 3, 3]


def test_simulated_tasks_take_part_in_everything(ecs: LocalECS, api: Api) -> None:
    """The scheduler scales, rolls and replaces them without a process."""
    ecs.populate("many", services=1, tasks=4, instances=2)
    api.ecs("UpdateService", cluster="many", service="svc-0", desiredCount=6)
    until(lambda: _counts(api) == 6)
    arn = api.ecs("ListTasks", cluster="many")["taskArns"][0]
    api.ecs("StopTask", cluster="many", task=arn)
    until(
        lambda: (
            api.ecs("DescribeTasks", cluster="many", tasks=[arn])["tasks"][0]["lastStatus"]
            == "STOPPED"
        )
    )
    until(lambda: _counts(api) == 6)


def _counts(api: Api) -> int:
    answer = api.ecs("DescribeServices", cluster="many", services=["svc-0"])
    return int(answer["services"][0]["runningCount"])


def test_service_connect_adds_a_container(api: Api) -> None:
    """Without image, runtime id and size, HEALTHY, and named by an attachment that comes first."""
    define(api)
    connect = {"enabled": True, "namespace": "local"}
    api.ecs(
        "CreateService",
        cluster="demo",
        serviceName="s",
        taskDefinition="web",
        desiredCount=1,
        serviceConnectConfiguration=connect,
    )
    (arn,) = until(lambda: api.ecs("ListTasks", cluster="demo", serviceName="s")["taskArns"], 30)
    task = settled(api, arn)
    (attachment,) = task["attachments"]
    (own, injected) = task["containers"]
    assert attachment["type"] == "ServiceConnect"
    assert attachment["details"] == [{"name": "ContainerName", "value": injected["name"]}]
    assert injected["name"].startswith("ecs-service-connect-")
    assert (injected["healthStatus"], injected["lastStatus"]) == ("HEALTHY", "RUNNING")
    assert own.keys() - injected.keys() == {"image", "runtimeId", "cpu", "memory"}
    (service,) = api.ecs("DescribeServices", cluster="demo", services=["s"])["services"]
    assert service["deployments"][0]["serviceConnectConfiguration"] == connect
    api.ecs("StopTask", cluster="demo", task=arn)
    settled(api, arn, "STOPPED")

"""Documents of the local ECS in every shape and state that has been recorded from the real one."""

from __future__ import annotations

from typing import Any

from discovery.local.events import instance_event, task_event
from discovery.local.metadata import container_metadata, task_metadata
from tests.local.sandbox import Sandbox

TAGS = [{"key": "a", "value": "b"}]
LOGS = {
    "logDriver": "awslogs",
    "options": {
        "awslogs-create-group": "true",
        "awslogs-group": "g",
        "awslogs-region": "r",
        "awslogs-stream": "s",
    },
}
VPC = {"awsvpcConfiguration": {"subnets": ["subnet-1"], "securityGroups": ["sg-1"]}}


def bridge_service_running(sandbox: Sandbox) -> Any:
    """A task of an EC2 service with a static port."""
    sandbox.define(container={"portMappings": [{"containerPort": 80, "hostPort": 80}]})
    sandbox.service(desiredCount=1)
    sandbox.advance()
    return sandbox.running()[0]


def bridge_run_task(sandbox: Sandbox) -> Any:
    """RunTask's answer."""
    sandbox.define()
    strategy = [{"capacityProvider": "ours", "weight": 1}]
    answer = sandbox.api(
        "RunTask", cluster="demo", taskDefinition="web", capacityProviderStrategy=strategy
    )
    return answer["tasks"][0]


def bridge_start_task(sandbox: Sandbox) -> Any:
    """StartTask's answer."""
    sandbox.define()
    host = sandbox.api("ListContainerInstances", cluster="demo")["containerInstanceArns"][0]
    answer = sandbox.api(
        "StartTask", cluster="demo", taskDefinition="web", containerInstances=[host]
    )
    return answer["tasks"][0]


def _fargate(sandbox: Sandbox, **container: Any) -> str:
    sandbox.define(
        networkMode="awsvpc",
        requiresCompatibilities=["FARGATE"],
        cpu="256",
        memory="512",
        container={"memory": None} | container,
    )
    return sandbox.run(
        networkConfiguration=VPC,
        platformVersion="1.3.0",
        tags=TAGS,
        capacityProviderStrategy=[{"capacityProvider": "FARGATE_SPOT", "weight": 1}],
    )


def fargate_run_task(sandbox: Sandbox) -> Any:
    """RunTask's answer while the interface is only planned."""
    sandbox.define(
        networkMode="awsvpc",
        requiresCompatibilities=["FARGATE"],
        cpu="256",
        memory="512",
        container={"memory": None},
    )
    answer = sandbox.api(
        "RunTask",
        cluster="demo",
        taskDefinition="web",
        launchType="FARGATE",
        networkConfiguration=VPC,
    )
    return answer["tasks"][0]


def fargate_provisioning(sandbox: Sandbox) -> Any:
    """The interface is ATTACHING."""
    arn = _fargate(sandbox)
    sandbox.advance(0.02)
    return sandbox.task(arn)


def fargate_pending(sandbox: Sandbox) -> Any:
    """The interface is ATTACHED, nothing pulled yet."""
    arn = _fargate(sandbox)
    sandbox.advance(0.04)
    return sandbox.task(arn)


def fargate_service_running(sandbox: Sandbox) -> Any:
    """A task of a Fargate service."""
    _fargate(sandbox, memoryReservation=512)
    sandbox.service(
        desiredCount=1,
        launchType="FARGATE",
        networkConfiguration=VPC,
        tags=TAGS,
        propagateTags="SERVICE",
    )
    sandbox.advance()
    return sandbox.running(serviceName="web")[0]


def fargate_failed_to_start(sandbox: Sandbox) -> Any:
    """A container that could not be started."""
    sandbox.launcher.errors["app"] = "no"
    arn = _fargate(sandbox)
    sandbox.advance()
    return sandbox.task(arn)


def fargate_stop_task(sandbox: Sandbox) -> Any:
    """StopTask's answer for a service's task."""
    task = fargate_service_running(sandbox)
    return sandbox.api("StopTask", cluster="demo", task=task["taskArn"], reason="policy")["task"]


def event_of_stopped_bridge_task(sandbox: Sandbox) -> Any:
    """The last event of a task that ended by itself."""
    sandbox.define(container={"portMappings": []})
    arn = sandbox.run()
    sandbox.advance()
    sandbox.launcher.exit(sandbox.launcher.alive(arn)[0], 0)
    sandbox.advance()
    region, task = sandbox.regions.task(arn)
    return task_event(region.world, task)


def event_of_running_fargate_task(sandbox: Sandbox) -> Any:
    """The event of a Fargate task that runs."""
    arn = _fargate(sandbox)
    sandbox.advance()
    region, task = sandbox.regions.task(arn)
    return task_event(region.world, task)


def event_of_instance(sandbox: Sandbox) -> Any:
    """The event of a container instance."""
    region = sandbox.regions.at()
    return instance_event(region.world, next(region.world.state.instances()))


def instance_active(sandbox: Sandbox) -> Any:
    """A container instance."""
    hosts = sandbox.api("ListContainerInstances", cluster="demo")["containerInstanceArns"]
    answer = sandbox.api("DescribeContainerInstances", cluster="demo", containerInstances=hosts)
    return answer["containerInstances"][0]


def instance_draining(sandbox: Sandbox) -> Any:
    """A DRAINING container instance."""
    hosts = sandbox.api("ListContainerInstances", cluster="demo")["containerInstanceArns"]
    answer = sandbox.api(
        "UpdateContainerInstancesState",
        cluster="demo",
        containerInstances=hosts[:1],
        status="DRAINING",
    )
    return answer["containerInstances"][0]


def service_ec2(sandbox: Sandbox) -> Any:
    """A REPLICA service on EC2 with a placement strategy and tags."""
    sandbox.define()
    spread = {"type": "spread", "field": "instanceId"}
    sandbox.service(placementStrategy=[spread], tags=TAGS)
    sandbox.advance()
    answer = sandbox.api("DescribeServices", cluster="demo", services=["web"], include=["TAGS"])
    return answer["services"][0]


def service_fargate(sandbox: Sandbox) -> Any:
    """A Fargate service."""
    _fargate(sandbox)
    sandbox.service(
        launchType="FARGATE",
        networkConfiguration=VPC,
        tags=TAGS,
        deploymentController={"type": "ECS"},
    )
    sandbox.advance()
    answer = sandbox.api("DescribeServices", cluster="demo", services=["web"], include=["TAGS"])
    return answer["services"][0]


def service_capacity_provider(sandbox: Sandbox) -> Any:
    """A service with a capacity provider strategy, a load balancer and a registry."""
    _fargate(sandbox)
    sandbox.service(
        capacityProviderStrategy=[{"capacityProvider": "FARGATE", "weight": 1, "base": 0}],
        networkConfiguration=VPC,
        loadBalancers=[{"targetGroupArn": "a", "containerName": "app", "containerPort": 80}],
        serviceRegistries=[{"registryArn": "arn"}],
        healthCheckGracePeriodSeconds=0,
        deploymentController={"type": "ECS"},
        tags=TAGS,
    )
    sandbox.advance()
    answer = sandbox.api("DescribeServices", cluster="demo", services=["web"], include=["TAGS"])
    return answer["services"][0]


def cluster(sandbox: Sandbox) -> Any:
    """A cluster with tags and settings."""
    sandbox.api("CreateCluster", clusterName="tagged", tags=TAGS)
    answer = sandbox.api("DescribeClusters", clusters=["tagged"], include=["TAGS", "SETTINGS"])
    return answer["clusters"][0]


def definition(sandbox: Sandbox) -> Any:
    """A task definition of one awsvpc container with labels, logs and a volume."""
    sandbox.define(
        networkMode="awsvpc",
        requiresCompatibilities=["FARGATE"],
        cpu="256",
        memory="512",
        taskRoleArn="arn:role",
        executionRoleArn="arn:role",
        volumes=[{"name": "host-data", "host": {}}],
        container={
            "memory": None,
            "readonlyRootFilesystem": True,
            "dockerLabels": {"role": "db"},
            "mountPoints": [{"sourceVolume": "host-data", "containerPath": "/data"}],
            "logConfiguration": {
                "logDriver": "awslogs",
                "options": {
                    "awslogs-group": "g",
                    "awslogs-region": "r",
                    "awslogs-stream-prefix": "p",
                },
            },
        },
    )
    return sandbox.api("DescribeTaskDefinition", taskDefinition="web")["taskDefinition"]


def metadata_task(sandbox: Sandbox) -> Any:
    """`/taskWithTags` of an awsvpc task on EC2."""
    sandbox.define(networkMode="awsvpc", container={"portMappings": [], "logConfiguration": LOGS})
    sandbox.service(desiredCount=1, networkConfiguration=VPC)
    sandbox.advance()
    region, task = sandbox.regions.task(sandbox.running()[0]["taskArn"])
    task.tags = [{"key": "tag-use", "value": "x"}]
    assert task.instance is not None
    task.instance.tags = [{"key": "tag_key", "value": "x"}]
    return task_metadata(region.world, task, tagged=True)


def metadata_container(sandbox: Sandbox) -> Any:
    """The container's own page of an awsvpc task on EC2."""
    sandbox.define(networkMode="awsvpc", container={"portMappings": [], "logConfiguration": LOGS})
    arn = sandbox.run(networkConfiguration=VPC)
    sandbox.advance()
    region, task = sandbox.regions.task(arn)
    return container_metadata(region.world, task, task.containers[0])


def service_code_deploy(sandbox: Sandbox) -> Any:
    """A Fargate service of CodeDeploy, steady."""
    _fargate_definition(sandbox)
    sandbox.service(
        desiredCount=1,
        launchType="FARGATE",
        networkConfiguration=VPC,
        healthCheckGracePeriodSeconds=0,
        deploymentController={"type": "CODE_DEPLOY"},
        loadBalancers=[{"targetGroupArn": "a", "containerName": "app", "containerPort": 80}],
    )
    sandbox.advance()
    return sandbox.described()


def task_set(sandbox: Sandbox) -> Any:
    """A task set of an external controller, scaled to nothing."""
    sandbox.define(networkMode="awsvpc")
    wanted: Any = {"cluster": "demo", "service": "web"}
    sandbox.api(
        "CreateService",
        cluster="demo",
        serviceName="web",
        desiredCount=1,
        deploymentController={"type": "EXTERNAL"},
    )
    sandbox.api("CreateTaskSet", **wanted, taskDefinition="web", networkConfiguration=VPC)
    sandbox.advance()
    return sandbox.api("DescribeTaskSets", **wanted)["taskSets"][0]


def _released(sandbox: Sandbox) -> Any:
    _fargate_definition(sandbox)
    sandbox.service(
        desiredCount=1,
        networkConfiguration=VPC,
        capacityProviderStrategy=[{"capacityProvider": "FARGATE", "weight": 1, "base": 0}],
    )
    sandbox.advance()
    listed = sandbox.api("ListServiceDeployments", cluster="demo", service="web")
    return listed["serviceDeployments"][0]


def service_deployment(sandbox: Sandbox) -> Any:
    """A rolling deployment that is finished."""
    arns = [_released(sandbox)["serviceDeploymentArn"]]
    answer = sandbox.api("DescribeServiceDeployments", serviceDeploymentArns=arns)
    return answer["serviceDeployments"][0]


def service_revision(sandbox: Sandbox) -> Any:
    """The revision of that deployment."""
    arns = [_released(sandbox)["targetServiceRevisionArn"]]
    return sandbox.api("DescribeServiceRevisions", serviceRevisionArns=arns)["serviceRevisions"][0]


def _fargate_definition(sandbox: Sandbox) -> None:
    sandbox.define(
        networkMode="awsvpc",
        requiresCompatibilities=["FARGATE"],
        cpu="256",
        memory="512",
        container={"memory": None},
    )

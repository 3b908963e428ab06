"""A fixed AWS: answers calls from documents, counts them, and fails where it is told to.

Parameters that the API does not take fail the test: our clients do not validate them.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from botocore.validate import ParamValidator

from discovery.ecs.calls import CLUSTER_RESOURCES, EC2, Answer, Call, NoSuchService, Steps
from discovery.ecs.memory import Memory, Scope
from discovery.ecs.models import OPERATIONS
from discovery.ecs.plan import reading
from discovery.errors import SourceError
from discovery.model import ClusterReading, Service
from tests.ecs.documents import (
    ACCOUNT,
    Document,
    binding,
    container,
    container_definition,
    definition,
    model,
    port,
    service,
    task,
    task_arn,
)

SCOPE = Scope("prod", "prod")
CHECKED: Document = {"healthCheck": {"command": ["CMD", "true"]}}  # what a container has
Fail = Callable[[Call], SourceError | Mapping[str, Any] | None]


class FixedAws:
    """One cluster of documents. `fail` may answer a call in its place."""

    def __init__(self) -> None:
        self.tasks: dict[str, Document] = {}
        self.services: dict[str, Document] = {}
        self.definitions: dict[str, Document] = {}
        self.instances: dict[str, Document] = {}
        self.machines: dict[str, str] = {}
        self.managed: dict[str, str] = {}
        self.public: dict[str, str | None] = {}
        self.shares: dict[str, tuple[str, dict[str, float]]] = {}
        self.targets: dict[str, dict[tuple[str, int], str]] = {}
        self.revisions: dict[str, str] = {}
        self.unlisted: set[str] = set()
        self.fail: Fail = lambda call: None
        self.calls: list[Call] = []

    @property
    def groups(self) -> Counter[str]:
        """Calls by throttle group."""
        return Counter(call.group for call in self.calls)

    @property
    def operations(self) -> Counter[str]:
        """Calls by operation."""
        return Counter(call.operation for call in self.calls)

    def answer(self, call: Call) -> Answer:
        """The answer to one call."""
        self.calls.append(call)
        shape = model(call.service).operation_model(call.operation).input_shape
        assert shape is not None
        assert call.operation in OPERATIONS.get(call.service, {call.operation})
        problems = ParamValidator().validate(call.parameters, shape)
        assert not problems.has_errors(), problems.generate_report()
        failure = self.fail(call)
        if failure is not None:
            return failure
        answer: Answer = getattr(self, f"_{call.operation}")(**call.parameters)
        return answer

    def drive(self, steps: Steps[ClusterReading]) -> ClusterReading:
        """Hold a conversation to its end."""
        self.calls.clear()
        try:
            batch = next(steps)
            while True:
                batch = steps.send([self.answer(call) for call in batch])
        except StopIteration as end:
            result: ClusterReading = end.value
            return result

    def read(
        self,
        memory: Memory,
        now: float,
        wanted: set[str] | None = None,
        scope: Scope = SCOPE,
        is_quiet: bool = False,
    ) -> ClusterReading:
        """One read of the cluster, or of some names."""
        names = None if wanted is None else frozenset(wanted)
        return self.drive(reading(scope, memory, names, now, is_quiet))

    def add_task(self, document: Document) -> str:
        """Add a task; returns its ARN."""
        arn: str = document["taskArn"]
        self.tasks[arn] = document
        return arn

    def add_hosts(self, count: int) -> list[str]:
        """Add container instances on machines at 10.1.x.y; returns their ARNs."""
        arns = [f"{ACCOUNT}:container-instance/prod/{n:032x}" for n in range(1, count + 1)]
        for n, arn in enumerate(arns, 1):
            self.instances[arn] = {"containerInstanceArn": arn, "ec2InstanceId": f"i-{n:017x}"}
            self.machines[f"i-{n:017x}"] = f"10.1.{n // 256}.{n % 256}"
        return arns

    def add_service(
        self, name: str, count: int, hosts: list[str], mode: str = "bridge", **container_has: Any
    ) -> None:
        """Add a service with running tasks of a definition of its own."""
        arn = f"{ACCOUNT}:task-definition/{name}:1"
        self.services[name] = service(
            name,
            taskDefinition=arn,
            runningCount=count,
            deployments=[{"id": f"ecs-svc/{name}", "status": "PRIMARY", "taskDefinition": arn}],
        )
        app = container_definition("app", port(8080, "http"), **container_has)
        self.definitions[arn] = definition(app, arn=arn, networkMode=mode)
        for _ in range(count):
            number = len(self.tasks) + 1
            bindings = [binding(8080, 32_768 + number)] if mode == "bridge" else []
            self.add_task(
                task(
                    container("app", *bindings),
                    number=number,
                    group=f"service:{name}",
                    startedBy=f"ecs-svc/{name}",
                    taskDefinitionArn=arn,
                    containerInstanceArn=hosts[number % len(hosts)],
                )
            )

    def _ListTasks(self, nextToken: str = "0", **only: Any) -> Answer:  # noqa: N802, N803
        if "serviceName" in only and only["serviceName"] not in self.services:
            return NoSuchService("no such service")
        arns = [
            arn
            for arn, t in self.tasks.items()
            if arn not in self.unlisted
            and t["desiredStatus"] == "RUNNING"
            and only.get("serviceName") in (None, t["group"].removeprefix("service:"))
            and only.get("family") in (None, t["taskDefinitionArn"].split("/")[1].split(":")[0])
        ]
        return _page("taskArns", arns, int(nextToken))

    def _ListServices(self, nextToken: str = "0", **_: Any) -> Answer:  # noqa: N802, N803
        arns = [document["serviceArn"] for document in self.services.values()]
        return _page("serviceArns", arns, int(nextToken))

    def _DescribeTasks(self, tasks: list[str], **_: Any) -> Answer:  # noqa: N802
        assert len(tasks) <= 100
        missing = [{"arn": arn, "reason": "MISSING"} for arn in tasks if arn not in self.tasks]
        found = [self.tasks[arn] for arn in tasks if arn in self.tasks]
        return {"tasks": found, "failures": missing}

    def _DescribeServices(self, services: list[str], **_: Any) -> Answer:  # noqa: N802
        assert len(services) <= 10
        found = [self.services[n] for n in services if n in self.services]
        arns = [f"{ACCOUNT}:service/prod/{n}" for n in services if n not in self.services]
        return {"services": found, "failures": [{"arn": a, "reason": "MISSING"} for a in arns]}

    def _DescribeTargetHealth(self, TargetGroupArn: str) -> Answer:  # noqa: N802, N803
        found = [
            {
                "Target": {"Id": name, "Port": number},
                "TargetHealth": {"State": state, "Reason": "Elb.InitialHealthChecking"},
            }
            for (name, number), state in self.targets[TargetGroupArn].items()
        ]
        return {"TargetHealthDescriptions": found}

    def _ListServiceDeployments(self, service: str, **_: Any) -> Answer:  # noqa: N802
        found = [arn for arn, (name, _) in self.shares.items() if name == service]
        return {"serviceDeployments": [{"serviceDeploymentArn": arn} for arn in found]}

    def _DescribeServiceRevisions(  # noqa: N802
        self,
        serviceRevisionArns: list[str],  # noqa: N803
    ) -> Answer:
        found = [
            {"serviceRevisionArn": arn, "taskDefinition": self.revisions[arn]}
            for arn in serviceRevisionArns
            if arn in self.revisions
        ]
        return {"serviceRevisions": found}

    def _DescribeServiceDeployments(  # noqa: N802
        self,
        serviceDeploymentArns: list[str],  # noqa: N803
    ) -> Answer:
        found = []
        for arn in serviceDeploymentArns:
            name, shares = self.shares[arn]
            revisions: list[Document] = [
                {"arn": f"revision/{number}", "requestedProductionTrafficWeight": share}
                for number, share in shares.items()
            ]
            found.append(
                {
                    "serviceDeploymentArn": arn,
                    "serviceArn": f"{ACCOUNT}:service/prod/{name}",
                    "targetServiceRevision": revisions[-1],
                    "sourceServiceRevisions": revisions[:-1],
                }
            )
        return {"serviceDeployments": found}

    def _DescribeClusters(self, clusters: list[str]) -> Answer:  # noqa: N802
        return {"clusters": [{"clusterName": clusters[0], "runningTasksCount": len(self.tasks)}]}

    def _DescribeTaskDefinition(self, taskDefinition: str) -> Answer:  # noqa: N802, N803
        return self.definitions[taskDefinition]

    def _DescribeContainerInstances(  # noqa: N802
        self,
        containerInstances: list[str],  # noqa: N803
        **_: Any,
    ) -> Answer:
        assert len(containerInstances) <= 100
        known = [self.instances[a] for a in containerInstances if a in self.instances]
        unknown = [a for a in containerInstances if a not in self.instances]
        missing = [{"arn": arn, "reason": "MISSING"} for arn in unknown]
        return {"containerInstances": known, "failures": missing}

    def _DescribeInstances(self, Filters: list[Document]) -> Answer:  # noqa: N802, N803
        (ids,) = (f["Values"] for f in Filters if f["Name"] == "instance-id")
        assert len(ids) <= 200
        found = [
            {"InstanceId": i, "PrivateIpAddress": self.machines[i]}
            for i in ids
            if i in self.machines
        ]
        return {"Reservations": [{"Instances": found}]}

    def _DescribeInstanceInformation(  # noqa: N802
        self,
        Filters: list[Document],  # noqa: N803
        **_: Any,
    ) -> Answer:
        ids = Filters[0]["Values"]
        assert len(ids) <= 50
        found = [{"InstanceId": i, "IPAddress": self.managed[i]} for i in ids if i in self.managed]
        return {"InstanceInformationList": found}

    def _DescribeNetworkInterfaces(self, Filters: list[Document]) -> Answer:  # noqa: N802, N803
        found = [
            {"NetworkInterfaceId": i, "Association": {"PublicIp": self.public[i]}}
            for i in Filters[0]["Values"]
            if i in self.public
        ]
        return {"NetworkInterfaces": found}


def _page(key: str, items: list[str], start: int) -> Document:
    page: Document = {key: items[start : start + 100]}
    return {**page, "nextToken": str(start + 100)} if len(items) > start + 100 else page


def large_cluster(**container_has: Any) -> FixedAws:
    """1,000 tasks on 50 instances in 100 services with a bridge definition each."""
    aws = FixedAws()
    hosts = aws.add_hosts(50)
    for n in range(100):
        aws.add_service(f"service-{n:03}", 10, hosts, **container_has)
    return aws


def by_name(found: ClusterReading) -> dict[str, Service]:
    """The services of a reading by name."""
    return {s.name: s for s in found.services}


def small_cluster(mode: str = "bridge", **counts: int) -> FixedAws:
    """Services with the given numbers of tasks on two hosts."""
    aws = FixedAws()
    hosts = aws.add_hosts(2)
    for name, count in (counts or {"orders": 2, "users": 1}).items():
        aws.add_service(name, count, hosts, mode)
    return aws


def fail_on(error: SourceError, operation: str, *, after: int = 0) -> Any:
    """Fail an operation from its call number `after` on."""
    seen = 0

    def fail(call: Call) -> SourceError | None:
        nonlocal seen
        if call.operation != operation:
            return None
        seen += 1
        return error if seen > after else None

    return fail


def sizes(found: ClusterReading) -> dict[str, int]:
    """The number of endpoints by service."""
    return {s.name: len(s.endpoints) for s in found.services}


__all__ = [
    "CHECKED",
    "CLUSTER_RESOURCES",
    "EC2",
    "SCOPE",
    "FixedAws",
    "by_name",
    "fail_on",
    "large_cluster",
    "sizes",
    "small_cluster",
    "task_arn",
]

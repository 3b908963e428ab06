"""Service operations: create, update, delete, list, describe.

They only record what is wanted; `scheduler.py` makes it so.
"""

from __future__ import annotations

import re

from discovery.local import definitions, orders, registration, releases, tasksets
from discovery.local.documents import service_document
from discovery.local.errors import invalid, service_not_active, service_not_found
from discovery.local.ids import last_part
from discovery.local.pages import page
from discovery.local.state import Cluster, Definition, Document, Service
from discovery.local.world import World

_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}$")
_DESCRIBE_LIMIT = 10
_LIST_DEFAULT = 10
_CHECKED = {"launchType", "capacityProviderStrategy", "platformVersion", "networkConfiguration"}
_CONNECT = "serviceConnectConfiguration"
_DEPLOYED = _CHECKED | {_CONNECT}
_OF_DEPLOYMENT = (*sorted(_CHECKED), "volumeConfigurations")
_CONTROLLED = {
    "taskDefinition": "task definition",
    "networkConfiguration": "network parameters",
    "platformVersion": "platform version",
    "forceNewDeployment": "force new deployment",
}
_STRATEGIES = ("ROLLING", "BLUE_GREEN", "LINEAR", "CANARY")
_ECHOED = (
    "loadBalancers",
    "serviceRegistries",
    "placementConstraints",
    "placementStrategy",
    "networkConfiguration",
    "healthCheckGracePeriodSeconds",
    "enableECSManagedTags",
    "enableExecuteCommand",
    "propagateTags",
    "capacityProviderStrategy",
    "availabilityZoneRebalancing",
    "deploymentController",
)


def create_service(world: World, request: Document) -> Document:
    """CreateService: idempotence is by name; an ACTIVE or DRAINING one refuses a second."""
    cluster = world.cluster(request.get("cluster"))
    name = request.get("serviceName")
    if not isinstance(name, str) or not _NAME.match(name):
        raise invalid("Service name must be between 1 and 255 letters, numbers, - and _.")
    found = cluster.services.get(name)
    token = request.get("clientToken")
    if found is not None and found.status == "ACTIVE":
        if token is not None and token == found.client_token:
            return {"service": service_document(found, {"TAGS"})}
        raise invalid("Creation of service was not idempotent.")
    if found is not None and found.status == "DRAINING":
        raise invalid("Unable to Start a service that is still Draining.")
    strategy = request.get("schedulingStrategy") or "REPLICA"
    if strategy not in ("REPLICA", "DAEMON"):
        raise invalid("Invalid scheduling strategy.")
    if strategy == "DAEMON":
        _check_daemon(request)
    desired = request.get("desiredCount")
    if strategy == "REPLICA" and (not isinstance(desired, int) or desired < 0):
        raise invalid("The desiredCount must be specified and not be negative.")
    made = _new(world, cluster, request, name, strategy, 0 if strategy == "DAEMON" else desired)
    made.client_token = token
    if made.controller != "EXTERNAL":
        _launch(world, made, request)
    elif "taskDefinition" in request:
        raise invalid("A service with an EXTERNAL deployment controller has no task definition.")
    cluster.services[name] = made
    world.wake(made)
    return {"service": service_document(made, {"TAGS"})}


def _check_daemon(request: Document) -> None:
    """What a service of one task on each host cannot have."""
    refused = {
        "desiredCount": "a desired count for services. Remove the desired count value",
        "placementStrategy": "placement strategies. Remove the placement strategy",
    }
    for member, what in refused.items():
        if request.get(member) not in (None, []):
            raise invalid(f"The daemon scheduling strategy does not support {what} and try again")
    if request.get("capacityProviderStrategy"):
        raise invalid(
            "Specifying a capacity provider strategy is not supported when you create a service "
            "using the DAEMON scheduling strategy."
        )
    if request.get("launchType") == "FARGATE":
        raise invalid("The daemon scheduling strategy does not support the FARGATE launch type.")
    controller = (request.get("deploymentController") or {}).get("type", "ECS")
    if controller != "ECS":
        raise invalid(
            f"The daemon scheduling strategy does not support the {controller} deployment "
            "controller."
        )


def _launch(world: World, made: Service, request: Document) -> None:
    """The first deployment, or with CodeDeploy the first task set, which is PRIMARY."""
    definition = definitions.usable(world, request.get("taskDefinition"))
    launch_type, provider = orders.launch_of(request)
    orders.check_launch(definition, launch_type, request.get("networkConfiguration"))
    _check_load_balancers(world, definition, request.get("loadBalancers") or [])
    made.document |= _launch_members(launch_type, provider, request)
    made.simulated = made.cluster.simulated or orders.is_simulated(definition)
    if made.controller == "ECS":
        releases.deploy(world, made, definition, _settings(made.document) | _connect(request))
        return
    first = tasksets.add(world, made, definition, _settings(made.document), 100.0)
    first.status = "PRIMARY"
    first.balancers = tuple(made.document["loadBalancers"])
    first.registries = tuple(made.document["serviceRegistries"])


def _new(
    world: World, cluster: Cluster, request: Document, name: str, strategy: str, desired: object
) -> Service:
    defaults = {
        "loadBalancers": [],
        "serviceRegistries": [],
        "placementConstraints": [],
        "placementStrategy": [],
        "enableECSManagedTags": False,
        "enableExecuteCommand": False,
        "propagateTags": "NONE",
    }
    document = defaults | {name: request[name] for name in _ECHOED if name in request}
    document |= orders.network_member(request.get("networkConfiguration"))
    if document["loadBalancers"] or document["serviceRegistries"] or "awsvpc" in str(document):
        document["roleArn"] = (
            f"arn:aws:iam::{world.state.account}:role/aws-service-role/"
            "ecs.amazonaws.com/AWSServiceRoleForECS"
        )
    controller = str((request.get("deploymentController") or {}).get("type", "ECS"))
    document["createdBy"] = f"arn:aws:iam::{world.state.account}:root"
    document["deploymentConfiguration"] = _configuration(
        {}, request.get("deploymentConfiguration"), strategy, controller
    )
    return Service(
        arn=world.ids.arn(f"service/{cluster.name}/{name}"),
        name=name,
        cluster=cluster,
        strategy=strategy,
        desired=int(str(desired)),
        created_at=world.now(),
        document=document,
        tags=list(request.get("tags") or []),
    )


def _configuration(
    before: Document, given: Document | None, strategy: str, controller: str
) -> Document:
    daemon = strategy == "DAEMON"
    defaults: Document = {
        "maximumPercent": 100 if daemon else 200,
        "minimumHealthyPercent": 0 if daemon else 100,
    }
    if controller == "ECS":
        defaults |= {
            "deploymentCircuitBreaker": {"enable": False, "rollback": False},
            "strategy": "ROLLING",
            "bakeTimeInMinutes": 0,
        }
    made = defaults | before | (given or {})
    _check_strategy(made)
    if made["maximumPercent"] <= made["minimumHealthyPercent"] == 100:
        raise invalid("maximumPercent must be greater than 100 if minimumHealthyPercent is 100.")
    return made


def _check_strategy(configuration: Document) -> None:
    if configuration.get("strategy", "ROLLING") not in _STRATEGIES:
        raise invalid(f"The deployment strategy must be one of [{', '.join(_STRATEGIES)}].")
    linear = configuration.get("linearConfiguration") or {}
    if not 3 <= linear.get("stepPercent", 10.0) <= 100:
        raise invalid("The stepPercent must be between 3.0 and 100.0.")
    canary = configuration.get("canaryConfiguration") or {}
    if not 0.1 <= canary.get("canaryPercent", 5.0) <= 100:
        raise invalid("The canaryPercent must be between 0.1 and 100.0.")


def _launch_members(launch_type: str, provider: str | None, request: Document) -> Document:
    """A service with a capacity provider strategy has no `launchType`."""
    found: Document = {} if provider else {"launchType": launch_type}
    if launch_type == "FARGATE":
        found |= {
            "platformVersion": request.get("platformVersion") or "LATEST",
            "platformFamily": "Linux",
        }
    return found


def _settings(document: Document) -> Document:
    """What a deployment shows and starts its tasks with; `LATEST` is resolved."""
    found = {name: document[name] for name in _OF_DEPLOYMENT if name in document}
    if document.get("platformFamily"):
        latest = found.get("platformVersion") == "LATEST"
        found |= {"platformFamily": document["platformFamily"]}
        found["platformVersion"] = "1.4.0" if latest else found.get("platformVersion")
    return found


def _connect(given: Document) -> Document:
    """Service Connect is the deployments' own: the service does not show it."""
    return {_CONNECT: given[_CONNECT]} if _CONNECT in given else {}


def _check_load_balancers(world: World, definition: Definition, balancers: list[Document]) -> None:
    registration.check_types(world, definition, balancers)
    for balancer in balancers:
        name, port = balancer.get("containerName"), balancer.get("containerPort")
        ports = {
            mapping.get("containerPort")
            for container in definition.containers
            if container["name"] == name
            for mapping in container["portMappings"]
        }
        if port not in ports:
            raise invalid(f"The container {name} did not have a container port {port} defined.")


def find(cluster: Cluster, named: object) -> Service | None:
    """The service of that name or ARN, None when the cluster never had it."""
    found = cluster.services.get(last_part(str(named)))
    if found is not None and str(named).startswith("arn:") and found.arn != named:
        return None
    return found


def update_service(world: World, request: Document) -> Document:
    """UpdateService: a change of what tasks are made of is a new deployment."""
    cluster = world.cluster(request.get("cluster"))
    service = find(cluster, request.get("service"))
    if service is None:
        raise service_not_found()
    if service.status != "ACTIVE":
        raise service_not_active()
    document = service.document | {name: request[name] for name in _ECHOED if name in request}
    document |= orders.network_member(request.get("networkConfiguration"))
    if "capacityProviderStrategy" in request:
        document.pop("launchType", None)
    if "platformVersion" in request:
        document["platformVersion"] = request["platformVersion"]
    document["deploymentConfiguration"] = _configuration(
        document["deploymentConfiguration"],
        request.get("deploymentConfiguration"),
        service.strategy,
        service.controller,
    )
    if service.controller != "ECS":
        _update_controlled(world, service, request, document)
        return {"service": service_document(service, {"TAGS"})}
    definition = service.primary.definition
    if "taskDefinition" in request:
        definition = definitions.usable(world, request["taskDefinition"])
    _, _ = orders.launch_of(document | {"launchType": document.get("launchType")})
    orders.check_launch(
        definition, str(document.get("launchType") or "EC2"), document.get("networkConfiguration")
    )
    _apply(world, service, request, document, definition)
    return {"service": service_document(service, {"TAGS"})}


def _update_controlled(
    world: World, service: Service, request: Document, document: Document
) -> None:
    """Its controller deploys: here only numbers and the like are changed."""
    for member, what in _CONTROLLED.items():
        if member in request:
            raise invalid(
                f"Unable to update {what} on services with a {service.controller} deployment "
                "controller."
            )
    service.document = document
    service.desired = _desired(request, service.desired)
    service.wait_until = 0.0
    service.encoded = None
    world.wake(service)


def _desired(request: Document, before: int) -> int:
    desired = request.get("desiredCount", before)
    if not isinstance(desired, int) or desired < 0:
        raise invalid("The desiredCount must not be negative.")
    return desired


def _apply(
    world: World, service: Service, request: Document, document: Document, definition: Definition
) -> None:
    desired = _desired(request, service.desired)
    if "desiredCount" in request:
        releases.rescale(service, desired)
        service.primary.updated_at = world.now()
        service.primary.steady = False
    redeployed = bool(request.get("forceNewDeployment")) or bool(_DEPLOYED & request.keys())
    changed = definition is not service.primary.definition
    service.document = document
    if redeployed or changed:
        settings = _settings(document) | _connect(service.primary.settings) | _connect(request)
        releases.deploy(world, service, definition, settings)
    service.wait_until = 0.0
    service.encoded = None
    world.wake(service)


def delete_service(world: World, request: Document) -> Document:
    """DeleteService: DRAINING until its tasks are gone, then INACTIVE."""
    cluster = world.cluster(request.get("cluster"))
    service = find(cluster, request.get("service"))
    if service is None or service.status == "INACTIVE":
        raise service_not_found()
    if service.desired > 0 and service.strategy == "REPLICA" and not request.get("force"):
        raise invalid("The service cannot be stopped while it is scaled above 0.")
    service.status = "DRAINING"
    service.desired = 0
    for deployment in service.deployments:
        deployment.desired = 0
    service.encoded = None
    world.wake(service)
    return {"service": service_document(service, set())}


def list_services(world: World, request: Document) -> Document:
    """ListServices: 10 a page unless asked for more; INACTIVE ones are not listed."""
    cluster = world.cluster(request.get("cluster"))
    strategy, launch_type = request.get("schedulingStrategy"), request.get("launchType")
    items = [
        (position, service.arn)
        for position, service in enumerate(cluster.services.values())
        if service.status != "INACTIVE"
        and strategy in (None, service.strategy)
        and launch_type in (None, service.document.get("launchType"))
    ]
    found, token = page(world.run.pages, "ListServices", request, items, _LIST_DEFAULT)
    return {"serviceArns": found} | ({"nextToken": token} if token else {})


def describe_services(world: World, request: Document) -> Document:
    """DescribeServices: at most 10; INACTIVE ones are described, unknown ones are failures."""
    cluster = world.cluster(request.get("cluster"))
    named = request.get("services") or []
    if not named:
        raise invalid("Services cannot be empty.")
    if len(named) > _DESCRIBE_LIMIT:
        raise invalid("Services cannot contain more than 10 elements")
    include = set(request.get("include") or ())
    found, failures = [], []
    for name in named:
        service = find(cluster, name)
        if service is None:
            arn = name
            if not str(name).startswith("arn:"):
                arn = world.ids.arn(f"service/{cluster.name}/{name}")
            failures.append({"arn": arn, "reason": "MISSING"})
        else:
            found.append(service_document(service, include))
    return {"services": found, "failures": failures}


OPERATIONS = {
    "CreateService": create_service,
    "UpdateService": update_service,
    "DeleteService": delete_service,
    "ListServices": list_services,
    "DescribeServices": describe_services,
}

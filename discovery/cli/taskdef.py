"""`taskdef`: what to register with ECS, so that the sidecar runs there."""

import math
from typing import Any

import click

from discovery.cli import options, output
from discovery.cli.layers import Given
from discovery.cli.permissions import Reading, policy, trust
from discovery.errors import BadInput
from discovery.settings import Settings, variable
from discovery.written import ClusterSettings

Document = dict[str, Any]
_MEMORY_MIB = 128  # reserved; the README says what was measured
_SLACK_S = 5.0  # between the last answer and the end of the process


@click.command()
@click.argument("what", type=click.Choice(["sidecar", "daemon", "policy", "trust"]))
@click.option("--image", default="ecs-discovery:latest", show_default=True, help="The image.")
@click.option("--role", metavar="ARN", help="Role of the daemon's task, which has the policy.")
@click.option("--ecs-anywhere", is_flag=True, help="Have the policy allow ECS Anywhere.")
@options.settings("clusters", "public_addresses", "target_health", "events", "lame_duck")
def command(what: str, image: str, role: str | None, ecs_anywhere: bool, given: Given) -> int:
    """Print a definition for ECS or IAM, as JSON.

    sidecar is a container definition to add to a task definition in awsvpc mode, whose other
    containers then find it at 127.0.0.1. daemon is a whole task definition for one sidecar on each
    EC2 instance. policy is what the task role must allow, and trust who may assume it.

    \b
    examples:
      ecs-discovery taskdef sidecar --image registry.example/ecs-discovery:1
      ecs-discovery taskdef daemon --role arn:aws:iam::123456789012:role/ecs-discovery
      ecs-discovery taskdef policy --cluster arn:aws:ecs:eu-west-1:123456789012:cluster/prod
      aws ecs register-task-definition --cli-input-json "$(ecs-discovery taskdef daemon)"
    """
    documents = {
        "sidecar": lambda: sidecar(image, given.settings),
        "daemon": lambda: daemon(image, role, given.settings),
        "policy": lambda: policy(Reading(given.settings, ecs_anywhere)),
        "trust": trust,
    }
    output.as_json(documents[what]())
    return 0


def sidecar(image: str, settings: Settings) -> Document:
    """The container definition, not essential: the application outlives it."""
    return _container(image, settings) | {"essential": False}


def daemon(image: str, role: str | None, settings: Settings) -> Document:
    """The task definition of a daemon in host mode, where containers find it at 172.17.0.1."""
    ports = (("dns", 53, "udp"), ("dns-tcp", 53, "tcp"), ("http", 8053, "tcp"))
    container = _container(image, settings) | {
        "essential": True,
        "portMappings": [
            {"name": name, "containerPort": port, "protocol": protocol}
            for name, port, protocol in ports
        ],
    }
    document: Document = {
        "family": "ecs-discovery",
        "networkMode": "host",
        "requiresCompatibilities": ["EC2"],
        "containerDefinitions": [container],
    }
    return document | ({"taskRoleArn": role} if role else {})


def _container(image: str, settings: Settings) -> Document:
    container: Document = {
        "name": "discovery",
        "image": image,
        "command": ["ecs-discovery", "serve"],
        "user": "0",  # for port 53
        "readonlyRootFilesystem": True,
        "memoryReservation": _MEMORY_MIB,
        "healthCheck": {
            "command": ["CMD", "ecs-discovery", "health"],
            "interval": 10,
            "timeout": 3,
            "retries": 3,
            "startPeriod": 10,
        },
        "stopTimeout": math.ceil(settings.lame_duck_s + _SLACK_S),
    }
    environment = {}
    if settings.clusters:  # else it reads the one that it runs in
        environment[variable("clusters")] = ",".join(map(_written, settings.clusters))
    if settings.events is not None:
        environment[variable("events")] = settings.events
    if environment:
        container["environment"] = [{"name": n, "value": v} for n, v in environment.items()]
    return container


def _written(cluster: ClusterSettings) -> str:
    if cluster.alias or cluster.role_arn:
        raise BadInput(
            f"cluster {cluster.label} has an alias or a role, which only a file can say: put the"
            " file into the image and name it in ECS_DISCOVERY_CONFIG"
        )
    return cluster.arn or "/".join(part for part in (cluster.region, cluster.name) if part)

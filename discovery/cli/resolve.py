"""`resolve NAME`: the endpoints of a service, as a table or as JSON."""

import time

import click

from discovery import documents
from discovery.cli import options, output
from discovery.cli.finding import resolver_of
from discovery.cli.layers import Given
from discovery.client.resolver import Resolver
from discovery.errors import DiscoveryError, NoEndpoints
from discovery.model import Endpoint

COLUMNS = ("HOST", "PORT", "PROTOCOL", "HEALTH", "ZONE", "CONTAINER", "TASK")


@click.command()
@click.argument("name")
@options.settings(*options.FINDING)
@options.as_json
def command(name: str, given: Given, as_json: bool) -> int:
    """Print the endpoints of a service: host IP and mapped port.

    NAME is [_PORT._PROTO.]SERVICE[.CLUSTER], PORT a port's name or the container's port.

    \b
    examples:
      ecs-discovery resolve orders --cluster prod
      ecs-discovery resolve _admin._tcp.orders.prod
      ecs-discovery resolve orders --json | jq -r '.endpoints[].url'
    """
    with resolver_of(given) as resolver:
        with output.progress("reading …"):
            service = resolver.service(name)
        endpoints = resolver.endpoints(name)
        if as_json:
            body = documents.endpoints(
                service, resolver.snapshot, time.time(), name=name, only=endpoints
            )
            output.as_json(body)
        elif endpoints:
            output.table(COLUMNS, map(row, endpoints))
        return 0 if endpoints else _said_why(resolver, name)


def row(endpoint: Endpoint) -> tuple[object, ...]:
    """An endpoint under `COLUMNS`."""
    return (
        endpoint.host,
        endpoint.port,
        endpoint.protocol,
        endpoint.health,
        endpoint.zone,
        endpoint.container,
        output.task_id(endpoint.task_arn),
    )


def why_none(resolver: Resolver, name: str) -> str | None:
    """Why there is no endpoint, in a sentence; `None` where there is one after all."""
    try:
        resolver.pick(name)
    except DiscoveryError as error:
        return error.message
    return None


def _said_why(resolver: Resolver, name: str) -> int:
    """Say why there is no endpoint; the exit code."""
    why = why_none(resolver, name)
    if why is None:
        return 0  # one came up since
    output.say(why)
    return NoEndpoints.exit_code

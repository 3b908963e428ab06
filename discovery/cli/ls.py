"""`ls`: all services of the clusters, as a table or as JSON."""

import time

import click

from discovery import documents
from discovery.cli import options, output
from discovery.cli.finding import resolver_of
from discovery.cli.layers import Given
from discovery.model import Service

COLUMNS = ("SERVICE", "CLUSTER", "KIND", "ENDPOINTS", "EXCLUDED", "PORTS")


@click.command()
@options.settings(*options.FINDING)
@options.as_json
def command(given: Given, as_json: bool) -> int:
    """List the services and how many endpoints each has.

    \b
    examples:
      ecs-discovery ls --cluster prod
      ecs-discovery ls --cluster prod --cluster eu-west-1/stage --json
    """
    with resolver_of(given) as resolver:
        with output.progress("reading …"):
            services = resolver.services()
        snapshot = resolver.snapshot
    if as_json:
        output.as_json(documents.services(snapshot, time.time()))
    else:
        output.table(COLUMNS, map(_row, services))
    return _said_failures([(c.label, c.error) for c in snapshot.clusters])


def _row(service: Service) -> tuple[object, ...]:
    ports = ", ".join(f"{port.label}" for port in service.ports) or None
    return (
        service.name,
        service.cluster,
        service.kind,
        len(service.endpoints),
        len(service.exclusions),
        ports,
    )


def _said_failures(clusters: list[tuple[str, str | None]]) -> int:
    """A list that lacks a cluster says so; the exit code."""
    failed = [(label, error) for label, error in clusters if error]
    for label, error in failed:
        output.say(f"cluster {label} could not be read: {error}")
    return 3 if failed else 0

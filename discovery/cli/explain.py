"""`explain NAME`: every task of a service, kept or dropped, and why."""

import click

from discovery import documents
from discovery.cli import options, output
from discovery.cli.finding import resolver_of
from discovery.cli.layers import Given
from discovery.model import Service
from discovery.names import MAX_LABEL, fits_dns, parse

COLUMNS = ("TASK", "CONTAINER", "PORT", "VERDICT", "REASON")


@click.command()
@click.argument("name")
@options.settings(*options.FINDING)
@options.as_json
def command(name: str, given: Given, as_json: bool) -> int:
    """Say of every task of a service whether it is an endpoint, and why.

    \b
    examples:
      ecs-discovery explain orders --cluster prod
      ecs-discovery explain orders.prod --json
    """
    with resolver_of(given) as resolver:
        with output.progress("reading …"):
            service = resolver.service(name)
        if parse(name, resolver.snapshot.labels, given.settings.zone).port is not None:
            resolver.endpoints(name)  # has the error to say of a port that there is not
    body = documents.explanation(service)
    if as_json:
        output.as_json(body)
    else:
        output.table(COLUMNS, map(_row, body["tasks"]))
        _say_where_it_is_not(service)
    return 0 if service.endpoints else 1


def _row(task: documents.Document) -> tuple[object, ...]:
    return (
        output.task_id(task["task_arn"]),
        task["container"],
        task["container_port"],
        task["verdict"],
        task["reason"],
    )


def _say_where_it_is_not(service: Service) -> None:
    if not service.endpoints and not service.exclusions:
        output.say(f"{service.full_name} exists and has no task")
    if not (fits_dns(service.name) and fits_dns(service.cluster)):
        output.say(
            f"{service.full_name} is in HTTP and Python only: DNS labels hold {MAX_LABEL} octets"
            " and no dot"
        )

"""`watch NAME`: the endpoints of a service now, and every change until it is interrupted."""

import logging
import signal
import sys
import time

import click

from discovery import documents
from discovery.cli import live, options, output
from discovery.cli.changes import changes
from discovery.cli.finding import resolver_of
from discovery.cli.layers import Given
from discovery.client.resolver import Resolver
from discovery.errors import DiscoveryError
from discovery.events import Listeners
from discovery.model import Endpoint
from discovery.sidecar import logs


@click.command()
@click.argument("name")
@options.settings(*options.FINDING, "interval")
@options.as_json
def command(name: str, given: Given, as_json: bool) -> int:
    """Print a service's endpoints, and every change, until it is interrupted.

    On a terminal it is a table that follows, with the last changes below; elsewhere each change is
    a line. + is an endpoint that came, - one that went, ~ one that differs, as in its health.
    With --json each change is one line with all endpoints.

    \b
    examples:
      ecs-discovery watch orders --cluster prod
      ecs-discovery watch orders --interval 2s --json
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    listeners = Listeners()
    try:
        with resolver_of(given, listeners) as resolver:
            console = output.console()
            if sys.stdout.isatty() and not console.is_dumb_terminal and not as_json:
                live.watch(resolver, name, console)
            else:
                _watch(resolver, listeners, name, as_json)
    except KeyboardInterrupt:
        return 0
    return 0


def _watch(resolver: Resolver, listeners: Listeners, name: str, as_json: bool) -> None:
    before: tuple[Endpoint, ...] | None = None
    for endpoints in resolver.watch(name):
        if before is None:  # what fails before the first answer is the command's error
            logs.configure(logging.WARNING)
            listeners.subscribe(logs.Narrator())
        if as_json:
            output.as_json(_document(resolver, name, endpoints), indented=False)
        else:
            _print(changes(before or (), endpoints) or ["  no endpoint"])
        before = endpoints


def _document(resolver: Resolver, name: str, endpoints: tuple[Endpoint, ...]) -> documents.Document:
    try:
        service = resolver.service(name)
    except DiscoveryError as gone:
        return documents.error(gone)
    return documents.endpoints(service, resolver.snapshot, time.time(), name=name, only=endpoints)


def _print(lines: list[str]) -> None:
    now = time.strftime("%H:%M:%S")
    for line in lines:
        click.echo(f"{now}  {line}")

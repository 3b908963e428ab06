"""`doctor`: what works, what does not, and what to do about it."""

import os
from collections.abc import Iterator
from dataclasses import asdict

import click

from discovery.cli import (
    findings,
    findings_aws,
    findings_sidecar,
    findings_source,
    options,
    output,
)
from discovery.cli.finding import resolver_of
from discovery.cli.findings import Finding
from discovery.cli.layers import Given
from discovery.errors import BadSetting, DiscoveryError
from discovery.names import parse
from discovery.written import duration

COLUMNS = ("CHECK", "STATE", "WHAT")


@click.command()
@click.option(
    "--connect",
    "names",
    multiple=True,
    metavar="NAME ...",
    help="Connect to each endpoint of that service, too.",
)
@click.option(
    "--client-cache",
    default="0s",
    metavar="DURATION",
    help="How long callers keep addresses beyond the TTL (30s in a JVM without a setting).",
)
@options.settings(*options.SERVING)
@options.as_json
def command(names: tuple[str, ...], client_cache: str, given: Given, as_json: bool) -> int:
    """Check credentials, each IAM action, clusters, addresses and times; say how to mend it.

    Each action is tried with one small call, those on the queue of events, too; a hub, a store or
    a file is read once; a sidecar that runs here is asked how old its data is. With --connect it
    tells a refused connection, where nothing listens, from one without an answer, where a security
    group or a route is in the way.

    \b
    examples:
      ecs-discovery doctor --cluster prod
      ecs-discovery doctor --cluster prod --connect orders
      ecs-discovery doctor --json
    """
    try:
        cache_s = duration(client_cache)
    except ValueError as why:
        raise BadSetting("--client-cache", client_cache, str(why)) from None
    found = []
    with output.progress("looking …") as status:
        for finding in _all(given, names, cache_s):
            found.append(finding)
            status.update(f"{finding.check} …")
    if as_json:
        output.as_json({"findings": [asdict(finding) for finding in found]})
    else:
        _print(found)
    return 1 if any(finding.state == "failed" for finding in found) else 0


def _all(given: Given, names: tuple[str, ...], cache_s: float) -> Iterator[Finding]:
    settings = given.settings
    yield from findings.of_metadata(os.environ)
    try:
        given.need_cluster()
    except DiscoveryError as error:
        yield Finding("settings", "failed", error.message, "see ecs-discovery config")
        return
    yield from findings_aws.of_aws(settings, os.environ)
    yield from findings_source.of_source(settings)
    yield from findings_sidecar.of_sidecar(settings)
    yield from findings.of_times(settings, cache_s)
    for name in names:
        yield from _connecting(given, name)


def _connecting(given: Given, name: str) -> Iterator[Finding]:
    try:
        with resolver_of(given) as resolver:
            service = resolver.service(name)
            asked = parse(name, resolver.snapshot.labels, given.settings.zone)
            endpoints = resolver.endpoints(name) if asked.port else service.endpoints
    except DiscoveryError as error:
        yield Finding(f"connect {name}", "failed", error.message, "see ecs-discovery ls")
        return
    yield from findings.of_endpoints(name, endpoints)


def _print(found: list[Finding]) -> None:
    output.table(COLUMNS, ((f.check, f.state, f.detail) for f in found))
    wrong = [f for f in found if f.fix]
    for finding in wrong:
        click.echo(f"{finding.state}: {finding.check}: {finding.fix}")
    if not wrong:
        click.echo("nothing to mend")

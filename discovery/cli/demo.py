"""`demo`: a local ECS with real processes, and the sidecar that discovers them, in one process."""

import logging
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click

from discovery.cli import addresses, localecs, options, output, procfs
from discovery.cli.changes import changes
from discovery.cli.demo_services import CLUSTER, FLEETS, INSTANCES
from discovery.cli.layers import Given
from discovery.cli.program import PROGRAM
from discovery.documents import in_order
from discovery.errors import NotReady
from discovery.events import Listeners
from discovery.local.server import LocalECS
from discovery.model import Endpoint, Snapshot
from discovery.settings import Settings
from discovery.sidecar import logs
from discovery.sidecar.listening import unusable
from discovery.sidecar.signals import Signals
from discovery.sidecar.supervisor import Sidecar
from discovery.written import ClusterSettings

_INTERVAL_S = 5.0
_LOOK_S = 0.2
_START_S = 60.0
_CHANGES_S = 1.0


@click.command()
@options.settings("dns", "http", "zone")
@click.option(
    "--listen",
    default=localecs.LISTEN,
    show_default=True,
    metavar="ADDR:PORT",
    help="Loopback address of the local ECS.",
)
def command(given: Given, listen: str) -> int:
    """Run a local ECS with real processes and the sidecar that discovers them.

    It needs no AWS account. It prints what to try, then every change that the sidecar sees; Ctrl-C
    ends it and every process that it started.

    \b
    examples:
      ecs-discovery demo
      ecs-discovery demo --dns 127.0.0.1:0 --http 127.0.0.1:0 --listen 127.0.0.1:0
    """
    logs.configure(logging.WARNING)
    _need_addresses(given.settings)
    with Signals() as signals, localecs.started(listen) as ecs:
        click.echo(f"A local ECS listens on {ecs.url}; starting its tasks, a process each:")
        if not _fleets_run(ecs, signals):
            return 0
        localecs.enter(ecs)
        settings = replace(
            given.settings,
            clusters=(ClusterSettings(CLUSTER),),
            source="ecs",
            interval_s=_INTERVAL_S,
        )
        with Sidecar(settings, listeners=Listeners(logs.Narrator())) as sidecar:
            if _ready(sidecar, signals):
                _print_fleet(sidecar.resolver.snapshot)
                click.echo("\n".join(_hints(ecs, sidecar, settings.zone)))
                _print_changes(sidecar, signals)
        click.echo("Stopping every process ...")
    return 0


def _need_addresses(settings: Settings) -> None:
    """Raise `AddressUnusable` before anything is started, as that takes a while."""
    wanted = (
        (settings.dns, "--dns", addresses.DNS),
        (settings.http, "--http", addresses.HTTP),
    )
    for address, flag, kinds in wanted:
        if error := addresses.refusal(address, kinds):
            raise unusable(address, flag, error)


def _fleets_run(ecs: LocalECS, signals: Signals) -> bool:
    """Start everything and wait until it runs; false when a signal came first."""
    ecs.add_cluster(CLUSTER)
    ecs.add_instances(CLUSTER, INSTANCES)
    for fleet in FLEETS:
        click.echo(f"  {fleet.count} × {fleet.name:<7} {fleet.about}")
        for operation, parameters in fleet.calls():
            localecs.call(ecs, operation, parameters)
    wanted = sum(fleet.count for fleet in FLEETS)
    until = time.monotonic() + _START_S
    while (running := _running(ecs)) < wanted:
        if time.monotonic() > until:
            raise NotReady(f"{running} of {wanted} tasks run after {_START_S:g} s: is it Linux?")
        if signals.wait(_LOOK_S):
            return False
    return True


def _running(ecs: LocalECS) -> int:
    answer = localecs.call(ecs, "DescribeClusters", {"clusters": [CLUSTER]})
    count: int = answer["clusters"][0]["runningTasksCount"]
    return count


def _ready(sidecar: Sidecar, signals: Signals) -> bool:
    """Wait for the first snapshot; false when a signal came first."""
    click.echo("The sidecar reads them ...")
    until = time.monotonic() + _START_S
    while (missing := sidecar.missing()) or _is_partial(sidecar.resolver.snapshot):
        if time.monotonic() > until:
            raise NotReady("; ".join(missing) or "task definitions are not read yet")
        if signals.wait(_LOOK_S):
            return False
    return True


def _is_partial(snapshot: Snapshot) -> bool:
    """Whether ports have no names yet, because definitions are read in the background."""
    return any(service.definitions_pending for service in snapshot.services.values())


def _print_fleet(snapshot: Snapshot) -> None:
    processes = procfs.listening()
    click.echo()
    output.table(
        ("SERVICE", "ENDPOINT", "HEALTH", "TASK", "PROCESS"),
        (
            (e.service, e.authority, e.health, output.task_id(e.task_arn), _pid(processes, e))
            for service in in_order(snapshot)
            for e in service.endpoints
        ),
    )


def _pid(processes: dict[procfs.HostPort, int], endpoint: Endpoint) -> int | None:
    return processes.get((endpoint.host, endpoint.port))


def _hints(ecs: LocalECS, sidecar: Sidecar, zone: str) -> Iterator[str]:
    dns, http = sidecar.dns_address, sidecar.http_address
    program = _program()
    python = shlex.quote(_relative(sys.executable))
    code = f"from discovery import Resolver; print(Resolver('{CLUSTER}').pick('web').url)"
    yield "\nTry, in another terminal:"
    yield f"  dig +short @{dns.host} -p {dns.port} _http._tcp.web.{CLUSTER}.{zone} SRV"
    yield f"  curl -s http://{http}/v1/pick/web"
    yield f"  curl -s http://{http}/v1/explain/worker"
    yield "\nThe same through the ECS API, after:"
    yield from (f"  {line}" for line in localecs.exports(ecs, CLUSTER))
    yield f"  {program} ls"
    yield f"  {program} resolve web"
    yield f"  {program} explain worker"
    yield f'  {python} -c "{code}"'
    yield "\nKill a process of the table: it leaves DNS, HTTP and Python, and is replaced, within"
    yield f"{_INTERVAL_S:g} to 12 seconds. Ctrl-C ends everything."


def _print_changes(sidecar: Sidecar, signals: Signals) -> None:
    """Print what the sidecar sees change, until a signal comes."""
    before = sidecar.resolver.snapshot
    while signals.wait(_CHANGES_S) is None:
        after = sidecar.resolver.snapshot
        if after.index == before.index:
            continue
        for line in changes(_endpoints(before), _endpoints(after)):
            click.echo(f"{time.strftime('%H:%M:%S')}  {line}")
        before = after


def _endpoints(snapshot: Snapshot) -> tuple[Endpoint, ...]:
    return tuple(e for service in in_order(snapshot) for e in service.endpoints)


def _program() -> str:
    """How the command is called from here: by name where it is on the path."""
    if shutil.which(PROGRAM):
        return PROGRAM
    return shlex.quote(_relative(str(Path(sys.executable).with_name(PROGRAM))))


def _relative(path: str) -> str:
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path

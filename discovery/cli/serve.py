"""`serve`: the sidecar in the foreground, until SIGTERM or Ctrl-C."""

import contextlib
import signal

import click

from discovery.cli import options
from discovery.cli.layers import Given
from discovery.events import Listeners
from discovery.sidecar import logs
from discovery.sidecar.signals import Signals
from discovery.sidecar.supervisor import Sidecar

_LOOK_S = 1.0


@click.command()
@options.settings(*options.SERVING)
def command(given: Given) -> int:
    """Run the sidecar: DNS and HTTP answers for whole clusters.

    On ECS no flag is needed: cluster and region come from the task's metadata. On SIGTERM it is
    not ready at once, goes on answering for the lame-duck time, and exits with 0.

    \b
    examples:
      ecs-discovery serve --cluster prod
      ecs-discovery serve --cluster prod --cluster eu-west-1/stage --dns 127.0.0.1:53
      ecs-discovery serve --source file:services.toml --http 127.0.0.1:0
      ecs-discovery serve --cluster prod --upstream orders=127.0.0.1:9001
    """
    given.need_cluster()
    logs.configure(form=given.settings.log_format)
    sidecar = Sidecar(given.settings, listeners=Listeners(logs.Narrator()))
    with Signals() as signals, contextlib.closing(sidecar) as it:
        if not it.await_turn(signals.wait):
            return 0
        it.start()
        logs.say("answering DNS on %s and HTTP on %s", it.dns_address, it.url)
        for upstream, address in zip(given.settings.upstreams, it.upstream_addresses, strict=True):
            logs.say("leading connections to %s on to %s", address, upstream.name)
        received = None
        while received is None and it.is_alive:
            received = signals.wait(_LOOK_S)
        if received is None:
            logs.say("a server ended by itself: stopping")
            return 3
        if received == signal.SIGTERM and given.settings.lame_duck_s:
            it.drain()
            logs.say("stopping; answers go on for %g s", given.settings.lame_duck_s)
            signals.wait(given.settings.lame_duck_s)
    return 0

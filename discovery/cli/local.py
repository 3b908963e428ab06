"""`local`: the local ECS alone, in the foreground, until SIGTERM or Ctrl-C."""

import click

from discovery.cli.localecs import LISTEN, add_cluster, exports, started
from discovery.sidecar.signals import Signals


@click.command()
@click.option(
    "--listen", default=LISTEN, show_default=True, metavar="ADDR:PORT", help="Loopback address."
)
@click.option("--cluster", "clusters", multiple=True, metavar="NAME ...", help="Cluster to create.")
@click.option(
    "--instances",
    default=3,
    show_default=True,
    type=click.IntRange(0, 200),
    metavar="N",
    help="Container instances for each cluster, on 127.0.0.2 and up.",
)
def command(listen: str, clusters: tuple[str, ...], instances: int) -> int:
    """Run the local ECS alone: an ECS API in which a task is a local process.

    It prints the variables with which the AWS SDKs, the AWS CLI and ecs-discovery talk to it.
    Everything that it started ends with it.

    \b
    examples:
      ecs-discovery local --cluster demo
      aws ecs list-clusters            # after pasting the printed lines
    """
    with Signals() as signals, started(listen) as ecs:
        for cluster in clusters:
            add_cluster(ecs, cluster, instances)
        click.echo(f"# a local ECS listens on {ecs.url}; in another terminal:")
        for line in exports(ecs, clusters[0] if clusters else None):
            click.echo(line)
        signals.wait()
    return 0

"""The group of commands: each is imported when it is called, and errors become one sentence."""

import errno
import importlib
import os
import sys
from collections.abc import Sequence

import click

from discovery import __version__, documents
from discovery.cli import output
from discovery.cli.program import PROGRAM
from discovery.errors import DiscoveryError

DEBUG_VARIABLE = "ECS_DISCOVERY_DEBUG"

# What each is good for, in the order of the help text; a module of the same name has `command`.
COMMANDS = {
    "demo": "Run a local ECS with real processes and the sidecar that discovers them.",
    "serve": "Run the sidecar: DNS and HTTP answers for whole clusters.",
    "resolve": "Print the endpoints of a service: host IP and mapped port.",
    "ls": "List the services and how many endpoints each has.",
    "watch": "Print a service's endpoints, and every change.",
    "explain": "Say of every task of a service whether it is an endpoint, and why.",
    "history": "Print what changed of a service, when and why.",
    "doctor": "Check credentials, permissions, addresses and times; say how to mend them.",
    "health": "Ask a running sidecar whether it is alive (for container health checks).",
    "taskdef": "Print definitions for ECS and IAM: sidecar, daemon, policy.",
    "exec": "Run a command with our resolver first, and delay the SIGTERM that ends it.",
    "config": "Print every setting, its value and where it came from.",
    "local": "Run the local ECS alone: an ECS API in which a task is a local process.",
}
WITHOUT_CLICK = ("health", "exec")
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_EPILOG = """\b
examples:
  ecs-discovery demo
  ecs-discovery resolve orders --cluster prod
  ecs-discovery resolve _http._tcp.orders.prod --json
  ecs-discovery serve --cluster prod --cluster eu-west-1/stage

\b
exit codes: 0 found, 1 known but no endpoint, 2 unknown name or usage, 3 source failing
"""


class Group(click.Group):
    """Commands by name, imported one at a time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of them, in the order in which a person meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command; `None` for a word that is none, and for those that need no click."""
        if cmd_name not in COMMANDS or cmd_name in WITHOUT_CLICK:
            return None
        command: click.Command = importlib.import_module(f"discovery.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=Group,
    epilog=_EPILOG,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name=PROGRAM)
@click.pass_context
def commands(context: click.Context) -> int:
    """Service discovery on AWS ECS: service name to host IP and mapped port."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
    return 2


def run(words: Sequence[str]) -> int:
    """Run a command; the exit code. Whatever goes wrong is one sentence on standard error."""
    if sys.stdout is None:  # was closed by the caller, who wants no output
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # as long as the process
    try:
        status = commands.main(list(words), prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        return _misused(error)
    except DiscoveryError as error:
        return _failed(error, as_json="--json" in words)
    except (KeyboardInterrupt, click.Abort):
        return 130
    except (BrokenPipeError, SystemExit):  # click turns the one into the other in places
        return _unread()
    except ModuleNotFoundError:
        raise
    except OSError as error:
        return _unwritten(error) if error.errno in _UNWRITABLE else _mistaken(error)
    except Exception as error:
        return _mistaken(error)
    return status if isinstance(status, int) else 0


def _misused(error: click.ClickException) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context else PROGRAM
    message = " ".join(error.format_message().split()).rstrip(".")
    output.say(f"{message[:1].lower()}{message[1:]}: see {path} --help")
    return 2


def _failed(error: DiscoveryError, *, as_json: bool) -> int:
    if as_json:
        output.as_json(documents.error(error))
    output.say(error.message)
    return error.exit_code


def _unread() -> int:
    # Whoever read our output has gone, as `head` does; the flush at exit must not fail on it.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _unwritten(error: OSError) -> int:
    _unread()
    output.say(f"the output cannot be written: {error.strerror}")
    return 3


def _mistaken(error: Exception) -> int:
    if os.environ.get(DEBUG_VARIABLE):
        raise error
    kind = type(error).__name__
    output.say(f"a mistake of ours, {kind}: {error}: set {DEBUG_VARIABLE}=1 to see where")
    return 3

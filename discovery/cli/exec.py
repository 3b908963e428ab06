"""`exec -- CMD`: a container's entrypoint for names from our resolver and for slow goodbyes.

It stays as the parent of CMD for as long as that runs, often as process 1 of the container, so
nothing heavy is imported for it, and it works without the `[sidecar]` extra.
"""

import argparse
import contextlib
import errno
import ipaddress
import math
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from discovery.cli.program import PROGRAM

_EXAMPLES = """\
examples:
  ecs-discovery exec -- gunicorn app:app
  ecs-discovery exec --drain 20 -- gunicorn app:app
  ecs-discovery exec --no-dns --drain 20 -- java -jar orders.jar

exit codes: that of CMD, 128 and the signal's number where one ended it, 127 where there is no
CMD, 126 where it cannot be run, 2 where the resolver cannot be set
"""
RESOLV_CONF = Path("/etc/resolv.conf")
MOST_NAMESERVERS = 3  # glibc reads no more: MAXNS in resolv.h
_LONGEST_S = 3_600.0
_DNS_PORT = 53
# What is for CMD: all but those that tell this process about itself or that nobody can catch.
_FORWARDED = frozenset(
    {
        *(signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP),
        *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGCONT),
    }
)
_BY_THE_KERNEL = 0x80  # SI_KERNEL: a key on the terminal, which CMD was told of as well


def main(arguments: Sequence[str]) -> int:
    """Set the resolver, run the command, pass signals on; the command's exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    command = given.command[1:] if given.command[:1] == ["--"] else given.command
    if not command:
        parser.error("say which command to run, after --")
    if not given.set_dns:
        return _run(command, given.drain)
    nameserver = _nameserver(given.dns, os.environ, parser)
    try:
        before = _read(RESOLV_CONF)
        _write(RESOLV_CONF, with_first(nameserver, before))
    except OSError as error:
        _say(_unchanged(RESOLV_CONF, error))
        return 2
    try:
        return _run(command, given.drain)
    finally:
        _put_back(RESOLV_CONF, with_first(nameserver, before), before)


def with_first(nameserver: str, text: str) -> str:
    """The text of a resolv.conf(5) with this name server before all others.

    The others stay as far as the C library reads them, for when ours does not answer.
    """
    kept, servers = [], [nameserver]
    for line in text.splitlines():
        words = line.split()
        if words[:1] != ["nameserver"]:
            kept.append(line)
        elif len(words) > 1 and words[1] not in servers:
            servers.append(words[1])
    lines = [*(f"nameserver {server}" for server in servers[:MOST_NAMESERVERS]), *kept]
    return "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} exec",
        description="Run a command with our resolver first in /etc/resolv.conf while it runs\n"
        "(needs root), and delay the SIGTERM that ends it until its callers' caches have\n"
        "run out.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--drain",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="pass SIGTERM on this much later (a second one at once); stopTimeout must be longer",
    )
    parser.add_argument(
        "--dns",
        metavar="ADDR",
        help="the resolver's address (or ECS_DISCOVERY_DNS; default 127.0.0.1)",
    )
    parser.add_argument(
        "--no-dns", dest="set_dns", action="store_false", help="leave /etc/resolv.conf as it is"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- CMD", help="what to run")
    return parser


def _seconds(text: str) -> float:
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= _LONGEST_S:
        want = f"a number of seconds up to {_LONGEST_S:g}"
        raise argparse.ArgumentTypeError(f"{text!r} cannot be used, want {want}")
    return seconds


def _nameserver(
    flag: str | None, environment: Mapping[str, str], parser: argparse.ArgumentParser
) -> str:
    named = flag or environment.get("ECS_DISCOVERY_DNS") or "127.0.0.1"
    try:
        return str(ipaddress.ip_address(named.strip("[]")))
    except ValueError:
        host, _, port = named.rpartition(":")
    if port != str(_DNS_PORT):
        parser.error(f"{named!r}: resolv.conf(5) takes an address without a port, and means 53")
    try:
        return str(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        parser.error(f"{named!r} is no IP address, such as 127.0.0.1")


def _read(path: Path) -> str:
    return path.read_text(errors="surrogateescape")


def _write(path: Path, text: str) -> None:
    # In place: container engines mount the file, and over a mount nothing can be renamed.
    path.write_text(text, errors="surrogateescape")


def _put_back(path: Path, ours: str, before: str) -> None:
    """Leave the file as it was, for a machine that lives longer; not what others wrote since."""
    with contextlib.suppress(OSError):
        if _read(path) == ours:
            _write(path, before)


def _unchanged(path: Path, error: OSError) -> str:
    need = ": that needs root" if error.errno in (errno.EACCES, errno.EPERM) else ""
    return (
        f"cannot change {path} ({error.strerror}){need}; with dnsServers in the task"
        " definition, or a proxy in its place, use --no-dns"
    )


def _run(command: Sequence[str], drain_s: float) -> int:
    """Run it to its end. All signals are blocked here and waited for: no handler, no race."""
    waited = _FORWARDED | {signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    try:
        child = os.posix_spawnp(command[0], list(command), os.environ, setsigmask=before)
    except OSError as error:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        _say(f"cannot run {command[0]}: {error.strerror}")
        return 127 if error.errno == errno.ENOENT else 126
    return _Keeper(child, drain_s).keep(waited)


class _Keeper:
    """The parent of one command; for one thread."""

    def __init__(self, child: int, drain_s: float) -> None:
        self._child = child
        self._drain_s = drain_s
        self._ends_at: float | None = None  # when SIGTERM is passed on, once it was received

    def keep(self, waited: frozenset[signal.Signals]) -> int:
        """Pass signals on until the command has ended; its exit code."""
        while True:
            received = self._next(waited)
            if received is None:
                self._pass_on(signal.SIGTERM)
            elif received.si_signo == signal.SIGCHLD:
                status = self._reaped()
                if status is not None:
                    code = os.waitstatus_to_exitcode(status)
                    return code if code >= 0 else 128 - code
            elif received.si_signo == signal.SIGTERM and self._ends_at is None and self._drain_s:
                _say(f"SIGTERM: passed on in {self._drain_s:g} s, while callers learn of the end")
                self._ends_at = time.monotonic() + self._drain_s
            elif received.si_code != _BY_THE_KERNEL:
                self._pass_on(received.si_signo)

    def _next(self, waited: frozenset[signal.Signals]) -> signal.struct_siginfo | None:
        """The next signal; `None` when the drain is over."""
        if self._ends_at is None or self._ends_at == math.inf:
            return signal.sigwaitinfo(waited)
        return signal.sigtimedwait(waited, max(0.0, self._ends_at - time.monotonic()))

    def _pass_on(self, number: int) -> None:
        if number == signal.SIGTERM:
            self._ends_at = math.inf
        # Not reaped yet, as only this thread reaps: the id cannot be somebody else's.
        os.kill(self._child, number)

    def _reaped(self) -> int | None:
        """The command's status once it has ended; as process 1 we inherit orphans, too."""
        ended = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended
            if pid == 0:
                return ended
            if pid == self._child:
                ended = status


def _say(text: str) -> None:
    print(f"{PROGRAM}: {text}", file=sys.stderr, flush=True)

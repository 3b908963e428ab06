"""`health`: is the sidecar alive? For container health checks; imports nothing heavy.

Exit code 0 for yes, 1 for no. It asks the address that `serve` has without a flag; `--http` or
`ECS_DISCOVERY_HTTP` name another.
"""

import argparse
import contextlib
import http.client
import math
import os
import sys
from collections.abc import Mapping, Sequence

from discovery.cli.program import PROGRAM

_EXAMPLES = """\
examples:
  ecs-discovery health
  ecs-discovery health --ready --http 172.17.0.1:8053

in a task definition:
  "healthCheck": {"command": ["CMD", "ecs-discovery", "health"]}
"""
_LOOPBACK = "127.0.0.1:8053"
_BRIDGE = "172.17.0.1:8053"  # where `serve` listens in bridge and host tasks
_LONGEST_S = 3_600
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def main(arguments: Sequence[str]) -> int:
    """Ask, and say what is wrong on standard error."""
    given = _parser().parse_args(arguments)
    path = "/ready" if given.ready else "/health"
    failures = []
    for address in _addresses(given.http, os.environ):
        failure = _failure(address, path, given.timeout)
        if failure is None:
            return 0
        failures.append(failure)
    print(f"{PROGRAM}: {'; '.join(failures)}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} health",
        description="Ask a running sidecar whether it is alive (for container health checks).",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--http", metavar="ADDR:PORT", help="address of the sidecar's HTTP server")
    parser.add_argument("--ready", action="store_true", help="ask whether it is ready, too")
    parser.add_argument("--timeout", type=_seconds, default=2.0, metavar="SECONDS")
    return parser


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= _LONGEST_S:  # not a number is not in between either
        want = f"a number of seconds over 0, {_LONGEST_S} at most"
        raise argparse.ArgumentTypeError(f"{text!r} cannot be used, want {want}")
    return seconds


def _addresses(flag: str | None, environment: Mapping[str, str]) -> tuple[str, ...]:
    named = flag or environment.get("ECS_DISCOVERY_HTTP")
    if named:
        return (named,)
    on_ecs = "ECS_CONTAINER_METADATA_URI_V4" in environment
    return (_LOOPBACK, _BRIDGE) if on_ecs else (_LOOPBACK,)


def _failure(address: str, path: str, timeout_s: float) -> str | None:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        return _no_address(address)
    try:
        status, body = _asked(_WILDCARDS.get(host, host), int(port), path, timeout_s)
    except (UnicodeError, http.client.InvalidURL):  # what neither is nor could be a host's name
        return _no_address(address)
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return f"no sidecar answers at {address} ({why})"
    return None if status == 200 else f"{address}{path} answers {status}: {body}"


def _asked(host: str, port: int, path: str, timeout_s: float) -> tuple[int, str]:
    """Status and body."""
    connection = http.client.HTTPConnection(host, port, timeout_s)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(4_096).decode("utf-8", "replace").strip()


def _no_address(address: str) -> str:
    return f"{address!r} is no ADDR:PORT, such as {_LOOPBACK}"

"""`health`: is the sidecar alive? For container health checks; imports nothing heavy.

Exit code 0 for yes, 1 for no. It asks the address that `serve` has without a flag; `--http` or
`ECS_DISCOVERY_HTTP` name another.
"""

import argparse
import math
import sys
from collections.abc import Sequence

from discovery.cli import asking
from discovery.cli.program import PROGRAM

_EXAMPLES = """\
examples:
  ecs-discovery health
  ecs-discovery health --ready --http 172.17.0.1:8053

in a task definition:
  "healthCheck": {"command": ["CMD", "ecs-discovery", "health"]}
"""
_LONGEST_S = 3_600
_MOST_SHOWN = 4_096  # bytes of a refusal


def main(arguments: Sequence[str]) -> int:
    """Ask, and say what is wrong on standard error."""
    given = _parser().parse_args(arguments)
    path = "/ready" if given.ready else "/health"
    failures = []
    for address in asking.addresses(given.http):
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


def _failure(address: str, path: str, timeout_s: float) -> str | None:
    try:
        heard = asking.ask(address, path, timeout_s)
    except asking.NoAnswer as failure:
        return str(failure)
    body = heard.body[:_MOST_SHOWN].decode("utf-8", "replace").strip()
    return None if heard.status == 200 else f"{address}{path} answers {heard.status}: {body}"

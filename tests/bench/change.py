"""What callers notice while a service changes: `python -m tests.bench.change [SCENARIO …]`.

Real processes on the local ECS under constant load of several callers at once: the httpx transport,
an upstream listener, a DNS client that honours TTL, a Java program with its default cache and one
with a short one, and Traefik's ECS provider. As root each scenario runs in a network and mount
namespace of its own, so that names are resolved as they are elsewhere and packets can be dropped
(needs ip and nft); otherwise Java is left out and a lost zone is one of frozen processes.
"""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.bench.change_callers import TRAEFIK as TRAEFIK_PROGRAM
from tests.bench.change_callers import JavaCaller, traefik
from tests.bench.change_cases import JAVA, JAVA_CACHE_S, JAVA_SHORT, TIMING, TRAEFIK, Case, cases
from tests.bench.change_notes import NOTES
from tests.bench.change_simulated import SIMULATED, simulation_lines
from tests.bench.results import write_section
from tests.change.apart import apart, silence, why_not
from tests.change.callers import Call
from tests.change.fleet import Fleet
from tests.change.stage import Timing, staged

TITLE = "Callers while a service changes (`python -m tests.bench.change`)"
_ISOLATED = "CHANGE_BENCH_ISOLATED"
Line = dict[str, Any]


def main(names: Sequence[str]) -> None:
    """Play the scenarios of these names, all unless some are given, and write the section."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing is left behind
    if os.environ.get(_ISOLATED) is not None:
        (name,) = names
        print(json.dumps(played(name, isolated=True)))
        return
    known = cases(None)
    titles = {**{name: case.scenario.name for name, case in known.items()}, **SIMULATED}
    found: dict[str, list[Line]] = {}
    for name in names or tuple(titles):
        found[name] = _found(name)
        print(*_rows(titles[name], found[name]), sep="\n", flush=True)
        if not names:
            write_section(TITLE, _section(titles, found))


def _found(name: str) -> list[Line]:
    if name in SIMULATED:
        return simulation_lines(name)
    return played(name, isolated=False) if why_not() else _isolated(name)


def played(name: str, *, isolated: bool) -> list[Line]:
    """What each caller noticed."""
    case = cases(silence if isolated else None)[name]
    setting, timing = case.scenario.setting, case.timing
    java = isolated and shutil.which("java") is not None and _by_address(case)
    if isolated:
        setting = replace(setting, dns="127.0.0.1:53")

    def more(
        timing: Timing, fleet: Fleet, stack: ExitStack, environment: Mapping[str, str]
    ) -> Mapping[str, Call]:
        callers: dict[str, Call] = {}
        for name, cache_s in ((JAVA, None), (JAVA_SHORT, JAVA_CACHE_S[JAVA_SHORT])) if java else ():
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            client = JavaCaller(timing, directory, cache_s)
            stack.callback(client.close)
            callers[name] = client
        if TRAEFIK_PROGRAM is not None:
            callers[TRAEFIK] = traefik(timing, environment, stack)
        return callers

    began_at = time.monotonic()
    with staged(setting, timing, more) as stage:
        case.scenario.act(stage)
        print(f"{name}: {time.monotonic() - began_at:.0f} s", file=sys.stderr)
        scores = stage.scores()
        lines: list[Line] = []
        for caller, score in scores.items():
            goal = case.goal(caller)
            judge = (goal or case.ours).judge
            text, holds = judge(stage, caller, score)
            lines.append(
                {
                    "caller": caller,
                    "requests": score.requests,
                    "failed": score.failed,
                    "wrong": score.wrong,
                    "late": score.late,
                    "most": round(score.most, 2),
                    "p99_ms": round(1e3 * score.p99_s),
                    "measured": text,
                    "goal": goal.text if goal else "",
                    "holds": holds if goal else None,
                    "errors": dict(sorted(score.errors.items(), key=lambda e: -e[1])[:3]),
                }
            )
    return lines


def _by_address(case: Case) -> bool:
    """Whether an address is enough to call a task: its port is always the same."""
    shape = case.scenario.setting.shape
    return shape is not None and shape.mode == "awsvpc"


def _isolated(name: str) -> list[Line]:
    """The same in a network of its own, whose resolver is the sidecar."""
    with tempfile.TemporaryDirectory() as directory:
        resolv_conf = Path(directory) / "resolv.conf"
        resolv_conf.write_text("nameserver 127.0.0.1\noptions timeout:1\n")
        words = [sys.executable, "-m", "tests.bench.change", name]
        done = subprocess.run(
            apart(words, first=f"mount --bind {resolv_conf} /etc/resolv.conf"),
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, _ISOLATED: "1"},
            check=False,
        )
    # A scenario that broke down is none that was seen, and no reason to lose the others.
    lines: list[Line] = json.loads(done.stdout) if done.returncode == 0 else []
    return lines


def _rows(title: str, lines: Sequence[Line]) -> list[str]:
    """The lines of the table for one scenario."""
    verdicts = {True: "holds", False: "missed", None: ""}
    return [
        "| "
        + " | ".join(
            [
                title if n == 0 else "",
                line["caller"],
                *(f"{line[key]:,}" for key in ("requests", "failed", "wrong", "late")),
                f"{line['most']:.2f}" if line["most"] else "–",
                f"{line['p99_ms']:,} ms" if line["p99_ms"] else "–",
                line["measured"],
                line["goal"],
                verdicts[line["holds"]],
            ]
        )
        + " |"
        for n, line in enumerate(lines)
    ]


def _section(titles: Mapping[str, str], found: Mapping[str, list[Line]]) -> list[str]:
    head = (
        "| scenario | caller | requests | failed | to the wrong service | to tasks after STOPPED |"
    )
    head += " highest load ÷ fair share | p99 | measured | goal | |"
    rows = [row for name, lines in found.items() for row in _rows(titles[name], lines)]
    return [*_about(), "", head, "|" + "---|" * 11, *rows, "", *NOTES, "", *_errors(titles, found)]


def _about() -> list[str]:
    timing = TIMING
    versions = f"Python {platform.python_version()}, httpx {version('httpx')}"
    versions += f", Java {_first_line('java', '--version')}"
    versions += f", Traefik {_first_line(TRAEFIK_PROGRAM or 'traefik', 'version')}"
    how = f"Every {timing.interval_s:g} s read, TTL {timing.ttl_s} s, {timing.rate:g} requests a"
    how += " second and caller (40 where traffic shifts), connect timeouts 1 s (ours 0.5 s); where"
    how += f" tasks drain, `exec --drain {timing.drain_s:g}`. Traefik reads as often; nothing is"
    how += " asked of it. A request is late after STOPPED + interval + TTL + 2 s. Shares are"
    how += " measured 10 s after a step, when slow start is over. Java takes any of the addresses"
    how += " that its cache has, of 30 s as the JDK comes, and of 2 s (`networkaddress.cache.ttl`);"
    how += " it cannot be sent to ports that change."
    when = f"{time.strftime('%Y-%m-%d')}, Linux {platform.release()}"
    return [f"{when}, {versions}; two cores, shared with other work.", "", how]


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "(missing)"
    words = done.stdout.splitlines()[0].split()
    return words[1] if len(words) > 1 else words[0]


def _errors(titles: Mapping[str, str], found: Mapping[str, list[Line]]) -> list[str]:
    """What failed, in the words of the callers."""
    said = [
        f"* {titles[name]}, {line['caller']}: "
        + "; ".join(f"{count} × {error[:110]}" for error, count in line["errors"].items())
        for name, lines in found.items()
        for line in lines
        if line["errors"]
    ]
    return ["The most frequent failures:", "", *said] if said else []


if __name__ == "__main__":
    main(sys.argv[1:])

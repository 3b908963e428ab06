"""A network of one's own, in which packets can be dropped: for root, with unshare, ip and nft.

`python -m tests.change.apart` plays the loss of a zone, whose packets are dropped, in such a
network, and prints what failed by caller, as JSON.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace

from tests.change.fleet import Shape
from tests.change.scenarios import zone_lost
from tests.change.stage import DNS, LISTENER, TRANSPORT, Stage, Timing, staged

_TABLE = "table ip lost { set hosts { type ipv4_addr; }; chain out {"
_TABLE += " type filter hook output priority 0; ip daddr @hosts drop; }; }"


def why_not() -> str | None:
    """Why there can be no such network; `None` where there can."""
    if os.geteuid() != 0:
        return "only root may have a network of its own"
    missing = [name for name in ("unshare", "ip", "nft", "mount") if not shutil.which(name)]
    if missing:
        return f"there is no {missing[0]}"
    done = subprocess.run(apart(["nft", _TABLE]), capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"it is not allowed: {done.stderr.strip()[:80]}"


def apart(words: Sequence[str], *, first: str = "true") -> list[str]:
    """The command in a network and mounts of its own, once loopback is up and `first` is done."""
    steps = f'ip link set lo up && {first} && exec "$@"'
    return ["unshare", "-n", "-m", "sh", "-c", steps, "sh", *words]


def silence(addresses: list[str]) -> None:
    """Drop what is sent to these addresses."""
    subprocess.run(["nft", _TABLE], check=True)
    elements = ", ".join(addresses)
    subprocess.run(["nft", f"add element ip lost hosts {{ {elements} }}"], check=True)


def failed_since(stage: Stage) -> dict[str, list[str]]:
    """What should not have failed of a zone's loss, as `zone_lost` plays it, by caller.

    Who had sent a request before, and may not send it again, waits in vain; clients of the DNS fail
    until its tasks have left the answers.
    """
    since = {TRANSPORT: "lost", LISTENER: "silent", DNS: "over"}
    return {c: [a.error for a in stage.since(mark, c) if a.error] for c, mark in since.items()}


def main() -> None:
    """Play it, and print what failed."""
    scenario = zone_lost(Shape(), 0.0)
    setting = replace(scenario.setting, ecs={"silence": silence})
    with staged(setting, Timing(slack_s=2.5, timeout_s=5.0)) as stage:
        scenario.act(stage)
        print(json.dumps(failed_since(stage)))


if __name__ == "__main__":
    main()

"""What a sweep of a cluster costs in CPU: ours, and the same calls through plain boto3 paginators.

Run as `python -m tests.bench.sweep [--write]`. The local ECS runs in a process of its own; CPU
seconds are those of this process, all threads, and medians. Garbage is collected as in a sidecar,
for both. Services have ten tasks each, in bridge mode.
"""

from __future__ import annotations

import gc
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import boto3

from discovery.ecs.calls import CLUSTER_RESOURCES, Call
from discovery.ecs.clients import Access, Clients, answer_of
from discovery.ecs.rotation import SETTLED_S
from discovery.ecs.source import EcsSource
from discovery.events import Refreshed
from discovery.local.server import LocalECS
from discovery.settings import Settings
from discovery.sidecar.garbage import Garbage
from discovery.written import ClusterSettings
from tests.bench.results import write_section

SIZES = (1_000, 10_000)
SHARE = 100.0  # what waits for its share costs no CPU, but time
ROUNDS = 5
GOAL = 5.0
# After so long services and instances are read again, and with the turns of tasks come round in
# `SETTLED_S` so many of them are described.
MINUTE_S, TURN_S = 61.0, 10.0
GROWN_S = 180.0  # after which tasks are not young any more
FIRST = "first read"
MINUTE = f"once a minute: the same, one in {SETTLED_S / MINUTE_S:.0f}; services, instances"
ALL = "all tasks"
ALONE = "all tasks, the calls alone: what they tell is not looked at"
USUAL = f"as usual: all tasks listed, one in {SETTLED_S / TURN_S:.0f} described"

NOTE = """
Why goals are missed: botocore takes 0.7 ms to sign and send a call and to receive its answer, be it
empty. A usual sweep is little else, for us as for plain boto3. Of all tasks the calls alone are
nearly all that the goal allows; telling what has changed (0.05 s of 10,000 tasks), and the threads
that make four calls at a time (0.03 s), come on top. A first read maps every task and builds its
clients, which takes nearly half of it at 1,000 tasks; those of plain boto3 are there before.
"""

Sweep = Callable[[], object]


def main() -> None:
    """Measure both sizes, print the table and write it down."""
    rows = {}
    for tasks in SIZES:
        with _local(tasks):
            rows[tasks] = _measured()
    head = f"CPU seconds, medians of {ROUNDS}; one process, garbage collected as in a sidecar."
    lines = [
        head,
        f"Goal: at most 1/{GOAL:.0f} of plain boto3's, and no more than 1.15 times as much a task",
        "at 10,000 tasks.",
        "",
        "| what is read | boto3, 1,000 tasks | ours | | 10,000 tasks | ours | | growth | goal |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    small, large = (rows[size] for size in SIZES)
    for title, (plain, ours) in large.items():
        before, own = small[title]
        growth = ours / own
        holds = plain / ours >= GOAL and growth <= 1.15 * SIZES[-1] / SIZES[0]
        lines.append(
            f"| {title} | {before:.3f} | {own:.3f} | 1/{before / own:.1f}"
            f" | {plain:.3f} | {ours:.3f} | 1/{plain / ours:.1f}"
            f" | × {growth:.1f} | {'holds' if holds else 'missed'} |"
        )
    lines += NOTE.splitlines()
    print("\n".join(lines))
    if "--write" in sys.argv:
        write_section("CPU of a sweep", lines)


def serve(tasks: int, mode: str) -> None:
    """Be the local ECS until standard input ends."""
    with LocalECS("127.0.0.1:0", throttle=False) as ecs:
        ecs.populate("prod", services=tasks // 10, tasks=tasks, instances=tasks // 20, mode=mode)
        print(ecs.url, flush=True)
        sys.stdin.read()


@contextmanager
def _local(tasks: int, mode: str = "bridge") -> Iterator[None]:
    command = [sys.executable, "-m", "tests.bench.sweep", str(tasks), mode]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        url = child.stdout.readline().strip()
        assert url.startswith("http://127."), f"the local ECS did not start: {url!r}"
        os.environ["AWS_ENDPOINT_URL"] = url
        os.environ.update(AWS_REGION="us-east-1", AWS_DEFAULT_REGION="us-east-1")
        os.environ.update(AWS_ACCESS_KEY_ID="local", AWS_SECRET_ACCESS_KEY="local")
        try:
            yield
        finally:
            child.stdin.close()
            child.wait()


def _measured() -> dict[str, tuple[float, float]]:
    """What plain boto3 takes for each kind of sweep, and what we take."""
    garbage = Garbage()
    garbage.start()
    try:
        ecs, ec2 = boto3.client("ecs"), boto3.client("ec2")
        plain = {
            FIRST: _cpu_s(lambda: _plain(ecs, ec2)),
            MINUTE: _cpu_s(lambda: _plain(ecs, None, MINUTE_S / SETTLED_S)),
            ALL: _cpu_s(lambda: _plain_tasks(ecs)),
            ALONE: _cpu_s(lambda: _plain_tasks(ecs)),
            USUAL: _cpu_s(lambda: _plain_tasks(ecs, TURN_S / SETTLED_S)),
        }
        ours = {FIRST: statistics.median(_first() for _ in range(ROUNDS)), ALONE: _alone()}
        gc.collect()
        ours |= _steady(garbage)
    finally:
        garbage.close()
    return {title: (plain[title], ours[title]) for title in plain}


def _first() -> float:
    with closing(EcsSource(_settings())) as source:
        return _cpu_s(lambda: source.load(None), rounds=1)


def _alone() -> float:
    """Our clients' calls for all tasks, one after the other."""
    clients = Clients(os.environ)
    with closing(clients):
        client = clients.client("ecs", Access())

        def said(operation: str, **parameters: Any) -> Any:
            given = {"cluster": "prod", **parameters}
            return answer_of(client, Call(operation, given, "measure", CLUSTER_RESOURCES))

        def sweep() -> None:
            page = said("ListTasks", maxResults=100)
            arns = list(page["taskArns"])
            while "nextToken" in page:
                page = said("ListTasks", maxResults=100, nextToken=page["nextToken"])
                arns += page["taskArns"]
            for start in range(0, len(arns), 100):
                said("DescribeTasks", tasks=arns[start : start + 100], include=["TAGS"])

        return _cpu_s(sweep)


def _steady(garbage: Garbage) -> dict[str, float]:
    now = time.time()
    times: dict[str, list[float]] = {}
    with closing(EcsSource(_settings(), clock=lambda: now)) as source:
        source.load(None)
        while source.load_pending().pending:
            time.sleep(0.2)  # as what is not known yet is asked for now and then
        garbage(Refreshed("prod", 0, 0, 0, 0.0))
        now += GROWN_S
        source.load(None)
        for _ in range(ROUNDS):
            for title, after_s in ((MINUTE, MINUTE_S), (USUAL, TURN_S), (ALL, TURN_S)):
                now += after_s
                if title == ALL:  # as if the turn of each had come
                    source._clusters[0].memory.described_at.clear()
                times.setdefault(title, []).append(_cpu_s(lambda: source.load(None), rounds=1))
    return {title: statistics.median(each) for title, each in times.items()}


def _settings() -> Settings:
    return Settings(clusters=(ClusterSettings("prod"),), share=SHARE)


def _cpu_s(sweep: Sweep, rounds: int = ROUNDS) -> float:
    times = []
    for _ in range(rounds):
        began = time.process_time()
        sweep()
        times.append(time.process_time() - began)
    return statistics.median(times)


def _plain_tasks(ecs: Any, part: float = 1.0) -> list[str]:
    """All tasks, or a part of them described; the container instances that they are on."""
    pages = ecs.get_paginator("list_tasks").paginate(cluster="prod")
    arns = [arn for page in pages for arn in page["taskArns"]]
    instances: dict[str, None] = {}
    for start in range(0, int(len(arns) * part), 100):
        chunk = arns[start : start + 100]
        answer = ecs.describe_tasks(cluster="prod", tasks=chunk, include=["TAGS"])
        instances.update(dict.fromkeys(t["containerInstanceArn"] for t in answer["tasks"]))
    return list(instances)


def _plain(ecs: Any, ec2: Any, part: float = 1.0) -> None:
    """All that a first read of ours asks for; without a client of EC2, what a later one does."""
    on = _plain_tasks(ecs, part)
    pages = ecs.get_paginator("list_services").paginate(
        cluster="prod", PaginationConfig={"PageSize": 100}
    )
    names = [arn for page in pages for arn in page["serviceArns"]]
    for start in range(0, len(names), 10):
        chunk = names[start : start + 10]
        ecs.describe_services(cluster="prod", services=chunk, include=["TAGS"])
    machines: list[str] = []
    for start in range(0, len(on), 100):
        answer = ecs.describe_container_instances(
            cluster="prod", containerInstances=on[start : start + 100]
        )
        machines += [each["ec2InstanceId"] for each in answer["containerInstances"]]
    for start in range(0, len(machines) if ec2 is not None else 0, 200):
        chosen = [{"Name": "instance-id", "Values": machines[start : start + 200]}]
        ec2.describe_instances(Filters=chosen)


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1].isdecimal():
        serve(int(sys.argv[1]), sys.argv[2])
    else:
        main()

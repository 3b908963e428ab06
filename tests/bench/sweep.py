"""What a sweep of a cluster costs in CPU: ours, and the same calls through plain boto3 paginators.

Run as `python -m tests.bench.sweep [--write]`. The local ECS runs in a process of its own; CPU
seconds are those of this process, all threads, and medians. Services have ten tasks each, in
bridge mode.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import boto3

from discovery.ecs.source import EcsSource
from discovery.local.server import LocalECS
from discovery.settings import Settings
from discovery.written import ClusterSettings
from tests.bench.results import write_section

SIZES = (1_000, 10_000)
SHARE = 10.0  # the widest: what waits for its share costs no CPU
ROUNDS = 3
ALL_S, TURN_S = 30.0, 10.0  # after so long all tasks are described again, or a third of them

Sweep = Callable[[], object]


def main() -> None:
    """Measure both sizes, print the table and write it down."""
    rows = {}
    for tasks in SIZES:
        with _local(tasks):
            rows[tasks] = _measured()
    head = (
        f"CPU seconds of the whole sweep, medians of {ROUNDS}; cold: with services, instances and "
        "machines; steady: tasks only, all of them or, in turns, a third."
    )
    lines = [
        head,
        "",
        "| sweep | 1,000 tasks | 10,000 tasks | ×  |",
        "|---|---|---|---|",
    ]
    for title in rows[SIZES[0]]:
        small, large = (rows[size][title] for size in SIZES)
        lines.append(f"| {title} | {small:.3f} | {large:.3f} | {large / small:.1f} |")
    large_rows = rows[SIZES[-1]]
    for state in ("cold", "steady"):
        ratio = large_rows[f"{state}, plain boto3"] / large_rows[f"{state}, ours"]
        lines.append("")
        lines.append(f"{state.capitalize()} at 10,000 tasks: {ratio:.1f} times less than boto3.")
    print("\n".join(lines))
    if "--write" in sys.argv:
        write_section("CPU of a sweep", lines)


def serve(tasks: int) -> None:
    """Be the local ECS until standard input ends."""
    with LocalECS("127.0.0.1:0", throttle=False) as ecs:
        ecs.populate("prod", services=tasks // 10, tasks=tasks, instances=tasks // 20)
        print(ecs.url, flush=True)
        sys.stdin.read()


@contextmanager
def _local(tasks: int) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.bench.sweep", str(tasks)]
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


def _measured() -> dict[str, float]:
    ecs, ec2 = boto3.client("ecs"), boto3.client("ec2")
    found = {
        "cold, plain boto3": _cpu_s(lambda: _plain(ecs, ec2)),
        "steady, plain boto3": _cpu_s(lambda: _plain_tasks(ecs)),
    }
    settings = Settings(clusters=(ClusterSettings("prod"),), share=SHARE)
    cold = []
    for _ in range(ROUNDS):
        with closing(EcsSource(settings)) as source:
            cold.append(_cpu_s(lambda opened=source: opened.load(None), rounds=1))  # type: ignore[misc]
    now = time.time()
    with closing(EcsSource(settings, clock=lambda: now)) as source:
        source.load(None)
        while source.load_pending().pending:
            pass
        source.load(None)
        for title, interval_s in (("steady, ours", ALL_S), ("steady in turns, ours", TURN_S)):
            steady = []
            for _ in range(ROUNDS):
                now += interval_s
                steady.append(_cpu_s(lambda: source.load(None), rounds=1))
            found[title] = statistics.median(steady)
    found["cold, ours"] = statistics.median(cold)
    return found


def _cpu_s(sweep: Sweep, rounds: int = ROUNDS) -> float:
    times = []
    for _ in range(rounds):
        began = time.process_time()
        sweep()
        times.append(time.process_time() - began)
    return statistics.median(times)


def _plain_tasks(ecs: Any) -> list[str]:
    """All tasks; returns the container instances that they are on."""
    pages = ecs.get_paginator("list_tasks").paginate(cluster="prod")
    arns = [arn for page in pages for arn in page["taskArns"]]
    instances: dict[str, None] = {}
    for start in range(0, len(arns), 100):
        chunk = arns[start : start + 100]
        answer = ecs.describe_tasks(cluster="prod", tasks=chunk, include=["TAGS"])
        instances.update(dict.fromkeys(t["containerInstanceArn"] for t in answer["tasks"]))
    return list(instances)


def _plain(ecs: Any, ec2: Any) -> None:
    """All that a first read of ours asks for."""
    on = _plain_tasks(ecs)
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
    for start in range(0, len(machines), 200):
        chosen = [{"Name": "instance-id", "Values": machines[start : start + 200]}]
        ec2.describe_instances(Filters=chosen)


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1].isdecimal():
        serve(int(sys.argv[1]))
    else:
        main()

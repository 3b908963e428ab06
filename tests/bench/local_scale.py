"""How the local ECS does at scale: build 1,000 services with 10,000 tasks, then time its answers.

Run as `python -m tests.bench.local_scale`; prints medians over loopback.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from typing import Any

from discovery.local.server import LocalECS

_TARGET = "AmazonEC2ContainerServiceV20141113"
_REPEATS = 100


def main() -> None:
    """Print one line a measurement."""
    with LocalECS("127.0.0.1:0", throttle=False) as ecs:
        start = time.perf_counter()
        ecs.populate("scale", services=1000, tasks=10_000, instances=100)
        print(f"populate: 1,000 services, 10,000 tasks in {time.perf_counter() - start:.2f} s")
        connection = HTTPConnection(ecs.url.removeprefix("http://"), timeout=30)
        try:
            _measure(connection)
        finally:
            connection.close()


def _measure(connection: HTTPConnection) -> None:
    tasks = list(_listed(connection, "ListTasks", "taskArns"))
    services = list(_listed(connection, "ListServices", "serviceArns"))
    hosts = list(_listed(connection, "ListContainerInstances", "containerInstanceArns"))
    cases: dict[str, tuple[str, Callable[[int], dict[str, Any]]]] = {
        "DescribeTasks(100), first time": ("DescribeTasks", lambda n: {"tasks": _part(tasks, n)}),
        "DescribeTasks(100), again": ("DescribeTasks", lambda n: {"tasks": _part(tasks, n)}),
        "ListTasks(100)": ("ListTasks", lambda n: {}),
        "DescribeServices(10)": (
            "DescribeServices",
            lambda n: {"services": services[n * 10 : n * 10 + 10]},
        ),
        "DescribeContainerInstances(100)": (
            "DescribeContainerInstances",
            lambda n: {"containerInstances": hosts},
        ),
    }
    for title, (operation, params) in cases.items():
        times_ms = []
        for number in range(_REPEATS):
            start = time.perf_counter()
            answer = _call(connection, operation, params(number))
            times_ms.append((time.perf_counter() - start) * 1000)
        median, worst = statistics.median(times_ms), max(times_ms)
        print(f"{title}: median {median:.2f} ms, worst {worst:.2f} ms, {len(answer):,} bytes")


def _part(arns: list[str], number: int) -> list[str]:
    return arns[number * 100 : number * 100 + 100]


def _listed(connection: HTTPConnection, operation: str, member: str) -> Iterator[str]:
    params: dict[str, Any] = {"maxResults": 100}
    while True:
        answer = json.loads(_call(connection, operation, params))
        yield from answer[member]
        if "nextToken" not in answer:
            return
        params["nextToken"] = answer["nextToken"]


def _call(connection: HTTPConnection, operation: str, params: dict[str, Any]) -> bytes:
    body = json.dumps({"cluster": "scale"} | params)
    connection.request("POST", "/", body, {"X-Amz-Target": f"{_TARGET}.{operation}"})
    answer = connection.getresponse()
    content = answer.read()
    assert answer.status == 200, content
    return content


if __name__ == "__main__":
    main()

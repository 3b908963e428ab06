"""Waiting for what real processes do."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any, TypeVar

from tests.local.strict import Api

Result = TypeVar("Result")


def until(probe: Callable[[], Result], timeout_s: float = 10.0) -> Result:
    """The first true result of `probe`; fails after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while True:
        found = probe()
        if found:
            return found
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def described(api: Api, arn: str) -> Any:
    """DescribeTasks of one task of `demo`."""
    return api.ecs("DescribeTasks", cluster="demo", tasks=[arn], include=["TAGS"])["tasks"][0]


def settled(api: Api, arn: str, status: str = "RUNNING") -> Any:
    """The task once it is in that state."""
    return until(lambda: t if (t := described(api, arn))["lastStatus"] == status else None)


def define(api: Api, family: str = "web", **members: Any) -> None:
    """Register a definition of one container with port 80."""
    container = {"name": "app", "image": "nginx", "memory": 64}
    container |= {"portMappings": [{"containerPort": 80}]} | members.pop("container", {})
    api.ecs("RegisterTaskDefinition", family=family, containerDefinitions=[container], **members)


def run(api: Api, **request: Any) -> str:
    """RunTask of one task on `demo`; returns its ARN."""
    answer = api.ecs("RunTask", cluster="demo", **({"taskDefinition": "web"} | request))
    assert not answer["failures"], answer["failures"]
    return str(answer["tasks"][0]["taskArn"])


def refused(host: str, port: int) -> bool:
    """Whether nobody listens there."""
    try:
        socket.create_connection((host, port), 1).close()
    except OSError:
        return True
    return False

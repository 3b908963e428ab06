"""A local ECS with real processes, and one on a fake clock without any."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from discovery.local.server import LocalECS
from tests.local.sandbox import Sandbox
from tests.local.strict import Api


@pytest.fixture
def ecs() -> Iterator[LocalECS]:
    """A started local ECS with the cluster `demo` on three hosts, without rate limits."""
    with LocalECS("127.0.0.1:0", throttle=False, random=Random()) as started:
        started.add_cluster("demo")
        started.add_instances("demo", 3)
        yield started


@pytest.fixture
def api(ecs: LocalECS) -> Api:
    """The strict client of that server."""
    return Api(ecs)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A region whose clock, timers and processes the test moves by hand."""
    made = Sandbox()
    yield made
    made.close()

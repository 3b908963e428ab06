"""Testing support: a pytest fixture that gives each test its own ECS.

In a `conftest.py`:

    pytest_plugins = ["discovery.local.fixtures"]

Then a test asks for `ecs`. Its AWS variables point there, so plain boto3 and `Resolver` find it.
What can go wrong is switched on with `ecs.faults` (`throttle`, `latency`, `error`, `deny`,
`expire`, `stale`, `slow_boot`, …; each is also a context manager) and with `ecs.kill_process`,
`ecs.lose_host`, `ecs.lose_zone`, `ecs.interrupt_spot`, `ecs.disconnect_agent`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from discovery.local.server import LocalECS


@pytest.fixture
def ecs(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalECS]:
    """A started local ECS without rate limits; the AWS variables of the test point to it."""
    from discovery.local.server import LocalECS

    with LocalECS("127.0.0.1:0", throttle=False) as started:
        monkeypatch.delenv("AWS_PROFILE", raising=False)
        for name, value in started.environment().items():
            monkeypatch.setenv(name, value)
        yield started

"""A pytest fixture: `from discovery.local.fixtures import local_ecs` gives a test its own ECS."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from discovery.local.server import LocalECS


@pytest.fixture
def local_ecs(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalECS]:
    """A started local ECS without rate limits; the AWS variables of the test point to it."""
    with LocalECS("127.0.0.1:0", throttle=False) as ecs:
        monkeypatch.delenv("AWS_PROFILE", raising=False)
        for name, value in ecs.environment().items():
            monkeypatch.setenv(name, value)
        yield ecs

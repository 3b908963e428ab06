"""A local ECS for the source, and an environment in which botocore finds nothing else."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from discovery.local.server import LocalECS


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment without credentials, region, endpoint or configuration files."""
    for name in ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("ECS_CONTAINER_METADATA_URI_V4", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return monkeypatch


@pytest.fixture
def ecs(bare: pytest.MonkeyPatch) -> Iterator[LocalECS]:
    """A local ECS with an empty cluster `prod`; stock SDKs in this process talk to it."""
    with LocalECS("127.0.0.1:0", throttle=False, random=Random()) as started:
        started.add_cluster("prod")
        for name, value in started.environment().items():
            bare.setenv(name, value)
        yield started

"""The public pytest fixture, used as a user would use it."""

from __future__ import annotations

import boto3

from discovery.local.fixtures import local_ecs
from discovery.local.server import LocalECS

__all__ = ["local_ecs"]


def test_plain_boto3_talks_to_the_fixture(local_ecs: LocalECS) -> None:
    """No endpoint, region or credentials need to be given."""
    local_ecs.add_cluster("mine")
    clusters = boto3.client("ecs").list_clusters()["clusterArns"]
    assert clusters == ["arn:aws:ecs:us-east-1:123456789012:cluster/mine"]

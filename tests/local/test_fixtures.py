"""The public pytest fixture, used as a user would use it."""

from __future__ import annotations

import boto3

from discovery.local.fixtures import ecs
from discovery.local.server import LocalECS

__all__ = ["ecs"]


def test_plain_boto3_talks_to_the_fixture(ecs: LocalECS) -> None:
    """No endpoint, region or credentials need to be given."""
    ecs.add_cluster("mine")
    clusters = boto3.client("ecs").list_clusters()["clusterArns"]
    assert clusters == ["arn:aws:ecs:us-east-1:123456789012:cluster/mine"]

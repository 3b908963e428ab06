"""Pages, while what is listed changes between them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.local.sandbox import Sandbox


def listed(sandbox: Sandbox, operation: str, member: str, act: Callable[[], object]) -> list[str]:
    """Every name that pages of two give, with `act` done after the first."""
    sort = {"sort": "DESC"} if operation.endswith(" DESC") else {}
    operation = operation.partition(" ")[0]
    where = {"cluster": "demo"} if operation == "ListContainerInstances" else sort
    answer = sandbox.api(operation, maxResults=2, **where)
    found = list(answer[member])
    act()
    while token := answer.get("nextToken"):
        answer = sandbox.api(operation, maxResults=2, nextToken=token, **where)
        found += answer[member]
    return [name.rsplit("/", 1)[-1] for name in found]


def test_deregistered_instance_hides_no_other(sandbox: Sandbox) -> None:
    """The rows after the first page are all there when one of the first page goes."""
    arns = sandbox.api("ListContainerInstances", cluster="demo")["containerInstanceArns"]

    def leave() -> None:
        sandbox.api("DeregisterContainerInstance", cluster="demo", containerInstance=arns[0])

    found = listed(sandbox, "ListContainerInstances", "containerInstanceArns", leave)
    assert found == [arn.rsplit("/", 1)[-1] for arn in arns]


def test_deleted_cluster_hides_no_other(sandbox: Sandbox) -> None:
    """One of the first page goes."""
    for name in ("a", "b", "c"):
        sandbox.api("CreateCluster", clusterName=name)
    found = listed(
        sandbox, "ListClusters", "clusterArns", lambda: sandbox.api("DeleteCluster", cluster="a")
    )
    assert found == ["demo", "a", "b", "c"]


@pytest.mark.parametrize(
    ("operation", "wanted"),
    [
        ("ListTaskDefinitions", ["b:1", "b:2", "b-c:1", "d:1"]),
        ("ListTaskDefinitions DESC", ["d:1", "b-c:1", "b:2", "b:1"]),
    ],
)
def test_deregistered_revision_hides_no_other(
    sandbox: Sandbox, operation: str, wanted: list[str]
) -> None:
    """One of the first page goes."""
    for family in ("b", "b", "b-c", "d"):
        sandbox.define(family)

    def leave() -> None:
        sandbox.api("DeregisterTaskDefinition", taskDefinition=wanted[0])

    assert listed(sandbox, operation, "taskDefinitionArns", leave) == wanted


def test_new_family_repeats_no_other(sandbox: Sandbox) -> None:
    """A name that sorts before the page that was given."""
    for family in ("b", "b-c", "d"):
        sandbox.define(family)
    found = listed(sandbox, "ListTaskDefinitionFamilies", "families", lambda: sandbox.define("a"))
    assert found == ["b", "b-c", "d"]

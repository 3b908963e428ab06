"""The source against a local ECS: real boto3, real sockets, calls counted on the wire."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import boto3
import pytest

from discovery.ecs.clients import Access
from discovery.ecs.clusters import PROMPT_S, ReadCluster
from discovery.ecs.conversation import Conversation, Outcome
from discovery.ecs.memory import Memory
from discovery.ecs.plan import reading
from discovery.ecs.rotation import SETTLED_S
from discovery.ecs.source import EcsSource
from discovery.errors import (
    AccessDenied,
    BadSetting,
    ClusterNotFound,
    CredentialsExpired,
    CredentialsMissing,
    RegionMissing,
    SourceError,
    SourceMalformed,
    SourceThrottled,
    SourceUnreachable,
)
from discovery.events import BudgetWaited, CallMade, Event, Listeners, Noticed
from discovery.local.server import LocalECS
from discovery.model import ClusterReading, Observation, Service
from discovery.settings import Settings
from discovery.written import ClusterSettings, clusters
from tests.ecs.fixed import SCOPE
from tests.made import FakeClock

CLUSTER_RESOURCES = (
    *("ListTasks", "DescribeTasks", "ListContainerInstances"),
    "DescribeContainerInstances",
)


def settings(*clusters: ClusterSettings, **more: Any) -> Settings:
    """Settings for these clusters, `prod` where none is named."""
    return Settings(clusters=clusters or (ClusterSettings("prod"),), **more)


@pytest.fixture
def source(ecs: LocalECS) -> Iterator[EcsSource]:
    """The source of cluster `prod`."""
    with closing(EcsSource(settings())) as opened:
        yield opened


def only(observation: Observation) -> dict[str, Service]:
    """The services of an observation of one cluster that went well."""
    (reading,) = observation.clusters
    assert reading.error is None
    return {s.name: s for s in reading.services}


def scarce(ecs: LocalECS) -> int:
    """Calls made on the scarcest throttle group."""
    return sum(ecs.calls[operation] for operation in CLUSTER_RESOURCES)


def stock_client(ecs: LocalECS) -> Any:
    """An ECS client as everybody has it."""
    return boto3.client("ecs", endpoint_url=ecs.url, region_name="us-east-1")


def define(stock: Any, family: str, **more: Any) -> None:
    """Register a definition with one port, in bridge mode unless told otherwise."""
    app = {"name": "app", "image": "app", "memory": 8, "portMappings": [{"containerPort": 80}]}
    stock.register_task_definition(
        family=family, containerDefinitions=[app], cpu="256", memory="512", **more
    )


def eventually(source: EcsSource, name: str, count: int) -> Service:
    """The service when it has so many endpoints."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        (reading,) = source.load({"prod": frozenset({name})}).clusters
        for service in reading.services:
            if len(service.endpoints) == count:
                return service
    raise AssertionError(f"{name} never had {count} endpoints")


class Clock:
    """Seconds since the epoch that go on when told to."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class TestReading:
    """What is found, and with how many calls."""

    @pytest.mark.parametrize("mode", ["bridge", "host", "awsvpc", "fargate"])
    def test_every_network_mode_is_found(self, ecs: LocalECS, source: EcsSource, mode: str) -> None:
        """At the addresses and ports that the local ECS gave its tasks."""
        ecs.populate("prod", services=2, tasks=4, instances=4, mode=mode)
        found = only(source.load(None))
        assert [len(s.endpoints) for s in found.values()] == [2, 2]
        endpoints = [e for s in found.values() for e in s.endpoints]
        assert {e.container_port for e in endpoints} == {8080}
        assert len({(e.host, e.port) for e in endpoints}) == 4
        if mode != "bridge":
            assert {e.port for e in endpoints} == {8080}

    def test_1000_tasks_take_21_calls_cold_and_10_steady(self, ecs: LocalECS) -> None:
        """Counted where they arrive: 50 instances, 20 services, 20 bridge definitions."""
        ecs.populate("prod", services=20, tasks=1_000, instances=50)
        clock = Clock()
        source = EcsSource(settings(), clock=clock)
        cold = source.load(None)
        assert sum(len(s.endpoints) for s in only(cold).values()) == 1_000
        assert scarce(ecs) == 21
        assert ecs.calls["DescribeInstances"] == 1
        assert ecs.calls["DescribeTaskDefinition"] == 0
        assert cold.pending
        ecs.calls.clear()
        source.load_pending()
        assert set(ecs.calls) == {"DescribeTaskDefinition"}
        ecs.calls.clear()
        clock.now += 10
        source.load(None)
        source.close()
        assert scarce(ecs) == 10

    def test_how_the_budget_stands_can_be_seen(self, ecs: LocalECS, source: EcsSource) -> None:
        """By cluster and throttle group; nothing before the first call."""
        assert source.budgets == {"prod": ()}
        source.load(None)
        standings = {each.group: each for each in source.budgets["prod"]}
        assert standings["cluster resources"].capacity == 50
        assert standings["cluster resources"].factor == 1.0
        assert standings["ssm"].tokens == standings["ssm"].capacity

    def test_machines_outside_of_aws_are_found(self, ecs: LocalECS, source: EcsSource) -> None:
        """ECS Anywhere: Systems Manager knows where they are."""
        ecs.add_instances("prod", 2, external=True, simulated=True)
        stock = stock_client(ecs)
        define(stock, "edge")
        stock.run_task(cluster="prod", taskDefinition="edge", count=2, launchType="EXTERNAL")
        found = eventually(source, "edge", 2)
        assert ecs.calls["DescribeInstanceInformation"] == 1
        assert ecs.calls["DescribeInstances"] == 0
        assert len({e.host for e in found.endpoints}) == 2

    @pytest.mark.parametrize("assigned", ["ENABLED", "DISABLED"])
    def test_public_addresses_are_given_where_wanted(self, ecs: LocalECS, assigned: str) -> None:
        """Those of the tasks' network interfaces; a task without one says so."""
        stock = stock_client(ecs)
        define(stock, "web", networkMode="awsvpc", requiresCompatibilities=["FARGATE"])
        network = {"subnets": ["subnet-1"], "assignPublicIp": assigned}
        stock.run_task(
            cluster="prod",
            taskDefinition="web",
            launchType="FARGATE",
            networkConfiguration={"awsvpcConfiguration": network},
        )
        with closing(EcsSource(settings())) as source:
            eventually(source, "web", 1)
        with closing(EcsSource(settings(public_addresses=True))) as source:
            public = only(source.load(None))["web"]
        assert ecs.calls["DescribeNetworkInterfaces"] == 1
        assert len(public.endpoints) == (assigned == "ENABLED")
        assert len(public.exclusions) == (assigned == "DISABLED")
        assert all("has no public address" in e.reason for e in public.exclusions)

    def test_double_bindings_give_one_endpoint(self, ecs: LocalECS, source: EcsSource) -> None:
        """That of the family of the host's address."""
        ecs.add_instances("prod", 1, ipv6_bindings=True, simulated=True)
        stock = stock_client(ecs)
        define(stock, "web")
        (task,) = stock.run_task(cluster="prod", taskDefinition="web")["tasks"]
        (endpoint,) = eventually(source, "web", 1).endpoints
        (described,) = stock.describe_tasks(cluster="prod", tasks=[task["taskArn"]])["tasks"]
        bindings = {
            b["bindIP"]: b["hostPort"] for b in described["containers"][0]["networkBindings"]
        }
        assert set(bindings) == {"0.0.0.0", "::"}
        assert endpoint.port == bindings["0.0.0.0"]

    def test_names_are_read_alone(self, ecs: LocalECS, source: EcsSource) -> None:
        """A list for each, one description for all, and what does not exist is absent."""
        ecs.populate("prod", services=20, tasks=40, instances=2)
        found = source.load({"prod": frozenset({"svc-1", "svc-2", "nope"})})
        assert set(only(found)) == {"svc-1", "svc-2"}
        assert found.clusters[0].absent == {"nope"}

    def test_what_is_pending_is_read_alone(self, ecs: LocalECS) -> None:
        """Who asks for it makes no new read; who asks for a load gets one, however soon."""
        ecs.populate("prod", services=1, tasks=2, instances=1)
        clock = Clock()
        with closing(EcsSource(settings(), clock=clock)) as source:
            first = source.load(None)
            assert first.pending
            assert only(first)["svc-0"].endpoints[0].port_name is None
            ecs.calls.clear()
            clock.now += 1
            second = source.load_pending()
            assert ecs.calls == {"DescribeTaskDefinition": 1}
            assert not second.pending
            assert only(second)["svc-0"].endpoints[0].port_name == "http"
            assert only(second)["svc-0"].observed_at == 1_000_000.0
            assert source.load_pending().clusters == ()
            source.load(None)
            assert ecs.calls["ListTasks"] == 1

    def test_definitions_are_read_as_many_as_our_share_allows_at_once(self, ecs: LocalECS) -> None:
        """Each time all that is known is mapped anew."""
        ecs.populate("prod", services=20, tasks=20, instances=1)
        with closing(EcsSource(settings(share=0.2), monotonic=lambda: 0.0)) as source:
            assert source.load(None).patience_s == 0.0
            ecs.calls.clear()
            later = source.load_pending()
            assert ecs.calls == {"DescribeTaskDefinition": 5}  # then one a second
            assert (later.pending, later.patience_s) == (True, 5.0)

    def test_definitions_that_endpoints_depend_on_wait_for_no_others(self, ecs: LocalECS) -> None:
        """They are asked for again soon, be it one by one."""
        ecs.populate("prod", services=4, tasks=4, instances=1, mode="awsvpc")
        ecs.faults.error(503, "DescribeTaskDefinition")
        with closing(EcsSource(settings(share=0.2), monotonic=lambda: 0.0)) as source:
            found = source.load(None)
            assert (found.pending, found.patience_s) == (True, 0.0)

    def test_a_load_is_a_new_read_while_definitions_cannot_be_had(self, ecs: LocalECS) -> None:
        """What is pending is no excuse to say again what was."""
        ecs.populate("prod", services=1, tasks=2, instances=1)
        ecs.faults.error(503, "DescribeTaskDefinition")
        with closing(EcsSource(settings())) as source:
            assert source.load(None).pending
            ecs.calls.clear()
            assert source.load(None).pending
        assert ecs.calls["ListTasks"] == 1

    def test_a_cluster_that_is_not_wanted_is_left_alone(self, ecs: LocalECS) -> None:
        """Only labels in `wanted` are read."""
        ecs.add_cluster("other")
        both = settings(ClusterSettings("prod"), ClusterSettings("other"))
        with closing(EcsSource(both)) as source:
            observation = source.load({"other": frozenset({"x"}), "prod": frozenset()})
        assert [reading.label for reading in observation.clusters] == ["other"]

    def test_a_large_sweep_asks_for_rest(self, ecs: LocalECS) -> None:
        """So that the same calls fit our share again."""
        ecs.populate("prod", services=1, tasks=400, instances=1)
        at = time.time()
        with closing(
            EcsSource(settings(share=0.2), clock=lambda: at, monotonic=lambda: 0.0)
        ) as source:
            # 9 calls from a share of 10 at once and 0.4 a second
            first = source.load(None)
            few = source.load({"prod": frozenset()})
        assert first.rest_s == pytest.approx((9 - 1) / 0.4)
        assert first.fresh_for_s == pytest.approx(3 * first.rest_s)
        # a small load in between shortens nothing
        assert (few.rest_s, few.fresh_for_s) == (first.rest_s, first.fresh_for_s)


class TestClusters:
    """Several clusters, regions and roles in one source."""

    def test_clusters_are_told_apart_by_label(self, ecs: LocalECS) -> None:
        """The same name in two regions, under an alias."""
        ecs.add_cluster("prod", region="eu-west-1")
        ecs.populate("prod", services=1, tasks=1, instances=1)
        ecs.populate("prod", region="eu-west-1", services=1, tasks=3, instances=1, prefix="eu")
        both = settings(
            ClusterSettings("prod"), ClusterSettings("prod", region="eu-west-1", alias="europe")
        )
        with closing(EcsSource(both)) as source:
            assert source.labels == ("prod", "europe")
            readings: dict[str, ClusterReading] = {}
            deadline = time.monotonic() + 30
            while len(readings) < 2 and time.monotonic() < deadline:  # who is slow comes later
                readings |= {r.label: r for r in source.load(None).clusters if r.error is None}
        assert [(s.name, s.cluster, len(s.endpoints)) for s in readings["europe"].services] == [
            ("eu-0", "europe", 3)
        ]
        assert [s.name for s in readings["prod"].services] == ["svc-0"]

    def test_a_failing_cluster_leaves_the_others_alone(self, ecs: LocalECS) -> None:
        """Each reading has its own error."""
        ecs.populate("prod", services=1, tasks=1, instances=1)
        both = settings(ClusterSettings("nowhere"), ClusterSettings("prod"))
        with closing(EcsSource(both)) as source:
            nowhere, prod = source.load(None).clusters
        assert isinstance(nowhere.error, ClusterNotFound)
        assert [s.name for s in prod.services] == ["svc-0"]

    @pytest.mark.parametrize(("account", "is_found"), [("123456789012", True), ("9" * 12, False)])
    def test_an_arn_means_no_cluster_of_another_account(
        self, ecs: LocalECS, account: str, is_found: bool
    ) -> None:
        """Though the credentials may see one of the same name."""
        ecs.populate("prod", services=1, tasks=1, instances=1)
        arn = f"arn:aws:ecs:us-east-1:{account}:cluster/prod"
        with closing(EcsSource(settings(*clusters(arn)))) as source:
            (reading,) = source.load(None).clusters
        assert [s.name for s in reading.services] == ["svc-0"] * is_found
        assert isinstance(reading.error, ClusterNotFound) is not is_found

    def test_a_role_is_assumed_with_its_external_id(self, ecs: LocalECS) -> None:
        """A cluster of another account."""
        role = "arn:aws:iam::210987654321:role/reader"
        ecs.add_role(role, "secret")
        ecs.add_cluster("shared", account="210987654321")
        cluster = ClusterSettings("shared", role_arn=role, external_id="secret")
        with closing(EcsSource(settings(cluster))) as source:
            (reading,) = source.load(None).clusters
            assert (reading.error, reading.complete) == (None, True)
            source.load(None)
        assert ecs.calls["AssumeRole"] == 1

    def test_a_wrong_external_id_is_a_missing_permission(self, ecs: LocalECS) -> None:
        """It names the action that was refused."""
        role = "arn:aws:iam::210987654321:role/reader"
        ecs.add_role(role, "secret")
        cluster = ClusterSettings("prod", role_arn=role, external_id="wrong")
        with closing(EcsSource(settings(cluster))) as source:
            (reading,) = source.load(None).clusters
        assert isinstance(reading.error, AccessDenied)
        assert reading.error.action == "sts:AssumeRole"


# a fault, the error that it must become, and what its sentence must say
FAILURES: list[tuple[str, Callable[[LocalECS], object], type[SourceError], list[str]]] = [
    (
        "denied",
        lambda ecs: ecs.faults.deny("ecs:ListTasks"),
        AccessDenied,
        ["ecs:ListTasks", "policy"],
    ),
    ("expired", lambda ecs: ecs.faults.expire(), CredentialsExpired, ["expired"]),
    (
        "5xx",
        lambda ecs: ecs.faults.error(500, "ListTasks"),
        SourceUnreachable,
        ["ListTasks", "side of AWS"],
    ),
    (
        "bad token",
        lambda ecs: ecs.faults.bad_token("ListTasks"),
        SourceError,
        ["ListTasks", "Invalid token"],
    ),
    (
        "torn page",
        lambda ecs: ecs.faults.error(500, "ListTasks", paged=True),
        SourceUnreachable,
        ["ListTasks"],
    ),
    (
        "torn answer",
        lambda ecs: ecs.faults.torn("ListTasks"),
        SourceMalformed,
        ["ListTasks", "taskArns"],
    ),
]


class TestFailures:
    """Each with one sentence; what AWS says is told apart."""

    @pytest.mark.parametrize(
        ("fault", "want", "says"), [f[1:] for f in FAILURES], ids=[f[0] for f in FAILURES]
    )
    def test_failures_are_told_apart(
        self,
        ecs: LocalECS,
        source: EcsSource,
        fault: Callable[[LocalECS], object],
        want: type[SourceError],
        says: list[str],
    ) -> None:
        """And nothing that was known is said to be gone."""
        ecs.populate("prod", services=2, tasks=150, instances=2)
        fault(ecs)
        (reading,) = source.load(None).clusters
        assert isinstance(reading.error, want)
        assert all(word in reading.error.message for word in says), reading.error.message
        assert "\n" not in reading.error.message
        assert (reading.services, reading.complete, reading.absent) == ((), False, frozenset())

    def test_an_unknown_cluster_is_named_with_its_region(self, ecs: LocalECS) -> None:
        """A wrong region is the usual cause."""
        with closing(EcsSource(settings(ClusterSettings("nowhere")))) as source:
            (reading,) = source.load(None).clusters
        assert isinstance(reading.error, ClusterNotFound)
        assert "'nowhere' in us-east-1" in reading.error.message

    def test_throttling_is_said_after_several_attempts(
        self, ecs: LocalECS, source: EcsSource
    ) -> None:
        """Each with half the pace of the one before."""
        ecs.faults.throttle("ListTasks")
        (reading,) = source.load(None).clusters
        assert isinstance(reading.error, SourceThrottled)
        assert ecs.calls["ListTasks"] == 3  # all of them ours: the SDK makes no more of its own

    def test_a_throttle_in_passing_is_got_over(self, ecs: LocalECS, source: EcsSource) -> None:
        """The call waits and is made again."""
        ecs.populate("prod", services=1, tasks=1, instances=1)
        ecs.faults.throttle("DescribeTasks", times=2)
        assert len(only(source.load(None))["svc-0"].endpoints) == 1

    def test_an_endpoint_that_nobody_listens_on_is_named(
        self, ecs: LocalECS, bare: pytest.MonkeyPatch
    ) -> None:
        """The URL is what has to be looked at."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}"
            bare.setenv("AWS_ENDPOINT_URL", url)
            with closing(EcsSource(settings())) as source:
                (reading,) = source.load(None).clusters
        assert isinstance(reading.error, SourceUnreachable)
        assert url in reading.error.message

    def test_no_credentials_are_said(self, ecs: LocalECS, bare: pytest.MonkeyPatch) -> None:
        """With what to do about it."""
        bare.delenv("AWS_ACCESS_KEY_ID")
        with closing(EcsSource(settings())) as source:
            (reading,) = source.load(None).clusters
        assert isinstance(reading.error, CredentialsMissing)
        assert "AWS_PROFILE" in reading.error.message

    def test_no_region_is_said(self, ecs: LocalECS, bare: pytest.MonkeyPatch) -> None:
        """With what to do about it."""
        bare.delenv("AWS_REGION")
        bare.delenv("AWS_DEFAULT_REGION")
        with closing(EcsSource(settings())) as source:
            (reading,) = source.load(None).clusters
        assert isinstance(reading.error, RegionMissing)
        assert "AWS_REGION" in reading.error.message

    def test_a_profile_that_is_not_there_is_said(
        self, ecs: LocalECS, bare: pytest.MonkeyPatch
    ) -> None:
        """It names the profile."""
        bare.setenv("AWS_PROFILE", "nobody")
        with closing(EcsSource(settings())) as source:
            (reading,) = source.load(None).clusters
        assert isinstance(reading.error, CredentialsMissing)
        assert "nobody" in reading.error.message

    def test_an_endpoint_that_is_no_url_is_said(
        self, ecs: LocalECS, bare: pytest.MonkeyPatch
    ) -> None:
        """The client cannot even be built."""
        bare.setenv("AWS_ENDPOINT_URL", "not a url")
        with closing(EcsSource(settings())) as source:
            (reading,) = source.load(None).clusters
        assert isinstance(reading.error, SourceMalformed)
        assert "not a url" in reading.error.message

    def test_the_region_of_the_environment_is_honoured(
        self, ecs: LocalECS, bare: pytest.MonkeyPatch
    ) -> None:
        """AWS_REGION, the one variable that ECS sets and botocore does not read."""
        ecs.add_cluster("prod", region="eu-west-1")
        ecs.populate("prod", region="eu-west-1", services=1, tasks=1, instances=1, prefix="eu")
        bare.delenv("AWS_DEFAULT_REGION")
        bare.setenv("AWS_REGION", "eu-west-1")
        with closing(EcsSource(settings())) as source:
            assert set(only(source.load(None))) == {"eu-0"}

    def test_without_permission_for_ec2_what_is_missing_is_said(self, ecs: LocalECS) -> None:
        """No service is emptied; it is noticed once."""
        ecs.populate("prod", services=1, tasks=2, instances=1)
        ecs.faults.deny("ec2:DescribeInstances")
        noticed: list[Event] = []
        with closing(EcsSource(settings(), listeners=Listeners(noticed.append))) as source:
            for wanted in (None, {"prod": frozenset({"svc-0"})}):
                (found,) = source.load(wanted).clusters
                assert (found.services, found.unread) == ((), frozenset({"svc-0"}))
                assert "ec2:DescribeInstances" in str(found.error)
        assert len([e for e in noticed if isinstance(e, Noticed)]) == 1

    def test_tasks_that_ecs_does_not_know_wait_for_a_second_read(self, ecs: LocalECS) -> None:
        """They are as they were after the first, and gone after the second."""
        ecs.populate("prod", services=1, tasks=2, instances=2, mode="host")
        clock = Clock()
        with closing(EcsSource(settings(), clock=clock)) as source:
            assert len(only(source.load(None))["svc-0"].endpoints) == 2
            ecs.faults.missing(operation="DescribeTasks")
            clock.now += SETTLED_S
            (reading,) = source.load(None).clusters
            assert reading.unread == {"svc-0"}
            clock.now += 10
            assert only(source.load(None))["svc-0"].endpoints == ()

    def test_optional_members_may_be_missing(self, ecs: LocalECS, source: EcsSource) -> None:
        """One missing field never fails a cluster."""
        ecs.populate("prod", services=1, tasks=2, instances=1)
        ecs.faults.omit(
            *("availabilityZone", "healthStatus", "connectivity", "tags", "startedBy", "version"),
            *("createdAt", "attachments", "launchType", "protocol", "attributes", "deployments"),
        )
        assert len(only(source.load(None))["svc-0"].endpoints) == 2


class Doorman:
    """Lets calls for one cluster wait at the door of boto3 until it opens."""

    def __init__(self, cluster: str) -> None:
        self.cluster = cluster
        self.opened = threading.Event()
        self.waiting = threading.Event()

    def __call__(self, params: Any, **_: Any) -> None:
        """Called by botocore before each call is made."""
        if f'"{self.cluster}"' in str(params.get("body")):
            self.waiting.set()
            assert self.opened.wait(30)


def guarded(source: EcsSource, doorman: Doorman) -> None:
    """Have the doorman stand before the source's client."""
    client = source._clients.client("ecs", Access())
    client.meta.events.register("before-call.ecs", doorman)


class TestSlowClusters:
    """Who hangs holds up nobody."""

    def both(self, ecs: LocalECS) -> Settings:
        """Two clusters with one service each."""
        ecs.add_cluster("other")
        ecs.populate("prod", services=1, tasks=1, instances=1)
        ecs.populate("other", services=1, tasks=1, instances=1, prefix="other")
        return settings(ClusterSettings("prod"), ClusterSettings("other"))

    def test_a_cluster_that_hangs_is_an_error_and_the_other_is_read(self, ecs: LocalECS) -> None:
        """Within moments; what the slow one says comes with a later load."""
        doorman = Doorman("other")
        with closing(EcsSource(self.both(ecs))) as source:
            guarded(source, doorman)
            started = time.monotonic()
            readings = {r.label: r for r in source.load(None).clusters}
            assert time.monotonic() - started < PROMPT_S + 2
            assert [s.name for s in readings["prod"].services] == ["svc-0"]
            assert "still being read" in str(readings["other"].error)
            doorman.opened.set()
            found = {
                s.name for _ in range(2) for r in source.load(None).clusters for s in r.services
            }
        assert found == {"svc-0", "other-0"}

    @pytest.mark.parametrize(
        ("last_s", "since_s", "holds"), [(5, 119, True), (5, 121, False), (75, 180, True)]
    )
    def test_what_was_known_holds_longer_where_reads_take_long(
        self, last_s: float, since_s: float, holds: bool
    ) -> None:
        """Our share may stretch a read of many tasks over minutes: that is no failure."""
        clock, memory = FakeClock(), Memory()
        last = Outcome(ClusterReading("prod"), None, seconds=last_s)
        steps = reading(SCOPE, memory, None, clock())
        cluster = ReadCluster(SCOPE, Access(), memory, last=last)
        cluster.under_way = Conversation(
            "prod", None, memory, cluster.lock, steps, lambda _: [], clock
        )
        clock.now += since_s
        assert cluster.stands(None) == holds

    def test_nobody_waits_twice_for_the_same_slow_read(self, ecs: LocalECS) -> None:
        """The next load is as fast as its fast clusters, and what was known still holds."""
        doorman = Doorman("other")
        with closing(EcsSource(self.both(ecs))) as source:
            before = {r.label: r for r in source.load(None).clusters}
            guarded(source, doorman)
            source.load(None)
            started = time.monotonic()
            readings = {r.label: r for r in source.load(None).clusters}
            doorman.opened.set()
        assert time.monotonic() - started < PROMPT_S + 1
        assert readings["other"].services == before["other"].services
        assert not readings["other"].complete

    def test_names_asked_while_others_are_read_are_not_absent(self, ecs: LocalECS) -> None:
        """A word on other names is none on these."""
        doorman = Doorman("other")
        with closing(EcsSource(self.both(ecs))) as source:
            guarded(source, doorman)
            source.load({"prod": frozenset({"svc-0"}), "other": frozenset({"x"})})
            readings = source.load({"prod": frozenset({"svc-0"}), "other": frozenset({"other-0"})})
            doorman.opened.set()
        (other,) = (r for r in readings.clusters if r.label == "other")
        assert other.error is not None
        assert "other-0" not in other.absent

    def test_one_cluster_with_strange_answers_leaves_the_others_alone(
        self, ecs: LocalECS, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Even a mistake of ours is an error of that cluster."""
        both = self.both(ecs)
        with closing(EcsSource(both)) as source:
            source._clusters[1].memory.verdicts = None  # type: ignore[assignment]  # a mistake of ours
            prod, other = sorted(source.load(None).clusters, key=lambda r: r.label != "prod")
        assert [s.name for s in prod.services] == ["svc-0"]
        assert "could not be read" in str(other.error)
        assert "a read of cluster other failed" in caplog.text


class TestConduct:
    """Events, waiting, closing, forking."""

    def test_every_call_is_told_with_its_reason(self, ecs: LocalECS) -> None:
        """And with its error, where it failed."""
        told: list[Event] = []
        ecs.faults.error(500, "ListServices")
        with closing(EcsSource(settings(), listeners=Listeners(told.append))) as source:
            source.load(None)
        made = {e.operation: e for e in told if isinstance(e, CallMade)}
        assert made["ListTasks"].error is None
        assert made["ListTasks"].reason
        assert "ListServices" in (made["ListServices"].error or "")

    def test_closing_ends_a_load_that_waits_for_its_share(self, ecs: LocalECS) -> None:
        """It does not sit out the wait."""
        waits = threading.Event()

        def listen(event: Event) -> None:
            if isinstance(event, BudgetWaited):
                waits.set()

        ecs.populate("prod", services=1, tasks=400, instances=1, mode="host")
        slow = settings(share=0.01)
        source = EcsSource(slow, listeners=Listeners(listen))
        errors: list[SourceError | None] = []
        load = threading.Thread(
            target=lambda: errors.extend(r.error for r in source.load(None).clusters)
        )
        started = time.monotonic()
        load.start()
        assert waits.wait(10)
        source.close()
        load.join(10)
        assert not load.is_alive()
        assert time.monotonic() - started < 10
        assert isinstance(errors[0], SourceUnreachable)

    def test_no_thread_stays_behind_a_load(self, ecs: LocalECS, source: EcsSource) -> None:
        """Nothing lives between loads."""
        before = set(threading.enumerate())
        source.load(None)
        assert not set(threading.enumerate()) - before

    def test_a_fork_reads_on_its_own(self, ecs: LocalECS) -> None:
        """The child builds its own connections; both find the same."""
        ecs.populate("prod", services=1, tasks=2, instances=1)
        program = """
import os, sys
from discovery.ecs.rotation import SETTLED_S
from discovery.ecs.source import EcsSource
from discovery.settings import Settings
from discovery.written import ClusterSettings

source = EcsSource(Settings(clusters=(ClusterSettings("prod"),)))
def found():
    return sum(len(s.endpoints) for r in source.load(None).clusters for s in r.services)
assert found() == 2
child = os.fork()
if not child:
    os._exit(0 if found() == 2 else 1)
_, status = os.waitpid(child, 0)
assert found() == 2
source.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""
        done = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
        assert done.returncode == 0

    def test_a_fork_is_not_held_up_by_locks_of_the_parent(self, ecs: LocalECS) -> None:
        """Some thread of the parent may hold any of them at that moment."""
        program = """
import os, signal, threading
from discovery.ecs.rotation import SETTLED_S
from discovery.ecs.source import EcsSource
from discovery.settings import Settings
from discovery.written import ClusterSettings

source = EcsSource(Settings(clusters=(ClusterSettings("prod"),)))
source.load(None)
with source._closed._cond:
    child = os.fork()
    if not child:
        signal.alarm(20)
        (reading,) = source.load(None).clusters
        source.close()
        os._exit(0 if reading.error is None else 1)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
"""
        done = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
        assert done.returncode == 0

    def test_a_program_that_closes_nothing_ends_at_once(self, ecs: LocalECS) -> None:
        """Also while calls wait for their share of the budget."""
        ecs.populate("prod", services=1, tasks=800, instances=1, mode="host")
        program = """
import threading, time
from discovery.ecs.rotation import SETTLED_S
from discovery.ecs.source import EcsSource
from discovery.events import BudgetWaited, Listeners
from discovery.settings import Settings
from discovery.written import ClusterSettings

waits = threading.Event()
listeners = Listeners(lambda e: waits.set() if isinstance(e, BudgetWaited) else None)
settings = Settings(clusters=(ClusterSettings("prod"),), share=0.01)
source = EcsSource(settings, listeners=listeners)
threading.Thread(target=source.load, args=(None,), daemon=True).start()
assert waits.wait(10)
print(time.time())
"""
        done = subprocess.run(
            [sys.executable, "-c", program], timeout=60, check=True, stdout=subprocess.PIPE
        )
        assert time.time() - float(done.stdout) < 30  # its calls would wait for minutes

    def test_a_source_needs_a_cluster(self) -> None:
        """The error says what would be right."""
        with pytest.raises(BadSetting, match="clusters"):
            EcsSource(Settings())

    def test_closing_twice_is_safe(self, ecs: LocalECS, source: EcsSource) -> None:
        """And says so."""
        source.load(None)
        source.close()
        source.close()
        assert repr(source) == "<EcsSource [closed]>"

"""Real tasks come, go, freeze and fail while clients call them: no idempotent request fails.

Boto3 against the local ECS, tasks as real processes, clients in threads and in an event loop.
"""

import asyncio
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from discovery import AsyncDiscoveryTransport, DiscoveryTransport, Hedging, Resolver
from discovery.local.server import LocalECS
from discovery.settings import Settings
from tests.made import OwnClock

PROGRAM = Path(__file__).with_name("task_program.py")
LISTENS = "exec 3<>/dev/tcp/$HOST/$PORT"
TASKS = 4
TIMEOUT_S = 1.0
DEADLINE_S = 30.0


class Fleet:
    """The service `web` on a local ECS, and what can happen to it."""

    def __init__(self, ecs: LocalECS, posted: Path) -> None:
        self._ecs = ecs
        self.posted = posted
        self._api: Any = boto3.client(
            "ecs",
            endpoint_url=ecs.url,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )
        self._define()
        self._api.create_service(
            cluster="demo", serviceName="web", taskDefinition="web", desiredCount=TASKS
        )
        self.settle()

    def _define(self) -> None:
        container = {
            "name": "web",
            "image": "web",
            "memory": 32,
            "entryPoint": [sys.executable, "-S", str(PROGRAM)],
            "portMappings": [{"containerPort": 80, "hostPort": 0}],
            "environment": [{"name": "POSTED", "value": str(self.posted)}],
            "stopTimeout": 2,
            # Without it a deployment would end the last old task before the first new one listens.
            "healthCheck": {"command": ["CMD", "bash", "-c", LISTENS], "interval": 5},
        }
        self._api.register_task_definition(
            family="web", networkMode="bridge", containerDefinitions=[container]
        )

    def settle(self) -> None:
        """Wait until what runs is what is wanted."""
        self._api.get_waiter("services_stable").wait(
            cluster="demo", services=["web"], WaiterConfig={"Delay": 1, "MaxAttempts": 30}
        )

    def deploy(self) -> None:
        """Replace every task by one of a new definition."""
        self._define()
        self._api.update_service(cluster="demo", service="web", taskDefinition="web")
        self.settle()

    def scale(self, count: int) -> None:
        """Run so many tasks."""
        self._api.update_service(cluster="demo", service="web", desiredCount=count)
        self.settle()

    def kill(self) -> None:
        """End a task's process without a word."""
        (arn, *_) = self._api.list_tasks(cluster="demo", serviceName="web")["taskArns"]
        self._ecs.kill_process(arn)
        self.settle()

    def close(self) -> None:
        """Close the API's connections."""
        self._api.close()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Four tasks on two hosts."""
    with LocalECS(listen="127.0.0.1:0") as ecs, pytest.MonkeyPatch.context() as patch:
        for name, value in ecs.environment().items():
            patch.setenv(name, value)
        ecs.add_cluster("demo")
        ecs.add_instances("demo", 2)
        made = Fleet(ecs, tmp_path_factory.mktemp("fleet") / "posted")
        yield made
        made.close()


@pytest.fixture
def resolver(fleet: Fleet) -> Iterator[Resolver]:
    """Reads often, since things happen fast here."""
    with Resolver("demo", settings=Settings(interval_s=0.5), monotonic=OwnClock()) as made:
        yield made


class Load:
    """Calls that go on until the block ends, two at a time; `failed` are those that failed."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self.failed: list[str] = []
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def run(self, *works: Callable[[], None]) -> None:
        """Begin."""
        for work in works:
            self._threads.append(threading.Thread(target=work))
            self._threads[-1].start()

    @property
    def goes_on(self) -> bool:
        """Whether to send another."""
        return not self._over.wait(0.002)

    def note(self, status: int, body: str) -> None:
        """An answer came."""
        self.answers[body] += 1
        if status != 200:
            self.failed.append(f"status {status} from {body}")

    def pass_by(self, count: int) -> None:
        """Wait until so many more requests were answered."""
        wanted, ends_at = self.answers.total() + count, time.monotonic() + DEADLINE_S
        while self.answers.total() < wanted:
            assert time.monotonic() < ends_at, f"no progress: {self.failed[:3]}"
            threading.Event().wait(0.01)

    def end(self) -> None:
        """End, and wait for it."""
        self._over.set()
        for thread in self._threads:
            thread.join(DEADLINE_S)


def call_from_threads(load: Load, resolver: Resolver) -> None:
    """Two threads with one client."""

    def work() -> None:
        with httpx.Client(
            transport=DiscoveryTransport(resolver),
            timeout=TIMEOUT_S,
            trust_env=False,
        ) as client:
            while load.goes_on:
                try:
                    answer = client.get("http://web/")
                    load.note(answer.status_code, answer.text)
                except httpx.HTTPError as error:
                    load.failed.append(f"{type(error).__name__}: {error}")

    load.run(work, work)


def call_from_loop(load: Load, resolver: Resolver) -> None:
    """Two coroutines with one client."""

    async def ask(client: httpx.AsyncClient) -> None:
        while not load._over.is_set():
            await asyncio.sleep(0.002)
            try:
                answer = await client.get("http://web/")
                load.note(answer.status_code, answer.text)
            except httpx.HTTPError as error:
                load.failed.append(f"{type(error).__name__}: {error}")

    async def both() -> None:
        transport = AsyncDiscoveryTransport(resolver)
        async with httpx.AsyncClient(
            transport=transport, timeout=TIMEOUT_S, trust_env=False
        ) as client:
            await asyncio.gather(ask(client), ask(client))

    load.run(lambda: asyncio.run(both()))


WAYS = {"threads": call_from_threads, "event loop": call_from_loop}


@pytest.fixture(params=WAYS)
def load(request: pytest.FixtureRequest, resolver: Resolver) -> Iterator[Load]:
    """Calls of each kind in turn, under way already."""
    made = Load()
    try:
        WAYS[request.param](made, resolver)
        made.pass_by(20)
        yield made
    finally:
        made.end()


def test_a_rolling_deployment(fleet: Fleet, load: Load) -> None:
    """Every task is replaced by another."""
    before = set(load.answers)
    fleet.deploy()
    load.pass_by(50)
    recent = load.answers.copy()
    load.pass_by(50)
    load.end()
    assert load.failed == []
    assert not {pid for pid in load.answers if load.answers[pid] > recent[pid]} & before


def test_a_killed_task(fleet: Fleet, load: Load) -> None:
    """In the middle of whatever it does."""
    fleet.kill()
    load.pass_by(50)
    load.end()
    assert load.failed == []


def test_a_frozen_task(load: Load, resolver: Resolver) -> None:
    """Its kernel goes on to accept connections, and nothing answers."""
    pid = int(load.answers.most_common(1)[0][0])
    os.kill(pid, signal.SIGSTOP)
    try:
        load.pass_by(200)
    finally:
        os.kill(pid, signal.SIGCONT)
    load.end()
    assert load.failed == []


def test_a_task_that_answers_500(load: Load, resolver: Resolver) -> None:
    """It is ejected, and the requests that saw it were repeated elsewhere."""
    wanted = load.answers.most_common(1)[0][0]
    with httpx.Client(trust_env=False) as direct:
        urls = [e.url for e in resolver.endpoints("web")]
        (broken,) = [url for url in urls if direct.get(f"{url}/").text == wanted]
        direct.post(f"{broken}/fail")
        try:
            while "ejected: 5 failures in a row" not in repr(resolver):
                load.pass_by(20)
        finally:
            direct.post(f"{broken}/work")
    load.end()
    assert load.failed == []


def test_scaling_out_and_in(fleet: Fleet, load: Load) -> None:
    """New tasks are used, and old ones left, without a failure."""
    fleet.scale(TASKS + 2)
    load.pass_by(50)
    fleet.scale(TASKS)
    load.pass_by(50)
    load.end()
    assert load.failed == []


def post_from_threads(resolver: Resolver, bodies: Iterator[bytes], timeout_s: float) -> int:
    """How many of these posts failed, from a thread."""
    failed = 0
    with httpx.Client(
        transport=DiscoveryTransport(resolver), timeout=timeout_s, trust_env=False
    ) as client:
        for body in bodies:
            try:
                client.post("http://web/", content=body)
            except httpx.HTTPError:
                failed += 1
    return failed


def post_from_loop(resolver: Resolver, bodies: Iterator[bytes], timeout_s: float) -> int:
    """The same from an event loop, where whatever may be hedged is."""

    async def post() -> int:
        failed = 0
        transport = AsyncDiscoveryTransport(resolver, hedging=Hedging(least=4))
        async with httpx.AsyncClient(
            transport=transport, timeout=timeout_s, trust_env=False
        ) as client:
            for body in bodies:
                try:
                    await client.post("http://web/", content=body)
                except httpx.HTTPError:
                    failed += 1
        return failed

    return asyncio.run(post())


POSTS = {"threads": post_from_threads, "event loop": post_from_loop}


@pytest.mark.parametrize("way", POSTS)
def test_a_post_that_may_have_arrived_is_never_sent_again(
    fleet: Fleet, resolver: Resolver, way: str
) -> None:
    """A frozen task has it in its socket; the caller has to decide."""
    victim = resolver.endpoints("web")[0]
    with httpx.Client(trust_env=False) as direct:
        pid = int(direct.get(f"{victim.url}/").text)
    os.kill(pid, signal.SIGSTOP)
    try:
        failed = POSTS[way](resolver, repeat(b"once", 3 * TASKS), 0.3)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert failed >= 1


@pytest.mark.parametrize("way", POSTS)
def test_posts_arrive_once_at_most_while_tasks_are_killed(
    fleet: Fleet, resolver: Resolver, way: str
) -> None:
    """In the middle of whatever they do; only what a killed task had is lost."""
    over = threading.Event()
    sent: list[bytes] = []

    def bodies() -> Iterator[bytes]:
        while not over.is_set():
            sent.append(f"{way} {len(sent)}".encode())
            yield sent[-1]

    failed: list[int] = []
    work = threading.Thread(target=lambda: failed.append(POSTS[way](resolver, bodies(), TIMEOUT_S)))
    work.start()
    try:
        for _ in range(3):
            fleet.kill()
    finally:
        over.set()
        work.join(DEADLINE_S)
    arrived = Counter(line for line in fleet.posted.read_bytes().splitlines() if line in set(sent))
    assert max(arrived.values()) == 1
    assert len(sent) - len(arrived) <= failed[0] < len(sent)

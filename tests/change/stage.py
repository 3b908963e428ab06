"""A service under load from several callers at once, and what came of it."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from discovery import Resolver
from discovery.balancing.pool import Balancing
from discovery.balancing.round_robin import RoundRobin
from discovery.client.upstreams import Upstreams
from discovery.local.server import LocalECS
from discovery.local.world import Pace
from discovery.settings import Settings
from discovery.written import Address, ClusterSettings, Upstream
from tests.change.callers import FAILURES, Call, DnsCaller, Load, PlainCaller, TransportCaller
from tests.change.fleet import CLUSTER, Fleet, Shape, until
from tests.change.judging import Answer, Life, Score, score
from tests.cli.programs import Running, background

APP = "app"
NAME = f"_http._tcp.{APP}.{CLUSTER}.ecs.internal"
TRANSPORT, LISTENER, DNS = "transport", "listener", "DNS"
_EXACT: Mapping[str, Any] = {"policy": RoundRobin, "balancing": Balancing(slow_start_s=0.0)}
_THRIFTLESS = 10.0  # a factor on our share of the limits, so that intervals are what they are set


@dataclass(frozen=True, slots=True)
class Timing:
    """How fast everything goes.

    `interval_s` and `ttl_s` are the setting's; `drain_s` is for how long tasks outlive SIGTERM;
    `slack_s` is what a busy machine may add; `rate` is of requests a second and caller.
    """

    interval_s: float = 0.5
    ttl_s: int = 1
    drain_s: float = 8.0
    slack_s: float = 5.0
    rate: float = 20.0
    timeout_s: float = 15.0

    @property
    def grace_s(self) -> float:
        """From a change to when nobody goes by what was before."""
        return 1.1 * self.interval_s + self.ttl_s + self.slack_s


@dataclass(frozen=True, slots=True)
class Setting:
    """What there is before anything changes: the service `app`, hosts, and services beside it.

    The sidecar answers DNS at `dns`. Where it is `exact`, transport and listener go round by weight
    and start nobody slowly, while by default they also go by latency, of which there is chance in
    any amount on a busy machine.
    """

    tasks: int = 4
    hosts: int = 2
    host_options: Mapping[str, Any] = field(default_factory=dict)
    shape: Shape | None = None
    service: Mapping[str, Any] = field(default_factory=dict)
    beside: Mapping[str, int] = field(default_factory=dict)
    pace: Pace | None = None
    exact: bool = False
    ecs: Mapping[str, Any] = field(default_factory=dict)
    dns: str = "127.0.0.1:0"


@dataclass(slots=True)
class Stage:
    """A service, and those who call it. An act adds findings to `told`, what is not as it should
    be to `missed`, and moments, in seconds since the epoch, to `marks`."""

    timing: Timing
    fleet: Fleet
    load: Load
    resolver: Resolver
    sidecar: Running
    told: dict[str, str] = field(default_factory=dict)
    marks: dict[str, float] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)

    def lives(self) -> dict[str, Life]:
        """When each task began and was told to end."""
        return self.fleet.lives()

    def mark(self, name: str) -> None:
        """Remember this moment."""
        self.marks[name] = time.time()

    def since(self, name: str, caller: str) -> list[Answer]:
        """The answers to a caller's requests that began after that moment."""
        return [a for a in self.load.of(caller) if a.at > self.marks[name]]

    def between(self, first: str, second: str, caller: str) -> list[Answer]:
        """The same, up to another moment."""
        return [a for a in self.since(first, caller) if a.at < self.marks[second]]

    def scores(self, answers: list[Answer] | None = None) -> dict[str, Score]:
        """What the requests came to, by caller; all of them unless some are given."""
        lives, given = self.lives(), self.load.answers if answers is None else answers
        by_caller = {name: [a for a in given if a.caller == name] for name in self.load.names}
        return {
            name: score(several, lives, APP, self.timing.grace_s)
            for name, several in by_caller.items()
        }


More = Callable[[Timing, Fleet, ExitStack, Mapping[str, str]], Mapping[str, Call]]


@contextmanager
def staged(setting: Setting, timing: Timing, more: More | None = None) -> Iterator[Stage]:
    """A stage on which all callers are being answered. `more` makes further callers."""
    with ExitStack() as stack:
        logs = stack.enter_context(TemporaryDirectory())
        options = {"throttle": False, "pace": setting.pace, "log_dir": logs, **setting.ecs}
        ecs = stack.enter_context(LocalECS("127.0.0.1:0", **options))
        fleet = Fleet(ecs, Path(logs))
        stack.callback(fleet.close)
        _populate(ecs, fleet, setting, timing)
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in ecs.environment().items():
            patch.setenv(name, value)
        resolver = _resolver(stack, setting, timing)
        sidecar, dns, listener = _sidecar(stack, ecs, setting, timing)
        if setting.exact:
            listener = _listener(stack, _resolver(stack, setting, timing))
        transport = TransportCaller(resolver, APP, timing.timeout_s)
        stack.callback(transport.close)
        callers: dict[str, Call] = {
            TRANSPORT: transport,
            LISTENER: PlainCaller(listener, timing.timeout_s),
            DNS: DnsCaller(dns, NAME, timing.timeout_s, Random(1)),
        }
        if more is not None:
            callers |= more(timing, fleet, stack, ecs.environment())
        load = Load(callers, timing.rate)
        _warmed(callers)
        stack.enter_context(load)
        load.pass_by(10, answered=True)
        yield Stage(timing, fleet, load, resolver, sidecar)


def _populate(ecs: LocalECS, fleet: Fleet, setting: Setting, timing: Timing) -> None:
    ecs.add_cluster(CLUSTER)
    fleet.add_hosts(setting.hosts, **setting.host_options)
    shape = setting.shape or Shape(drain_s=timing.drain_s)
    fleet.create(APP, setting.tasks, shape, **setting.service)
    for name, count in setting.beside.items():
        fleet.create(name, count, shape, **setting.service)
    for name in (APP, *setting.beside):
        fleet.settle(name)


def _sidecar(
    stack: ExitStack, ecs: LocalECS, setting: Setting, timing: Timing
) -> tuple[Running, Address, Address]:
    """A sidecar in a process of its own; where it answers DNS, and where its listener is."""
    settings = {
        "ECS_DISCOVERY_INTERVAL": str(timing.interval_s),
        "ECS_DISCOVERY_TTL": str(timing.ttl_s),
        "ECS_DISCOVERY_NEGATIVE_TTL": "1",
        "ECS_DISCOVERY_SHARE": str(_THRIFTLESS),
        "PYTHONWARNINGS": "default",
    }
    words = ["serve", "--cluster", CLUSTER, "--http", "127.0.0.1:0"]
    words += ["--dns", setting.dns, "--upstream"]
    running = stack.enter_context(
        background(*words, f"{APP}=127.0.0.1:0", env=ecs.environment() | settings)
    )
    said = running.until("leading connections to", "is read")
    return running, _address(r"DNS on (\S+) ", said), _address(r"connections to (\S+) on", said)


def _resolver(stack: ExitStack, setting: Setting, timing: Timing) -> Resolver:
    """A resolver of this process, with pools of its own."""
    settings = Settings(interval_s=timing.interval_s, share=_THRIFTLESS)
    exact = _EXACT if setting.exact else {}
    return stack.enter_context(Resolver(ClusterSettings(CLUSTER), settings=settings, **exact))


def _listener(stack: ExitStack, resolver: Resolver) -> Address:
    """A listener of this process."""
    upstreams = Upstreams(resolver, [Upstream(APP, Address("127.0.0.1", 0))])
    stack.callback(upstreams.close)
    upstreams.start()
    return upstreams.addresses[0]


def _address(pattern: str, text: str) -> Address:
    found = re.search(pattern, text)
    assert found is not None, text
    host, _, port = found[1].rpartition(":")
    return Address(host, int(port))


def _warmed(callers: Mapping[str, Call]) -> None:
    """Have every caller answered once, as tasks may run long before they listen."""
    for call in callers.values():

        def answers(call: Call = call) -> bool:
            try:
                return bool(call())
            except FAILURES:
                return False

        until(answers, "a caller was never answered")

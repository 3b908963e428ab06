"""What vanishes without a word, whose address another has, that ECS hides, or that is gone."""

import json
import subprocess
import sys

import pytest

from tests.change.apart import apart, failed_since, why_not
from tests.change.fleet import Shape
from tests.change.judging import Score
from tests.change.scenarios import Scenario, ended_unseen, reused, zero, zone_lost
from tests.change.stage import DNS, LISTENER, TRANSPORT, Stage, Timing, staged

TIMING = Timing(slack_s=2.5, timeout_s=5.0)
PLAIN = Shape()
NOTHING: dict[str, list[str]] = {TRANSPORT: [], LISTENER: [], DNS: []}


def played(scenario: Scenario) -> tuple[Stage, dict[str, Score]]:
    """The stage once the scenario is over, and what the requests came to; nothing goes on."""
    with staged(scenario.setting, TIMING) as stage:
        scenario.act(stage)
        return stage, stage.scores()


def test_a_lost_zone_fails_no_request_that_begins_afterwards() -> None:
    """Its processes stand still, and answer nobody."""
    stage, _ = played(zone_lost(PLAIN, 0.0))
    assert failed_since(stage) == NOTHING


def test_a_zone_whose_packets_are_dropped_fails_no_request_that_begins_afterwards() -> None:
    """Not even a connection is made; in a network of its own."""
    if (reason := why_not()) is not None:
        pytest.skip(f"a zone cannot be cut off here: {reason}")
    words = [sys.executable, "-m", "tests.change.apart"]
    done = subprocess.run(apart(words), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    assert json.loads(done.stdout) == NOTHING


def test_who_has_an_old_task_s_port_gets_none_of_its_requests() -> None:
    """Once an interval and a TTL are over; the transport fails nobody meanwhile."""
    stage, found = played(reused(PLAIN, exchanges=4, pause_s=2.5))
    assert int(stage.told["exchanged"]) >= 3
    assert {name: score.wrong_late for name, score in found.items()} == dict.fromkeys(found, 0)
    assert found[TRANSPORT].failed == 0


def test_a_task_that_ends_unseen_leaves_by_its_refusals() -> None:
    """What a listener meets is looked into, and the DNS heeds it: then nobody fails any more."""
    _, found = played(ended_unseen(PLAIN))
    assert found[TRANSPORT].failed == 0


def test_a_service_without_tasks_is_an_error_that_says_so_until_they_are_back() -> None:
    """Names without an address in DNS, a reset of connections to a listener."""
    stage, _ = played(zero(PLAIN))
    said = {c: stage.between("empty", "back", c)[-1].error for c in stage.load.names}
    assert "app.demo has no endpoint" in said[TRANSPORT]
    assert "reset" in said[LISTENER]
    assert "has no address" in said[DNS]
    assert [c for c in stage.load.names if stage.load.of(c)[-1].error] == []

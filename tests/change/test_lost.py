"""What vanishes without a word, whose address another has, that ECS hides, or that is gone."""

from tests.change.fleet import Shape
from tests.change.judging import Score
from tests.change.scenarios import Scenario, ended_unseen, reused, zero, zone_lost
from tests.change.stage import DNS, LISTENER, TRANSPORT, Stage, Timing, staged

TIMING = Timing(slack_s=2.5, timeout_s=5.0)
PLAIN = Shape()


def played(scenario: Scenario) -> tuple[Stage, dict[str, Score]]:
    """The stage once the scenario is over, and what the requests came to; nothing goes on."""
    with staged(scenario.setting, TIMING) as stage:
        scenario.act(stage)
        return stage, stage.scores()


def errors(stage: Stage, caller: str, since: str) -> list[str]:
    """What failed of the requests that began after that moment."""
    return [a.error for a in stage.since(since, caller) if a.error]


def test_a_lost_zone_fails_no_request_that_begins_afterwards() -> None:
    """By transport and listener; clients of the DNS fail until its tasks have left the answers.

    Who had sent a request before, and may not send it again, waits in vain.
    """
    stage, _ = played(zone_lost(PLAIN, 0.0))
    assert errors(stage, TRANSPORT, "lost") == []
    assert errors(stage, LISTENER, "silent") == []
    assert errors(stage, DNS, "over") == []


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

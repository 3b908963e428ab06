"""Which candidates serve, what becomes of the others, and what is remembered of their health."""

import pytest

from discovery.health.eligibility import Candidate, CheckKey, Verdicts, judged
from discovery.model import Endpoint, Health


def candidate(
    task: str = "task-1",
    reported: str | None = None,
    *,
    checked: bool = False,
    phase: Health | None = None,
    run: str | None = None,
    port: int = 80,
) -> Candidate:
    """A candidate on port 80 of container `app`."""
    endpoint = Endpoint("10.0.0.1", port, container="app", task_arn=task, container_port=port)
    check = (task, "app", run)
    return Candidate(endpoint, check, reported, has_health_check=checked, phase=phase)


def key(task: str = "task-1", run: str | None = None) -> CheckKey:
    """What verdicts on a candidate are remembered by."""
    return task, "app", run


# reported, has a check, last verdict, phase → health
RATINGS: list[tuple[str | None, bool, Health | None, Health | None, Health]] = [
    ("HEALTHY", True, None, None, "healthy"),
    ("HEALTHY", False, None, None, "healthy"),
    ("UNHEALTHY", True, "healthy", None, "unhealthy"),
    ("UNHEALTHY", False, None, None, "unhealthy"),
    ("UNKNOWN", False, None, None, "unknown"),
    (None, False, None, None, "unknown"),
    ("UNKNOWN", True, None, None, "starting"),
    (None, True, None, None, "starting"),
    ("UNKNOWN", True, "healthy", None, "healthy"),
    ("UNKNOWN", True, "unhealthy", None, "unhealthy"),
    ("UNKNOWN", False, "unhealthy", None, "unknown"),
    ("HEALTHY", True, None, "draining", "draining"),
    ("HEALTHY", True, None, "starting", "starting"),
]


@pytest.mark.parametrize(("reported", "checked", "last", "phase", "want"), RATINGS)
def test_health_follows_report_check_and_last_verdict(
    reported: str | None, checked: bool, last: Health | None, phase: Health | None, want: Health
) -> None:
    """UNKNOWN is no health check, no verdict yet, or lost sight; the definition tells which."""
    verdicts: Verdicts = {key(): last} if last else {}
    judgement = judged([candidate(reported=reported, checked=checked, phase=phase)], verdicts)
    assert [e.health for e in judgement.endpoints] == [want]
    assert [e.is_last_resort for e in judgement.endpoints] == [want not in ("healthy", "unknown")]


def test_an_endpoint_of_which_no_health_is_known_is_the_candidates_own() -> None:
    """There are many of them: none is made twice."""
    known = candidate()
    (endpoint,) = judged([known], {}).endpoints
    assert endpoint is known.endpoint


@pytest.mark.parametrize(
    ("out", "reason"),
    [
        (candidate("b", "UNHEALTHY"), "its health check fails"),
        (candidate("b", "UNKNOWN", checked=True), "its health check has no verdict yet"),
        (candidate("b", phase="draining"), "it is being stopped"),
    ],
)
def test_what_does_not_serve_is_excluded_with_its_reason(out: Candidate, reason: str) -> None:
    """Beside one that serves, others are out."""
    judgement = judged([out, candidate("a", "HEALTHY")], {})
    assert [e.task_arn for e in judgement.endpoints] == ["a"]
    assert [
        (e.task_arn, e.container, e.container_port, e.reason) for e in judgement.exclusions
    ] == [("b", "app", 80, reason)]
    assert not judgement.endpoints[0].is_last_resort


def test_the_last_resort_is_all_that_runs_best_first() -> None:
    """Draining still answers, starting soon will, unhealthy may."""
    judgement = judged(
        [
            candidate("a", "UNHEALTHY"),
            candidate("b", "UNKNOWN", checked=True),
            candidate("c", phase="draining"),
        ],
        {},
    )
    assert [e.health for e in judgement.endpoints] == ["draining", "starting", "unhealthy"]
    assert judgement.exclusions == ()


def test_each_port_has_its_own_last_resort() -> None:
    """A metrics port that serves is no reason to give up the application's."""
    judgement = judged([candidate("a", "UNHEALTHY"), candidate("a", port=9090)], {})
    assert [(e.port, e.is_last_resort) for e in judgement.endpoints] == [(9090, False), (80, True)]
    assert judgement.exclusions == ()


def test_whoever_stands_for_another_one_serves_in_its_place() -> None:
    """What ports mean the same the caller knows, as when a rollout moves one."""
    both = [candidate("a", "HEALTHY"), candidate("b", "UNKNOWN", checked=True, port=8080)]
    assert len(judged(both, {}).endpoints) == 2
    judgement = judged(both, {}, role=lambda endpoint: "default")
    assert [e.port for e in judgement.endpoints] == [80]
    assert [e.task_arn for e in judgement.exclusions] == ["b"]


def test_nothing_that_runs_is_no_last_resort() -> None:
    """An empty service is empty, not degraded."""
    assert judged([], {}).endpoints == ()


def test_endpoints_come_in_a_stable_order() -> None:
    """Whatever the order of the documents."""
    several = [candidate(task, port=port) for task in "cab" for port in (81, 80)]
    first, second = judged(several, {}), judged(several[::-1], {})
    assert first.endpoints == second.endpoints
    assert [(e.task_arn, e.port) for e in first.endpoints][:3] == [("a", 80), ("a", 81), ("b", 80)]


def test_a_verdict_is_remembered_while_ecs_has_lost_sight() -> None:
    """HEALTHY, then UNKNOWN: still healthy, and still remembered."""
    once = judged([candidate(reported="HEALTHY", checked=True)], {})
    again = judged([candidate(reported="UNKNOWN", checked=True)], once.verdicts)
    assert [e.health for e in again.endpoints] == ["healthy"]
    assert again.verdicts == {key(): "healthy"}


def test_a_restarted_container_starts_anew() -> None:
    """Another run of the container has no verdict of its own yet."""
    once = judged([candidate(reported="HEALTHY", checked=True, run="first")], {})
    again = judged([candidate(reported="UNKNOWN", checked=True, run="second")], once.verdicts)
    assert [e.health for e in again.endpoints] == ["starting"]


def test_verdicts_of_others_are_not_carried_on() -> None:
    """The memory is bounded by what is judged."""
    judgement = judged([candidate("a", "HEALTHY")], {key("gone"): "healthy"})
    assert set(judgement.verdicts) == {key("a")}


def test_what_is_excluded_beside_better_is_kept_as_a_spare() -> None:
    """With its health, so that it can become the last resort later."""
    judgement = judged([candidate("b", phase="draining"), candidate("a", "HEALTHY")], {})
    assert [(e.task_arn, e.health) for e in judgement.spares] == [("b", "draining")]

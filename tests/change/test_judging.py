"""How requests are judged: by hand-made answers and lives."""

import pytest

from tests.change.judging import Answer, Life, most_loaded, percentile, score, share

GRACE_S = 3.0
LIVES = {
    "a": Life("a", "app", 0.0),
    "b": Life("b", "app", 0.0, stopping_at=50.0),
    "x": Life("x", "other", 0.0),
}


def answered(at: float, task: str = "a", service: str = "app", revision: str = "1") -> Answer:
    return Answer("someone", at, 0.1, service, revision, task)


def failed(at: float, error: str = "refused") -> Answer:
    return Answer("someone", at, 0.1, error=error)


def test_failures_are_counted_by_what_was_said() -> None:
    """Each with its words."""
    found = score([answered(1), failed(2), failed(3), failed(4, "late")], LIVES, "app", GRACE_S)
    assert (found.requests, found.failed) == (4, 3)
    assert found.errors == {"refused": 2, "late": 1}


@pytest.mark.parametrize(("at", "late"), [(49.0, 0), (52.9, 0), (53.1, 1)])
def test_a_request_is_late_once_the_grace_after_stopped_is_over(at: float, late: int) -> None:
    """Not before."""
    answers = [answered(1.0, "a"), answered(at, "b")]
    assert score(answers, LIVES, "app", GRACE_S).late == late


def test_the_last_resort_is_not_late() -> None:
    """While nobody else has served for long, who is to stop may be asked."""
    answers = [answered(60.0, "b"), answered(61.0, "a"), answered(62.0, "b"), answered(65.0, "b")]
    assert score(answers, LIVES, "app", GRACE_S).late == 1


@pytest.mark.parametrize(("at", "beyond"), [(1.0, 0), (3.1, 1)])
def test_an_answer_of_another_service_is_wrong(at: float, beyond: int) -> None:
    """And beyond the grace where its task ran for longer."""
    found = score([answered(at, "x", "other")], LIVES, "app", GRACE_S)
    assert (found.wrong, found.wrong_late) == (1, beyond)


def test_the_fair_share_is_one_part_of_those_that_serve() -> None:
    """One of two has three quarters of the requests."""
    answers = [answered(n / 10, "b" if n % 4 == 0 else "a") for n in range(200)]
    assert most_loaded(answers, LIVES, "app") == pytest.approx(1.5, abs=0.02)


def test_who_is_alone_has_its_fair_share_with_all() -> None:
    """The other one was told to stop, so that all is for the one that is left."""
    before = [answered(n / 4, "ab"[n % 2]) for n in range(200)]
    after = [answered(50.1 + n / 4, "a") for n in range(200)]
    assert most_loaded(before + after, LIVES, "app") == pytest.approx(1.0, abs=0.02)


def test_few_requests_say_nothing_of_shares() -> None:
    """Chance decides where a task's share is small."""
    assert most_loaded([answered(1, "a"), answered(2, "b")], LIVES, "app") == 0.0


def test_a_share_is_of_those_that_were_answered() -> None:
    """Failures are nobody's."""
    assert share([answered(1), answered(2, revision="2"), failed(3)], "2") == 0.5
    assert share([failed(3)], "2") == 0.0


def test_a_percentile_is_not_exceeded_by_so_many() -> None:
    """Nearest rank."""
    assert percentile([float(n) for n in range(1, 101)], 0.99) == 99.0
    assert percentile([], 0.99) == 0.0

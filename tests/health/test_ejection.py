"""Who is ejected, for how long, and when ejections are ignored."""

import pytest

from discovery.health.ejection import Ejection, Limits, Outcome, Standing, serving

EJECTION = Ejection()


def standings(count: int) -> list[Standing]:
    return [EJECTION.standing() for _ in range(count)]


def saw(standing: Standing, outcome: Outcome, now: float, among: list[Standing]) -> bool:
    """An outcome of a request that took no time."""
    return EJECTION.saw(standing, outcome, now, now, among)


def fail(standing: Standing, outcome: Outcome, times: int, among: list[Standing]) -> bool:
    """Whether it is ejected after so many outcomes in a row."""
    for n in range(times):
        saw(standing, outcome, n / 100, among)
    return standing.cause is not None


@pytest.mark.parametrize(
    ("outcome", "times"),
    [("refused", 2), ("connect_timeout", 3), ("error", 5), ("broken", 5)],
)
class TestInARow:
    """Consecutive failures."""

    def test_enough_of_them_eject(self, outcome: Outcome, times: int) -> None:
        """At the limit, and not before."""
        among = standings(4)
        assert not fail(among[0], outcome, times - 1, among)
        assert saw(among[0], outcome, 1.0, among)
        assert str(times) in among[0].why

    def test_an_answer_between_begins_anew(self, outcome: Outcome, times: int) -> None:
        """They have to be in a row."""
        among = standings(4)
        fail(among[0], outcome, times - 1, among)
        saw(among[0], "answer", 1.0, among)
        assert not fail(among[0], outcome, times - 1, among)


class TestInPart:
    """Failing half of the time."""

    def test_half_of_twenty_ejects(self) -> None:
        """Every other request, so that there are never five in a row."""
        among = standings(4)
        for n in range(20):
            saw(among[0], "answer" if n % 2 else "error", n / 10, among)
        assert among[0].cause is None
        saw(among[0], "error", 2.0, among)
        assert among[0].cause == "failing"

    def test_success_long_before_does_not_delay_it(self) -> None:
        """The last seconds alone may tell."""
        among = standings(4)
        for n in range(500):
            saw(among[0], "answer", n / 100, among)
        for n in range(60):
            saw(among[0], "answer" if n % 2 else "error", 5 + n / 20, among)
        assert among[0].cause == "failing"

    def test_what_all_share_is_nobodys_fault(self) -> None:
        """Where everybody fails half of the time, ejecting would only add load to the rest."""
        among = standings(4)
        for n in range(200):
            for standing in among:
                saw(standing, "answer" if n % 2 else "error", n / 20, among)
        assert all(standing.cause is None for standing in among)

    def test_what_all_shared_long_ago_is_no_excuse(self) -> None:
        """Others count by what they do now."""
        among = standings(4)
        for n in range(8):
            for standing in among[1:]:
                saw(standing, "answer" if n % 2 else "error", n / 20, among)
        for n in range(21):
            saw(among[0], "answer" if n % 2 else "error", 60 + n / 20, among)
        assert among[0].cause == "failing"


class TestHowLong:
    """Ejections last ten seconds, doubling to five minutes."""

    def test_each_failed_trial_doubles(self) -> None:
        """Up to the longest."""
        among = standings(4)
        fail(among[0], "refused", 2, among)
        lasted = []
        for _ in range(7):
            lasted.append(among[0].lasts_s)
            saw(among[0], "refused", among[0].until, among)
        assert lasted == [10, 20, 40, 80, 160, 300, 300]

    @pytest.mark.parametrize("ends_after", [-9.0, 0.0, 1.0])
    @pytest.mark.parametrize("outcome", ["answer", "limited", "error", "refused"])
    def test_what_was_under_way_is_no_trial(self, outcome: Outcome, ends_after: float) -> None:
        """Neither an answer nor a failure changes anything, however late it comes."""
        among = standings(4)
        fail(among[0], "error", 5, among)
        until = among[0].until
        assert not EJECTION.saw(among[0], outcome, until - 0.1, until + ends_after, among)
        assert (among[0].cause, among[0].until) == ("failing", until)

    def test_what_began_before_it_was_over_ejects_nobody_anew(self) -> None:
        """The trial passed since: those that failed late are of the time before."""
        among = standings(4)
        fail(among[0], "refused", 2, among)
        until = among[0].until
        assert saw(among[0], "answer", until, among)
        assert among[0].why == ""
        for _ in range(9):
            assert not EJECTION.saw(among[0], "refused", until - 0.1, until + 1.0, among)
        assert among[0].cause is None

    def test_what_it_did_before_its_trial_is_forgotten(self) -> None:
        """Also where the ejection was shorter than the time that is looked at."""
        short = Ejection(Limits(first_s=1.0))
        among = [short.standing() for _ in range(4)]
        for n in range(30):
            outcome: Outcome = "answer" if n % 2 else "error"
            short.saw(among[0], outcome, n / 100, n / 100, among)
        assert among[0].cause == "failing"
        until = among[0].until
        assert short.saw(among[0], "answer", until, until, among)
        assert not short.saw(among[0], "error", until, until, among)
        assert among[0].cause is None

    def test_who_behaves_starts_anew(self) -> None:
        """After twice the time in that it was out, the next ejection is a first one."""
        among = standings(4)
        fail(among[0], "refused", 2, among)
        saw(among[0], "answer", among[0].until, among)
        for at, want in ((15.0, 20.0), (200.0, 10.0)):
            for _ in range(2):
                saw(among[0], "refused", at, among)
            assert among[0].lasts_s == want
            saw(among[0], "answer", among[0].until, among)


class TestHowMany:
    """Ejections have to leave somebody."""

    def test_at_most_half_are_ejected_as_failing(self) -> None:
        """The others go on serving, failing or not."""
        among = standings(10)
        for standing in among:
            fail(standing, "error", 50, among)
        assert sum(s.cause is not None for s in among) == 5
        assert len(serving(range(10), among)) == 5

    def test_the_last_one_is_never_ejected(self) -> None:
        """Not even for refusing."""
        among = standings(3)
        for standing in among:
            fail(standing, "refused", 9, among)
        assert sum(s.cause is None for s in among) == 1

    def test_a_single_endpoint_stays(self) -> None:
        """There is nothing better."""
        among = standings(1)
        assert not fail(among[0], "refused", 9, among)

    def test_in_panic_the_failing_serve_and_the_unreachable_do_not(self) -> None:
        """Below half left, errors are ignored, and refusals are not."""
        among = standings(6)
        for standing in among[:2]:
            fail(standing, "error", 5, among)
        for standing in among[2:4]:
            fail(standing, "refused", 2, among)
        assert serving("abcdef", among) == ["a", "b", "e", "f"]

    def test_limits_are_arguments(self) -> None:
        """One refusal, where that is asked for."""
        strict = Ejection(Limits(refusals=1))
        among = [strict.standing() for _ in range(3)]
        assert strict.saw(among[0], "refused", 0.0, 0.0, among)

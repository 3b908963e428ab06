"""Whom a conversation asks, in which order and how; what is learned of resolvers from it."""

from collections.abc import Callable

import pytest

from discovery.dns import upstreams, wire
from discovery.dns.relay import Relayed
from discovery.dns.upstreams import Attempt, Routes, Upstream, conversation, failure_life_s

FINE = Relayed(wire.NOERROR)
CUT = Relayed(wire.NOERROR, truncated=True)
FAILED, REFUSED, NO_EDNS = (Relayed(r) for r in (wire.SERVFAIL, wire.REFUSED, wire.FORMERR))
Says = Callable[[Attempt], Relayed | None]


def talk(
    several: list[Upstream], says: Says, now: float = 0.0
) -> tuple[list[Attempt], Relayed | None]:
    """All attempts of one conversation, and how it ended."""
    made: list[Attempt] = []
    conversing = conversation(several, lambda: now)
    try:
        attempt = next(conversing)
        while True:
            made.append(attempt)
            attempt = conversing.send(says(attempt))
    except StopIteration as end:
        return made, end.value


def named(*names: str) -> list[Upstream]:
    """Resolvers of these names."""
    return [Upstream((name, 53)) for name in names]


def ways(attempts: list[Attempt]) -> list[tuple[str, bool]]:
    """Whom they ask, and whether over TCP."""
    return [(attempt.upstream.address[0], attempt.stream) for attempt in attempts]


def test_the_silent_are_asked_over_tcp_then_once_more() -> None:
    """Three queries at most to each, RFC 9520 §3.1."""
    made, reply = talk(named("a", "b"), lambda _: None)
    assert ways(made) == [(n, stream) for stream in (False, True, False) for n in "ab"]
    assert reply is None


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_all_attempts_fit_into_the_deadline(count: int) -> None:
    """However many resolvers there are, clients have not given up yet."""
    made, _ = talk(named(*map(str, range(count))), lambda _: None)
    assert sum(attempt.timeout_s for attempt in made) == pytest.approx(upstreams.DEADLINE_S)


def test_each_of_many_has_time_to_answer() -> None:
    """A name that nobody has asked for yet takes a resolver a few hundred milliseconds."""
    made, _ = talk(named(*map(str, range(10))), lambda _: None)
    assert min(attempt.timeout_s for attempt in made) >= 0.5


def test_many_have_their_turn_when_the_first_are_dead() -> None:
    """Three were silent over UDP and TCP and rest: the last round asks three others."""
    several = named(*"abcdef")

    def says(attempt: Attempt) -> Relayed | None:
        attempt.upstream.ended(False, 0.0)
        return FINE if attempt.upstream is several[5] else None

    made, reply = talk(several, says)
    assert "".join(name for name, _ in ways(made)) == "abcabcdef"
    assert reply is FINE


def test_of_many_who_refuse_all_are_asked() -> None:
    """That costs no time."""
    several = named(*map(str, range(10)))
    made, reply = talk(several, lambda one: FINE if one.upstream is several[9] else REFUSED)
    assert (len(made), reply) == (10, FINE)


def test_whoever_refused_is_not_asked_again() -> None:
    """Only the silent one is; the refusal is what is known in the end."""
    a, b = named("a", "b")
    made, reply = talk([a, b], lambda attempt: FAILED if attempt.upstream is a else None)
    assert ways(made) == [("a", False), ("b", False), ("b", True), ("b", False)]
    assert reply is FAILED


def test_it_ends_when_all_have_refused() -> None:
    """One question each."""
    made, reply = talk(named("a", "b"), lambda _: REFUSED)
    assert len(made) == 2
    assert reply is REFUSED


def test_a_stream_that_fails_leads_to_the_next() -> None:
    """What was cut off is no answer without the rest."""
    a, b = named("a", "b")

    def says(attempt: Attempt) -> Relayed | None:
        if attempt.upstream is b:
            return FINE
        return None if attempt.stream else CUT

    made, reply = talk([a, b], says)
    assert ways(made) == [("a", False), ("a", True), ("b", False)]
    assert reply is FINE


def test_cut_off_everywhere_is_no_answer() -> None:
    """Where no resolver gives the whole over TCP, nobody has said anything."""
    made, reply = talk(named("a"), lambda attempt: None if attempt.stream else CUT)
    assert reply is None
    assert len(made) <= 5


def test_what_a_stream_cut_off_is_passed_on() -> None:
    """There is no longer way to ask."""
    _, reply = talk(named("a"), lambda _: CUT)
    assert reply is CUT


def test_edns_is_tried_again_after_a_while() -> None:
    """A resolver that once said FORMERR may be another one by now."""
    several = named("a")

    def says(attempt: Attempt) -> Relayed:
        return NO_EDNS if attempt.edns else FINE

    def tried(now: float) -> list[bool]:
        return [attempt.edns for attempt in talk(several, says, now)[0]]

    assert tried(0.0) == [True, False]
    assert tried(299.0) == [False]
    assert tried(301.0) == [True, False]


def test_a_question_that_is_refused_either_way_says_nothing_of_edns() -> None:
    """FORMERR with EDNS and without: the question is at fault."""
    several = named("a")
    talk(several, lambda _: NO_EDNS)
    assert several[0].speaks_edns(0.0)


def test_who_answers_streams_only_is_asked_so_first() -> None:
    """After two questions in a row, for a minute; one lost datagram is no reason."""
    several = named("a")

    def says(attempt: Attempt) -> Relayed | None:
        return FINE if attempt.stream else None

    for first in (False, False, True):
        assert ways(talk(several, says)[0])[0] == ("a", first)
    assert ways(talk(several, says, 61.0)[0])[0] == ("a", False)


def test_a_datagram_that_is_answered_ends_the_count() -> None:
    """Redeemed questions count only in a row."""
    several = named("a")
    for silent in (True, False, True):
        talk(several, lambda attempt, s=silent: FINE if attempt.stream or not s else None)  # type: ignore[misc]
    assert not several[0].prefers_streams(0.0)


def test_who_failed_twice_rests_ever_longer() -> None:
    """1, 2, 4 … 30 seconds; one answer ends it."""
    (a,) = named("a")
    a.ended(False, 0.0)
    assert not a.rests(0.0)
    rests = []
    for _ in range(7):
        a.ended(False, 0.0)
        rests.append(next(s for s in range(1, 100) if not a.rests(float(s))))
    assert rests == [1, 2, 4, 8, 16, 30, 30]
    a.ended(True, 0.0)
    assert not a.rests(0.0)


def test_one_question_at_a_time_tries_who_has_rested() -> None:
    """The others go on elsewhere meanwhile."""
    a, b = named("a", "b")
    a.ended(False, 0.0)
    a.ended(False, 0.0)
    first = next(conversation([a, b], lambda: 2.0))
    assert first.upstream is a
    a.began(2.0)
    assert next(conversation([a, b], lambda: 2.0)).upstream is b


def test_who_begins_to_rest_meanwhile_is_asked_last() -> None:
    """A question that has waited does not try what others have found silent."""
    a, b, c = named("a", "b", "c")

    def says(attempt: Attempt) -> Relayed | None:
        b.ended(False, 0.0)
        b.ended(False, 0.0)
        return FINE if attempt.upstream is c else None

    assert ways(talk([a, b, c], says)[0]) == [("a", False), ("c", False)]


def test_attempts_that_we_give_up_count_only_after_long_silence() -> None:
    """Else a silent resolver would never rest while we are overloaded, or a good one would."""
    (a,) = named("a")
    a.began(0.0)
    for now in (0.1, 0.2, 0.3):
        a.began(now)
        a.abandoned(now)
    assert not a.rests(0.3)
    for now in (0.6, 1.3):
        a.began(now)
        a.abandoned(now)
    assert a.rests(1.4)


def test_time_in_which_nothing_was_asked_is_no_silence() -> None:
    """Each of these was given up at once, long after the one before."""
    (a,) = named("a")
    for now in (0.0, 100.0, 200.0, 300.0):
        a.began(now)
        a.abandoned(now + 0.1)
        assert not a.rests(now + 0.1)


def test_failures_live_longer_each_time() -> None:
    """RFC 9520 §3.2: from one second up, five minutes at most."""
    assert [failure_life_s(n) for n in (1, 2, 3, 4, 5, 6, 99)] == [1, 2, 4, 8, 16, 30, 30]


def test_new_routes_remember_who_was_well() -> None:
    """A resolver that stays, in whatever zone, is the same one; one that comes is new."""
    before = Routes({"": [("a", 53), ("b", 53)]})
    after = Routes({"": [("b", 53), ("c", 53)], "corp.example": [("b", 53)]}, before)
    b = before.to(wire.name_of(b"x"))[1]
    assert after.to(wire.name_of(b"x"))[0] is b
    assert after.to(wire.name_of(b"x", b"corp", b"example")) == (b,)

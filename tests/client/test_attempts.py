"""When a request is attempted again, where, and when not."""

from collections.abc import Callable
from random import Random

import httpx
import pytest

from discovery.balancing.budget import RetryBudget
from discovery.balancing.pool import Pool
from discovery.balancing.round_robin import RoundRobin
from discovery.client.attempts import (
    Answered,
    Ask,
    Attempting,
    Failed,
    Pause,
    Raced,
    Result,
    Retrying,
    Route,
    Send,
    attempts,
)
from discovery.client.kits import answered
from discovery.client.pace import Hedging, Pace
from discovery.errors import DeadlinePassed, NoEndpoints
from discovery.health.ejection import Outcome
from discovery.model import Endpoint
from tests.balancing.made import endpoints
from tests.made import FakeClock, endpoint

GET, POST = Ask(idempotent=True), Ask(idempotent=False)
REFUSED = Failed("refused", sent=False)
BROKEN = Failed("broken", sent=True)
OK = Answered(200)


class Line:
    """Drives attempts by given results; a pause passes at once."""

    def __init__(self, count: int = 4, among: Callable[[], tuple[Endpoint, ...]] | None = None):
        self.clock = FakeClock(100.0)
        self.pool = Pool(RoundRobin, Random(7), self.clock)
        self.budget = RetryBudget()
        self.missed: list[tuple[Endpoint, Outcome]] = []
        self.sent: list[Send] = []
        self.pauses: list[float] = []
        self.on_pause: Callable[[], None] = lambda: None
        same = endpoints(count)
        self.route = Route(
            self.pool,
            among or (lambda: same),
            self.budget.take,
            self._missed,
            self.clock,
            Random(7),
        )

    def _missed(self, endpoint: Endpoint, outcome: Outcome) -> None:
        self.missed.append((endpoint, outcome))

    def run(
        self, ask: Ask, *results: Result, took_s: float = 0.0, retrying: Retrying | None = None
    ) -> list[str]:
        """What was tried, in words, until the conversation ended."""
        left = list(results)
        flow = attempts(self.route, ask, retrying or Retrying())
        step = next(flow)
        while True:
            self.clock.now += took_s
            try:
                if isinstance(step, Pause):
                    self.pauses.append(step.seconds)
                    self.on_pause()
                    self.clock.now += step.seconds
                    step = flow.send(None)
                else:
                    self.sent.append(step)
                    step = flow.send(left.pop(0))
            except StopIteration as end:
                return [tried.result for tried in end.value]


@pytest.mark.parametrize(
    ("ask", "results", "want"),
    [
        (GET, [OK], 1),
        (GET, [REFUSED, OK], 2),
        (POST, [REFUSED, OK], 2),
        (GET, [BROKEN, OK], 2),
        (POST, [BROKEN], 1),
        (GET, [Answered(500), OK], 2),
        (GET, [Answered(503), Answered(502), Answered(504)], 3),
        (POST, [Answered(503)], 1),
        (GET, [Answered(501)], 1),
        (GET, [Answered(404)], 1),
        (GET, [Answered(429)], 1),
        (GET, [REFUSED, REFUSED, REFUSED], 3),
        (Ask(True, replayable=False), [BROKEN], 1),
        (Ask(True, replayable=False), [Answered(503)], 1),
        (Ask(True, replayable=False), [REFUSED, OK], 2),
        (POST, [Failed("connect_timeout", False), Failed("abandoned", False), OK], 3),
        (GET, [Failed("abandoned", sent=False, hopeless=True)], 1),
    ],
)
def test_a_request_is_repeated_only_where_that_is_safe(
    ask: Ask, results: list[Result], want: int
) -> None:
    """Nothing was sent, or it is idempotent and its body can be sent again; twice at most."""
    line = Line()
    assert len(line.run(ask, *results)) == want


def test_retries_can_be_switched_off() -> None:
    """Also where the pool answered a moment ago and one might wait for something better."""
    line = Line()
    never = Retrying(most=0)
    assert len(line.run(GET, OK, retrying=never)) == 1
    assert len(line.run(GET, REFUSED, OK, retrying=never)) == 1


@pytest.mark.parametrize(
    "written", ["Wed, 21 Oct 99999999999999999999 07:28:00 GMT", "soon", "-1", "Wed, 99 Oct"]
)
def test_a_retry_after_that_is_no_time_counts_as_none(written: str) -> None:
    """A server's mistake is no error of ours."""
    answer = httpx.Response(503, headers={"retry-after": written})
    assert answered(answer, now=100.0) == Answered(503, None)


def test_each_attempt_goes_elsewhere_at_once() -> None:
    """While there is somewhere else."""
    line = Line()
    line.run(GET, REFUSED, Answered(503), OK)
    assert len({step.flight.member for step in line.sent}) == 3
    assert line.pauses == []


def test_where_there_is_no_other_endpoint_it_waits() -> None:
    """A growing pause before the same one is asked again."""
    line = Line(1)
    line.run(GET, Answered(503), Answered(503), OK)
    assert 0 < line.pauses[0] < line.pauses[1] < 0.1


def test_retry_after_is_kept_where_there_is_no_other_endpoint() -> None:
    """The endpoint said when."""
    line = Line(1)
    line.run(GET, Answered(503, retry_after_s=3.0), OK)
    assert line.pauses == [3.0]


def test_an_endpoint_that_comes_meanwhile_is_used() -> None:
    """Attempts look at the endpoints as they are by then."""
    known = iter([endpoints(1)])
    line = Line(among=lambda: next(known, endpoints(2)))
    assert line.run(GET, REFUSED, OK) == ["refused", "status 200"]
    assert {s.flight.member.endpoint.host for s in line.sent} == {"10.0.0.1", "10.0.0.2"}


def test_no_attempt_begins_after_the_time_for_them() -> None:
    """Ten seconds unless said otherwise."""
    line = Line()
    assert line.run(GET, BROKEN, BROKEN, took_s=6.0) == ["broken", "broken"]


def test_a_deadline_bounds_all_attempts() -> None:
    """None begins after it, and each is told of it."""
    line = Line()
    ask = Ask(idempotent=True, ends_at=line.clock.now + 2.5)
    assert line.run(ask, BROKEN, BROKEN, BROKEN, took_s=1.0) == ["broken"] * 3
    assert {step.ends_at for step in line.sent} == {102.5}
    ask = Ask(idempotent=True, ends_at=line.clock.now + 2.5)
    assert line.run(ask, BROKEN, took_s=3.0) == ["broken"]


@pytest.mark.parametrize("late_s", [0.0, 1.0])
def test_after_its_deadline_nothing_is_sent(late_s: float) -> None:
    """None, or a deadline that has passed, is not the same as no deadline."""
    line = Line()
    with pytest.raises(DeadlinePassed):
        line.run(Ask(idempotent=True, ends_at=line.clock.now - late_s))
    assert line.sent == []
    assert [m.in_flight for m in line.pool.members] == []


def test_the_budget_ends_retries() -> None:
    """When everything fails, what is tried again is bounded."""
    line = Line(50)
    tried = [len(line.run(GET, *[Answered(503)] * 3)) for _ in range(30)]
    assert sum(tried) == 30 + 10


def test_replacements_are_waited_for() -> None:
    """Where all that is known refuses and answered a moment ago, it goes on for two seconds."""
    now_known = [endpoints(3)]
    line = Line(among=lambda: now_known[0])
    assert line.run(GET, OK) == ["status 200"]

    def news() -> None:
        if len(line.pauses) == 3:
            now_known[0] = (endpoint(9),)

    line.on_pause = news
    assert line.run(POST, *[REFUSED] * 5, OK) == ["refused"] * 5 + ["status 200"]
    assert line.sent[-1].flight.member.endpoint.host == "10.0.0.9"


def test_replacements_that_do_not_come_are_waited_for_once() -> None:
    """Then the request fails, and later ones fail at once."""
    line = Line()
    line.run(GET, OK)
    tried = line.run(GET, *[REFUSED] * 30)
    assert len(tried) <= 1 + 10 + 2
    assert 1.0 < sum(line.pauses) < 2.5
    line.pauses.clear()
    assert len(line.run(GET, *[REFUSED] * 3)) <= 3
    assert line.pauses == []


@pytest.mark.parametrize("last", [BROKEN, Failed("abandoned", sent=False)])
def test_only_connecting_is_tried_that_often(last: Failed) -> None:
    """Whoever takes requests and breaks the connection is sent three, however the others do."""
    line = Line()
    line.run(GET, OK)
    assert len(line.run(GET, *[last] * 60)) == 3


def test_the_last_send_is_not_wasted_on_what_ends_as_well() -> None:
    """Where two broke at once and the pool was fine, tasks are being replaced."""
    line = Line()
    assert line.run(GET, BROKEN, BROKEN, OK) == ["broken", "broken", "status 200"]
    assert line.pauses == []
    assert line.run(GET, BROKEN, BROKEN, OK) == ["broken", "broken", "status 200"]
    assert len(line.pauses) == 1
    assert 0.1 <= line.pauses[0] <= 0.3


def test_no_more_is_sent_for_having_waited() -> None:
    """What could not be connected to is connected to for a while; what was sent was sent."""
    line = Line()
    line.run(GET, OK)
    waited = [REFUSED] * 4
    for _ in range(200):
        line.budget.count(line.clock.now)
    assert line.run(GET, BROKEN, *waited, OK) == ["broken", *["refused"] * 4, "status 200"]
    assert line.run(GET, *waited, *[BROKEN] * 9) == ["refused"] * 4 + ["broken"] * 3
    assert line.run(POST, *waited, BROKEN) == ["refused"] * 4 + ["broken"]


def test_waiting_is_bounded_where_others_go_on_to_answer() -> None:
    """The pool is never quiet, and yet nothing can be connected to for this request."""
    line = Line()
    line.run(GET, OK)

    def others() -> None:
        line.pool.answered_at = line.clock.now

    line.on_pause = others
    for _ in range(200):
        line.budget.count(line.clock.now)
    assert len(line.run(GET, *[REFUSED] * 60)) == 1 + 2 + 10


def test_an_answer_is_handed_on_where_nowhere_else_is_left() -> None:
    """The service went to zero meanwhile: a 503 is more than no answer."""
    known = iter([endpoints(1)])

    def then_none() -> tuple[Endpoint, ...]:
        for one in known:
            return one
        raise NoEndpoints("web.demo")

    line = Line(among=then_none)
    assert line.run(GET, Answered(503)) == ["status 503"]
    (member,) = line.pool.members
    assert member.in_flight == 1


def test_breaking_it_off_in_a_pause_ends_the_flight() -> None:
    """The answer before it was kept until then."""
    line = Line(1)
    flow = attempts(line.route, GET, Retrying())
    next(flow)
    assert isinstance(flow.send(Answered(503)), Pause)
    (member,) = line.pool.members
    assert member.in_flight == 1
    flow.close()
    assert member.in_flight == 0


class TestHedging:
    """A second attempt for one that takes longer than most."""

    def late(self, ask: Ask = GET, count: int = 4) -> tuple[Line, Attempting, Send]:
        """A first attempt under way where 0.1 s is usual."""
        line = Line(count)
        pace = Pace(Hedging(least=10))
        for _ in range(10):
            pace.note(0.1)
        flow = attempts(line.route, ask, Retrying(), pace)
        step = next(flow)
        assert isinstance(step, Send)
        return line, flow, step

    def test_it_waits_for_as_long_as_most_take(self) -> None:
        """By what was observed; before enough was, there is none."""
        line, _, step = self.late()
        assert step.hedge is not None
        assert step.hedge.after_s == 0.1
        fresh = next(attempts(line.route, GET, Retrying(), Pace(Hedging())))
        assert isinstance(fresh, Send)
        assert fresh.hedge is None

    def test_only_what_may_be_repeated_is_hedged(self) -> None:
        """A request that counts twice is never sent twice."""
        assert self.late(POST)[2].hedge is None
        assert self.late(Ask(True, replayable=False))[2].hedge is None

    def test_it_goes_to_another_endpoint_or_nowhere(self) -> None:
        """The same one would be as slow."""
        _, _, step = self.late()
        assert step.hedge is not None
        second = step.hedge.board()
        assert second is not None
        assert second.member is not step.flight.member
        _, _, alone = self.late(count=1)
        assert alone.hedge is not None
        assert alone.hedge.board() is None

    def test_it_takes_from_the_budget_of_retries(self) -> None:
        """When that is used up, nothing is sent twice."""
        line, _, step = self.late()
        assert step.hedge is not None
        while line.budget.take(line.clock.now):
            pass
        assert step.hedge.board() is None

    def test_the_loser_is_charged_with_nothing(self) -> None:
        """Neither in flight nor as a failure."""
        _, flow, step = self.late()
        assert step.hedge is not None
        second = step.hedge.board()
        assert second is not None
        with pytest.raises(StopIteration) as end:
            flow.send(Raced(((second, OK),)))
        assert [each.result for each in end.value.value] == ["status 200"]
        assert (step.flight.member.in_flight, second.member.in_flight) == (0, 1)
        assert step.flight.member.standing.failures == 0
        assert step.flight.member.standing.window.all == 0

    def test_a_hedge_is_one_of_the_attempts(self) -> None:
        """Two more are two more."""
        _, flow, step = self.late()
        assert step.hedge is not None
        second = step.hedge.board()
        assert second is not None
        third = flow.send(Raced(((step.flight, BROKEN), (second, Answered(503)))))
        assert isinstance(third, Send)
        assert third.hedge is None
        with pytest.raises(StopIteration) as end:
            flow.send(Answered(503))
        assert [t.result for t in end.value.value] == ["broken", "status 503", "status 503"]

    def test_breaking_it_off_ends_both(self) -> None:
        """Nothing stays under way."""
        line, flow, step = self.late()
        assert step.hedge is not None
        assert step.hedge.board() is not None
        flow.close()
        assert sum(m.in_flight for m in line.pool.members) == 0


def test_what_was_broken_off_counts_with_the_time_that_it_took() -> None:
    """Else ever more requests would look late."""
    pace = Pace(Hedging(part=0.5, least=4, span=8))
    for _ in range(4):
        pace.note(0.1)
    assert pace.late_s == 0.1
    for _ in range(12):
        pace.note(0.3)
    assert pace.late_s == 0.3


def test_an_error_of_everybody_is_not_waited_for() -> None:
    """Who answers with errors is not being replaced."""
    line = Line()
    line.run(GET, OK)
    assert line.run(GET, *[Answered(503)] * 3) == ["status 503"] * 3
    assert line.pauses == []


def test_who_cannot_be_connected_to_is_told_of() -> None:
    """With the endpoint and how it went; what answers badly is connected to."""
    line = Line()
    line.run(GET, Answered(500), BROKEN, OK)
    assert line.missed == []
    line.run(GET, REFUSED, Failed("connect_timeout", False), OK)
    assert [outcome for _, outcome in line.missed] == ["refused", "connect_timeout"]
    assert [e.host for e, _ in line.missed] == [
        send.flight.member.endpoint.host for send in line.sent[-3:-1]
    ]


@pytest.mark.parametrize("last", [OK, Answered(500), BROKEN, REFUSED])
def test_only_the_answer_handed_on_stays_in_flight(last: Result) -> None:
    """Attempts before it, and those without an answer, are over."""
    line = Line(1)
    line.run(POST, last) if last is not REFUSED else line.run(POST, *[REFUSED] * 3)
    (member,) = line.pool.members
    assert member.in_flight == isinstance(last, Answered)


def test_breaking_it_off_ends_the_flight_and_says_nothing_of_health() -> None:
    """A caller may have reasons of their own; that it took long is known."""
    line = Line(1)
    flow = attempts(line.route, GET, Retrying())
    next(flow)
    line.clock.now += 3.0
    flow.close()
    (member,) = line.pool.members
    assert member.in_flight == 0
    assert member.latency_s == 3.0
    assert member.standing.failures == 0


def test_with_nothing_to_try_the_error_is_the_routes() -> None:
    """Known, but nothing runs."""

    def none() -> tuple[Endpoint, ...]:
        raise NoEndpoints("web.demo")

    with pytest.raises(NoEndpoints):
        Line(among=none).run(GET)

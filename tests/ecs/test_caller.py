"""Calls made within the budget, several at a time, with clients that do as they are told."""

import threading
import time
from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from botocore import exceptions as known

from discovery.ecs.caller import CONCURRENCY, Caller, at_once
from discovery.ecs.calls import CLUSTER_RESOURCES, Answer, Call
from discovery.ecs.clients import Access
from discovery.errors import SourceThrottled, SourceUnreachable
from discovery.events import BudgetWaited, CallMade, Event, Listeners, Throttled

CALLS = tuple(
    Call("ListTasks", {"cluster": str(n)}, "test", CLUSTER_RESOURCES) for n in range(CONCURRENCY)
)
identities = count()


class Told:
    """Clients whose every call is answered by a function; each has a quota of its own."""

    def __init__(self, answer: Callable[[str], Answer]) -> None:
        self.answer = answer
        self.meta = SimpleNamespace(endpoint_url="http://x")
        self._identity = f"told-{next(identities)}", "http://aws"

    def client(self, service: str, access: Access) -> Any:
        """Itself."""
        return self

    def identity(self, access: Access) -> tuple[str, str]:
        """One that nobody else has."""
        return self._identity

    def list_tasks(self, cluster: str) -> Answer:
        """As botocore calls it."""
        return self.answer(cluster)


def made(answer: Callable[[str], Answer], calls: tuple[Call, ...]) -> tuple[list[Answer], Any]:
    """The answers to some calls, and the events that were told."""
    told: list[Event] = []
    clients: Any = Told(answer)
    caller = Caller(clients, 10.0, Listeners(told.append), time.monotonic, threading.Event())
    return caller.answers(Access(), calls, is_cold=True), told


def throttle() -> known.ClientError:
    """What AWS says to whom asks too often."""
    response: Any = {"Error": {"Code": "ThrottlingException"}, "ResponseMetadata": {}}
    return known.ClientError(response, "ListTasks")


def test_calls_throttled_at_the_same_time_halve_the_pace_once() -> None:
    """Eight of them under way say no more than one."""
    all_under_way, first = threading.Barrier(CONCURRENCY), set[str]()

    def answer(cluster: str) -> Answer:
        if cluster in first:
            return {"taskArns": []}
        first.add(cluster)
        all_under_way.wait(10)
        raise throttle()

    answers, told = made(answer, CALLS)
    assert answers == [{"taskArns": []}] * CONCURRENCY
    factors = {e.factor for e in told if isinstance(e, Throttled)}
    assert factors == {0.5}
    # The eight next ones share 25 calls a second; after eight halvings it would be 3.
    assert max(e.seconds for e in told if isinstance(e, BudgetWaited)) < 1


@pytest.mark.parametrize(
    ("failure", "want", "attempts"),
    [
        (known.EndpointConnectionError(endpoint_url="http://x"), SourceUnreachable, 2),
        (known.ReadTimeoutError(endpoint_url="http://x"), SourceUnreachable, 2),
        (throttle(), SourceThrottled, 3),
    ],
)
def test_every_attempt_is_ours_to_count(
    failure: Exception, want: type[Exception], attempts: int
) -> None:
    """Nobody answered: once more. Throttled: twice, slower."""

    def answer(cluster: str) -> Answer:
        raise failure

    (found,), told = made(answer, CALLS[:1])
    assert isinstance(found, want)
    assert sum(isinstance(e, CallMade) for e in told) == attempts


def test_answers_come_in_the_order_of_their_calls() -> None:
    """Whoever made them, and however many there are."""
    many = tuple(Call(str(n), {}, "test", "ecs") for n in range(100))
    assert at_once(lambda call: {"n": call.operation}, many) == [{"n": str(n)} for n in range(100)]
    assert at_once(lambda call: {}, ()) == []


def test_no_helper_stays_behind() -> None:
    """All that were started have ended with the last call."""
    before = set(threading.enumerate())
    at_once(lambda call: {}, CALLS)
    assert set(threading.enumerate()) <= before


def test_the_rest_after_a_first_read_is_that_before_a_steady_one() -> None:
    """A rest too short for its calls would have all that is known look old before they are made."""
    clients: Any = Told(lambda cluster: {"taskArns": []})
    caller = Caller(clients, 1.0, Listeners(), lambda: 0.0, threading.Event())
    caller.answers(Access(), CALLS, is_cold=True)
    # of 50 calls at once, and 2 a second, or 5 for a first read
    made = [(Access(), 200)]
    assert caller.rest_s(CLUSTER_RESOURCES, made, saves=True) == (150 + CONCURRENCY) / 2
    assert caller.rest_s(CLUSTER_RESOURCES, made, saves=False) == CONCURRENCY / 2

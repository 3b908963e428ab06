"""Makes calls: within the budget, again where that helps, several at the same time.

Rule: threads are daemons. Whoever ends without closing anything is not held up by a call, or by a
call that waits for its share.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable, Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from discovery.ecs.budget import Standing
from discovery.ecs.calls import Answer, Batch, Call, Postponed
from discovery.ecs.clients import Access, Clients, NoConnection, answer_of
from discovery.ecs.quotas import Budget, budget_of
from discovery.errors import SourceError, SourceThrottled, SourceUnreachable
from discovery.events import BudgetWaited, CallMade, Listeners, Throttled

if TYPE_CHECKING:
    from botocore.client import BaseClient

# Calls of one conversation at the same time. With more of them threads get in each other's way.
CONCURRENCY = 4
ATTEMPTS = 3, 2  # at a call that is throttled, and at one that finds nobody
LONGEST_WAIT_S = 120.0  # a call that our share allows only later than this is not made


class Caller:
    """Answers the batches of conversations. May be used by any thread.

    `monotonic` gives seconds that only go on; once `closed` is set, nothing waits any more.
    """

    def __init__(
        self,
        clients: Clients,
        share: float,
        listeners: Listeners,
        monotonic: Callable[[], float],
        closed: threading.Event,
    ) -> None:
        self._clients = clients
        self._share = share
        self._listeners = listeners
        self._monotonic = monotonic
        self._closed = closed
        self._budgets: dict[Access, Budget] = {}

    def answers(self, access: Access, batch: Batch, is_cold: bool) -> list[Answer]:
        """One answer for each call, in order."""
        return at_once(lambda call: self._answer(access, call, is_cold), batch)

    def rest_s(self, group: str, made: Iterable[tuple[Access, int]], saves: bool) -> float:
        """How long to rest so that as many calls of the group as were made fit our share again.

        That is until as many of them can be made at once as ever can; the others wait for their
        turns. Who `saves` rests until none has to wait. What follows has no more than the steady
        share, even after a first read.
        """
        counts: dict[Budget, int] = {}
        for access, count in made:
            budget = self._budgets.get(access)
            if budget is not None:
                counts[budget] = counts.get(budget, 0) + count
        for budget in counts:
            budget.warm(is_cold=False)
        at = self._monotonic()
        return max((b.rest_s(group, at, n, saves) for b, n in counts.items()), default=0.0)

    def standings(self, access: Access) -> tuple[Standing, ...]:
        """How the budget stands that calls with this access count against; empty before any."""
        budget = self._budgets.get(access)
        return budget.standings(self._monotonic()) if budget is not None else ()

    def _budget(self, access: Access) -> Budget:
        known = self._budgets.get(access)
        if known is None:
            known = self._budgets[access] = budget_of(self._clients.identity(access), self._share)
        return known

    def _answer(self, access: Access, call: Call, is_cold: bool) -> Answer:
        try:
            client = self._clients.client(call.service, access)
            budget = self._budget(access)
        except SourceError as error:
            return error
        budget.warm(is_cold)
        return self._call(client, budget, call)

    def _call(self, client: "BaseClient", budget: Budget, call: Call) -> Answer:
        answer: Answer = Postponed(f"our share of {call.group} is used up for now")
        patience_s = min(call.patience_s, LONGEST_WAIT_S)
        throttles = failures = 0
        most_throttles, most_failures = ATTEMPTS if call.again else (1, 1)
        while throttles < most_throttles and failures < most_failures:
            wait_s = budget.take(call.group, self._monotonic(), patience_s)
            if wait_s is None:
                return answer
            if wait_s > 0:
                self._listeners.emit(BudgetWaited(call.group, wait_s))
            if self._closed.wait(wait_s):
                return SourceUnreachable("the source is closed")
            started = self._monotonic()
            answer = self._made(client, call, started)
            if isinstance(answer, SourceThrottled):
                throttles += 1
                left = budget.throttled(call.group, started, self._monotonic())
                self._listeners.emit(Throttled(call.group, call.operation, left))
            elif isinstance(answer, NoConnection):
                failures += 1
            else:
                return answer
        return answer

    def _made(self, client: "BaseClient", call: Call, started: float) -> Answer:
        answer = answer_of(client, call)
        failed = answer if isinstance(answer, SourceError) else None
        seconds = self._monotonic() - started
        said = (str(failed), failed.code) if failed else (None, "ok")
        self._listeners.emit(CallMade(call.operation, call.reason, seconds, *said))
        return answer


def at_once(answer: Callable[[Call], Answer], calls: Sequence[Call]) -> list[Answer]:
    """The answers to some calls, in order, made by this thread and by a few that help it.

    Where no thread can be started this one makes them all.
    """
    answers: dict[int, Answer] = {}
    left: SimpleQueue[tuple[int, Call]] = SimpleQueue()
    for numbered in enumerate(calls):
        left.put(numbered)

    def help_out() -> None:
        with contextlib.suppress(Empty):
            while True:
                index, call = left.get_nowait()
                answers[index] = answer(call)

    helpers = []
    for _ in calls[1:CONCURRENCY]:
        helper = threading.Thread(target=help_out, name="ecs-discovery-call", daemon=True)
        with contextlib.suppress(RuntimeError):
            helper.start()
            helpers.append(helper)
    help_out()
    for helper in helpers:
        helper.join()
    return [answers[index] for index in range(len(calls))]

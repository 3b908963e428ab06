"""An endpoint on loan: for whoever speaks to it with a client of their own."""

import sys
from collections.abc import Awaitable, Callable, Iterator
from types import TracebackType

from discovery.balancing.pool import Flight
from discovery.client.attempts import Answered, Route
from discovery.health.ejection import UNREACHABLE, Outcome
from discovery.model import Endpoint

_DEEPEST = 10


class Lease:
    """One endpoint for the time of one `with` or `async with` block. Not to be used twice.

    An `OSError` of the network that leaves the block, or caused what leaves it, counts against the
    endpoint. What says itself that it failed, without an exception, is reported by `answered`.
    """

    def __init__(self, route: Callable[[], Route], aroute: Callable[[], Awaitable[Route]]) -> None:
        self._find = route
        self._afind = aroute
        self._route: Route | None = None
        self._flight: Flight | None = None
        self._before: BaseException | None = None

    def answered(self, status: int) -> None:
        """The headers of an answer came, with this HTTP status; 5xx is a failure."""
        self._end(Answered(status).outcome)

    def failed(self) -> None:
        """No usable answer came."""
        self._end("broken")

    def _board(self, route: Route) -> Endpoint:
        self._route = route
        self._before = sys.exception()
        self._flight = route.board(route.endpoints(), (), False)
        return self._flight.member.endpoint

    def _end(self, outcome: Outcome) -> None:
        if self._flight is not None and self._route is not None:
            self._flight.end(outcome, self._route.clock())
            if outcome in UNREACHABLE:
                self._route.missed(self._flight.member.endpoint, outcome)

    def _close(self, error: BaseException | None) -> None:
        self._end(outcome_of(error, self._before))
        self._before = None
        if self._flight is not None:
            self._flight.close()

    def __enter__(self) -> Endpoint:
        return self._board(self._find())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close(error)

    async def __aenter__(self) -> Endpoint:
        return self._board(await self._afind())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close(error)


def outcome_of(error: BaseException | None, before: BaseException | None = None) -> Outcome:
    """What an exception says of the endpoint: most clients raise their own around an `OSError`.

    What was being handled `before` the endpoint was spoken to is none of its affair.
    """
    if error is None:
        return "answer"
    causes = list(_causes(error, before))
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return "refused"
    return "broken" if any(map(_is_of_the_network, causes)) else "abandoned"


def _is_of_the_network(error: BaseException) -> bool:
    """Not so for a file that is missing, nor for a client's class that is an `OSError` in name."""
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    return isinstance(error, OSError) and error.errno is not None and error.filename is None


def _causes(error: BaseException, before: BaseException | None) -> Iterator[BaseException]:
    at: BaseException | None = error
    for _ in range(_DEEPEST):
        if at is None or at is before:
            return
        yield at
        # Some clients raise `from None`, which takes the cause away and leaves the context.
        at = at.__cause__ or at.__context__

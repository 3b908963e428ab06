"""One request that a transport sends, with what it keeps for the clients of one module.

What is here neither sends nor waits, so that threads and event loops share it.
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from discovery.balancing.pool import Flight, Pool
from discovery.client.attempts import Answered, Tried
from discovery.client.inners import Inners
from discovery.client.kits import Kit, Left, answered
from discovery.errors import AttemptsFailed, DiscoveryError


@dataclass(frozen=True, slots=True, eq=False)
class Use:
    """What a transport keeps for the clients of one module; `lost` are bodies to close."""

    kit: Kit
    inners: Inners
    plain: Any
    lost: deque[Any] = field(default_factory=deque)

    def unused(self, pool: Pool) -> list[Any]:
        """What is to be closed before the next request: lost bodies, and transports."""
        bodies: list[Any] = []
        with suppress(IndexError):  # another thread may have been faster
            while self.lost:
                bodies.append(self.lost.popleft())
        return bodies + self.inners.unused(pool)


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One request, and what it is sent with. `left` gives the seconds until its deadline."""

    use: Use
    request: Any
    left: Left | None
    connect_s: float
    clock: Callable[[], float]

    @property
    def is_late(self) -> bool:
        """Whether its deadline has passed."""
        return self.left is not None and self.left() <= 0

    def aimed(self, flight: Flight) -> tuple[Any, Any]:
        """The endpoint's transport, and the request as it goes there."""
        kit, member = self.use.kit, flight.member
        inner = self.use.inners.of(member, kit.server_name(self.request))
        return inner, kit.aimed(self.request, member.endpoint, self.connect_s, self.left)

    def said(self, aimed: Any, response: Any) -> Answered:
        """What the headers of its answer say."""
        self.use.kit.arrived(aimed)
        return answered(response, self.clock())

    def raised(self, error: DiscoveryError) -> Exception:
        """Our error as the client's own."""
        return self.use.kit.raised(error, self.request, self.is_late)

    def raise_failure(self, got: Any, tried: tuple[Tried, ...]) -> None:
        """Raise what the last attempt failed by, in its own class; what was tried is its cause."""
        if not isinstance(got, self.use.kit.transport_error):
            return
        results = [f"{each.endpoint.authority}: {each.result}" for each in tried]
        attempted = AttemptsFailed(self.request.url.host, results)
        attempted.__cause__ = got
        raise type(got)(f"{got}; {attempted}", request=self.request) from attempted

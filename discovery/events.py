"""Facts that go sideways: what happened, as frozen records, to whoever listens.

No engine knows about metrics or logs; they subscribe. A listener is called in the thread in which
the fact arose, must not block, and cannot break the engine: what it raises is logged, once each.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from discovery.errors import SourceError

_log = logging.getLogger("discovery")


@dataclass(frozen=True, slots=True)
class CallMade:
    """One AWS call ended. `reason` is why it was made; `error` is `None` when it succeeded.

    `result` is `ok`, or the error's code.
    """

    operation: str
    reason: str
    seconds: float
    error: str | None = None
    result: str = "ok"


@dataclass(frozen=True, slots=True)
class BudgetWaited:
    """A call had to wait `seconds` for its throttle group's share."""

    group: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Throttled:
    """AWS throttled a call of the group; `factor` is what is left of our share of its rate."""

    group: str
    operation: str
    factor: float


@dataclass(frozen=True, slots=True)
class Refreshed:
    """A load ended and something was learned of `cluster`.

    `age_s` is how old that was when the load began: what comes from a cache or a hub may be.
    """

    cluster: str
    services: int
    endpoints: int
    excluded: int
    seconds: float
    age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RefreshFailed:
    """A load of `cluster` failed; what was known goes on being served."""

    cluster: str
    error: SourceError


@dataclass(frozen=True, slots=True)
class Published:
    """A new snapshot can be read; `changed` are the full names of the services that differ."""

    index: int
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Noticed:
    """Something a person should know once, such as a missing optional permission."""

    message: str


@dataclass(frozen=True, slots=True)
class MessagesReceived:
    """Messages came from the queue of events: so many told something of our clusters.

    The others were of no interest here (`foreign`), or could not be read.
    """

    told: int
    foreign: int
    unreadable: int


@dataclass(frozen=True, slots=True)
class QueryDropped:
    """A DNS packet got no answer: too short, not a query, or over a limit."""

    reason: str


@dataclass(frozen=True, slots=True)
class Checked:
    """An endpoint was connected to (`connect`) or probed (`tcp`, `http`, `grpc`).

    `result` is `accepted`, `refused`, `silent` or `untried` (our own trouble); of a probe it is
    `passed` or `failed`. `seconds` is what it took, of several at once all together.
    """

    kind: str
    result: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Attempted:
    """A transport's attempt of a request ended, `seconds` after it began.

    The headers of an answer came with `status`; or none did, and `error` says in a word why.
    `resend` counts the attempts of that request before this one. `url` is the one asked for,
    without user, query and fragment, where secrets may be; `host` and `port` are the endpoint's.
    """

    method: str
    url: str
    service: str
    host: str
    port: int
    task_arn: str | None
    resend: int
    seconds: float
    status: int | None = None
    error: str | None = None


Event = (
    CallMade
    | BudgetWaited
    | Throttled
    | Refreshed
    | RefreshFailed
    | Published
    | Noticed
    | MessagesReceived
    | QueryDropped
    | Checked
    | Attempted
)
Listener = Callable[[Event], None]


class Listeners:
    """Who is told of events. Subscribing swaps a tuple, so `emit` needs no lock."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners

    @property
    def anybody(self) -> bool:
        """Whether anybody listens; what happens at every request is told only then."""
        return bool(self._listeners)

    def subscribe(self, listener: Listener) -> None:
        """Have `listener` told of every event from now on."""
        self._listeners = (*self._listeners, listener)

    def emit(self, event: Event) -> None:
        """Tell all listeners, each whatever another one does."""
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                _log.exception("a listener failed on %r", event)


class SaidOnce:
    """Tells a person of what goes on: each message once, until it is another one or is over.

    With `again_s` it is said again after as many seconds. From any thread; of two that say the same
    at one moment both may be heard.
    """

    def __init__(self, listeners: Listeners, again_s: float = inf) -> None:
        self._listeners = listeners
        self._again_s = again_s
        self._message = ""
        self._at = 0.0

    def say(self, message: str, now: float = 0.0) -> None:
        """Say it, unless it was the last that was said; `now` in seconds of any clock."""
        if message != self._message or now - self._at >= self._again_s:
            self._message, self._at = message, now
            self._listeners.emit(Noticed(message))

    def over(self) -> None:
        """All is well: whatever comes next is said."""
        self._message = ""

"""An endpoint of a pool with its counters: what is under way, how long answers take.

Counters live as long as the endpoint's identity at its address. Only the pool writes them, one
writer at a time; `flights` is the exception, see there. Reading takes no lock.
"""

from math import exp

from discovery.health.ejection import Standing
from discovery.model import Endpoint

MEMORY_S = 10.0  # a sample's weight falls to 1/e in this time
MOST_EVIDENCE = 25.0  # older samples count less where there are more, so that news is heard
PENALTY_S = 5.0


class Member:
    """One endpoint in a pool.

    `flights` has one item a request under way, since a list's `append` and `pop` are atomic where
    `+= 1` is not. `weight` is the share of traffic meant for it, 1 on average over those serving.
    """

    __slots__ = (
        "endpoint",
        "evidence",
        "flights",
        "gone",
        "joined_at",
        "sampled_at",
        "standing",
        "total_s",
        "weight",
    )

    def __init__(self, endpoint: Endpoint, standing: Standing, joined_at: float) -> None:
        self.endpoint = endpoint
        self.standing = standing
        self.joined_at = joined_at
        self.gone = False
        self.weight = 1.0
        self.flights: list[None] = []
        self.total_s = 0.0  # the weighted sum of samples
        self.evidence = 0.0  # the sum of their weights
        self.sampled_at = joined_at

    @property
    def in_flight(self) -> int:
        """Requests under way, until their bodies are closed."""
        return len(self.flights)

    @property
    def latency_s(self) -> float | None:
        """The mean time to an answer's headers lately; `None` before the first."""
        return self.total_s / self.evidence if self.evidence else None

    def sample(self, latency_s: float, now: float) -> None:
        """Take one time to an answer's headers into the mean."""
        fade = exp(min(0.0, self.sampled_at - now) / MEMORY_S)
        evidence = self.evidence * fade
        if evidence > MOST_EVIDENCE:
            fade *= MOST_EVIDENCE / evidence
            evidence = MOST_EVIDENCE
        self.total_s = self.total_s * fade + latency_s
        self.evidence = evidence + 1.0
        self.sampled_at = now

    def __repr__(self) -> str:
        latency_s = self.latency_s
        timed = "no answer yet" if latency_s is None else f"{1e3 * latency_s:.1f} ms"
        standing = f", ejected: {self.standing.why}" if self.standing.cause else ""
        return f"<{self.endpoint.authority}: {self.in_flight} in flight, {timed}{standing}>"

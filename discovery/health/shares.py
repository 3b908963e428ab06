"""Shares of the traffic when endpoints leave: the rest of a revision takes theirs. Pure."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from discovery.health.eligibility import role_of
from discovery.model import Endpoint, Placement, Service

_NOWHERE = Placement()


def keeping_shares(service: Service, kept: Sequence[Endpoint]) -> list[Endpoint]:
    """Those of a service's endpoints that are kept, so that each revision keeps its share.

    Spares may be among them. Where tasks share alike, where only one revision is left to share, and
    where a revision had no share that is known, weights stay as they are.
    """
    if all(placement.revision is None for placement in service.placements.values()):
        return list(kept)

    def pool(endpoint: Endpoint) -> tuple[object, str | None]:
        placement = service.placements.get(endpoint.task_arn or "", _NOWHERE)
        return role_of(endpoint, service.default_port_of(endpoint)), placement.revision

    before: defaultdict[object, float] = defaultdict(float)
    after: defaultdict[tuple[object, str | None], float] = defaultdict(float)
    for endpoint in service.endpoints:
        before[pool(endpoint)] += endpoint.weight
    for endpoint in kept:
        after[pool(endpoint)] += endpoint.weight
    sharing = Counter(role for role, _ in after)

    def weighed(endpoint: Endpoint) -> Endpoint:
        mine = pool(endpoint)
        if sharing[mine[0]] < 2 or not before[mine] or not after[mine]:
            return endpoint
        if after[mine] == before[mine]:
            return endpoint
        return replace(endpoint, weight=round(endpoint.weight * before[mine] / after[mine], 6))

    return [weighed(endpoint) for endpoint in kept]

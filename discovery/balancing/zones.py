"""Own zone first: which part of the traffic goes to which zone. Pure.

Crossing a zone costs money and time, but a zone's callers may be more than its endpoints can take.
What we do not know is how many callers each zone has, so they are taken to be equally many, unless
told otherwise. Each zone keeps what it can carry, and the rest goes where there is capacity left
over, in proportion to it (Envoy's "zone aware routing"), so that every endpoint gets the same.
"""

from collections.abc import Mapping


def parts(
    capacity: Mapping[str, float], own: str, callers: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Each zone's part of the traffic that comes from zone `own`; the parts add up to 1.

    `capacity` has each zone's endpoints by weight, more than none in total. `callers` has each
    zone's part of all callers, equal where not given.
    """
    total = sum(capacity.values())
    carries = {zone: capacity.get(zone, 0.0) / total for zone in {*capacity, own, *(callers or {})}}
    brings = _brings(carries, callers)
    if carries[own] >= brings[own]:
        return {own: 1.0}
    stays = carries[own] / brings[own]
    room = {z: c - brings[z] for z, c in carries.items() if c > brings[z]}
    left = sum(room.values())
    away = {zone: (1.0 - stays) * part / left for zone, part in sorted(room.items())}
    return ({own: stays} if stays > 0 else {}) | away


def _brings(carries: Mapping[str, float], callers: Mapping[str, float] | None) -> dict[str, float]:
    given = callers or dict.fromkeys(carries, 1.0)
    total = sum(given.values())
    return {zone: given.get(zone, 0.0) / total for zone in carries}

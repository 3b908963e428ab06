"""In which order the records of an answer stand, one answer after the other.

Most clients take the first record, and the next one when that fails. So every record comes first
equally often, and behind each of them all the others take turns: when one endpoint dies, what
would have been its share is spread over the rest. Rotation alone would give it all to one.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import count, repeat
from typing import Literal

Ordering = Literal["balanced", "weighted", "stable"]
Order = Sequence[int]
Chance = Callable[[int], int]  # a number from 0 to n-1

_MOST_SHUFFLED = 64  # longer answers hardly ever fit into a datagram
_FINE = 1 << 30


def orders(ordering: Ordering, weights: Sequence[float], chance: Chance) -> Iterator[Order]:
    """Orders of as many records as there are weights, without end.

    `balanced` is for equal weights; unequal ones, as of a deployment that shifts traffic, are kept
    in it, too, since most clients know no other share than the first record's.
    """
    if ordering == "stable" or len(weights) < 2:
        return repeat(range(len(weights)))
    if any(weights) and (ordering == "weighted" or len(set(weights)) > 1):
        return _weighted(weights, chance)
    return _balanced(len(weights), chance)


def cycle(size: int, number: int) -> tuple[int, ...]:
    """One of the cycles through all of 0 to size-1 in which everything has every successor.

    With an odd size, the size-1 first of them have each pair in succession once (Walecki's
    decomposition of the complete graph, both ways round); with an even one, the size first of them
    do, but for one successor that comes twice.
    """
    even = size - size % 2
    at = number % even // 2
    steps = ((n + 1) // 2 * (1 if n % 2 else -1) for n in range(even))
    zigzag = (*((at + step) % even for step in steps), *range(even, size))
    return zigzag[::-1] if number % 2 else zigzag


def _balanced(size: int, chance: Chance) -> Iterator[Order]:
    names = _shuffled(size, chance) if size <= _MOST_SHUFFLED else list(range(size))
    first = chance(size)
    for number in count(chance(size)):
        turned = [names[n] for n in cycle(size, number)]
        for start in range(first, first + size):
            at = start % size
            yield turned[at:] + turned[:at]


def _weighted(weights: Sequence[float], chance: Chance) -> Iterator[Order]:
    """The first is chosen smoothly by weight (as nginx does), the others by weighted chance."""
    total = sum(weights)
    credit = [weight * chance(_FINE) / _FINE for weight in weights]
    while True:
        credit = [have + weight for have, weight in zip(credit, weights, strict=True)]
        first = max(range(len(weights)), key=credit.__getitem__)
        credit[first] -= total
        late = [_lateness(weight, chance) for weight in weights]
        late[first] = -1.0
        yield sorted(range(len(weights)), key=late.__getitem__)


def _lateness(weight: float, chance: Chance) -> float:
    """Sorting by this draws without replacement, by weight (Efraimidis and Spirakis, 2006)."""
    return -math.log((chance(_FINE) + 1) / _FINE) / weight if weight > 0 else math.inf


def _shuffled(size: int, chance: Chance) -> list[int]:
    names = list(range(size))
    for n in range(size - 1, 0, -1):
        other = chance(n + 1)
        names[n], names[other] = names[other], names[n]
    return names

"""How many queries were answered, by the type asked for and what was said.

Counting must cost next to nothing: an answer at hand keeps the count that it adds to, a list of one
number, so that nothing is looked up. One thread writes; any may read.
"""

from dnslib import QTYPE, RCODE

FORWARDED = -1  # instead of an rcode: somebody else answers
_OTHER = "other"
_TYPES = frozenset(
    {"A", "NS", "CNAME", "SOA", "PTR", "HINFO", "MX", "TXT", "AAAA", "SRV", "NAPTR", "DS"}
    | {"SVCB", "HTTPS", "IXFR", "AXFR", "ANY"}
)
_RCODES = frozenset(range(6))

Count = list[int]


class Tally:
    """The counts of one loop; what types and rcodes there are is bounded."""

    def __init__(self) -> None:
        self._counts: dict[tuple[int, int], Count] = {}

    def count(self, kind: int | None, rcode: int) -> Count:
        """Where to add one for a query of that type; without one, for what could not be read."""
        found = self._counts.get((kind or 0, rcode))
        return self._new(kind or 0, rcode) if found is None else found

    def totals(self) -> dict[tuple[str, str], int]:
        """By the names of type and rcode, how many there were."""
        return {names_of(*key): count[0] for key, count in tuple(self._counts.items())}

    def _new(self, kind: int, rcode: int) -> Count:
        kind = kind if names_of(kind, rcode)[0] != _OTHER else 0
        rcode = rcode if rcode in _RCODES or rcode == FORWARDED else max(_RCODES) + 1
        return self._counts.setdefault((kind, rcode), [0])


def names_of(kind: int, rcode: int) -> tuple[str, str]:
    """The names of a type and an rcode, `other` for those that hardly anybody uses."""
    name = QTYPE.get(kind, _OTHER)
    said = "forwarded" if rcode == FORWARDED else RCODE.get(rcode, _OTHER)
    return name if name in _TYPES else _OTHER, said if rcode in (*_RCODES, FORWARDED) else _OTHER

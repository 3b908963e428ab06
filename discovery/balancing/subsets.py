"""A part of a large pool, so that not every client holds connections to every endpoint. Pure.

Rendezvous hashing: each client ranks all endpoints by a hash of both and takes the first ones, so
that an endpoint that comes or goes changes one place of a client's subset, or none.
"""

from collections.abc import Sequence
from hashlib import blake2b
from heapq import nlargest

from discovery.balancing.member import Member

LARGEST = 100


def subset(members: Sequence[Member], client: str, largest: int = LARGEST) -> tuple[Member, ...]:
    """The members that this client uses, in their order; all where they are few enough."""
    if len(members) <= largest:
        return tuple(members)
    chosen = set(nlargest(largest, members, key=lambda member: _rank(member, client)))
    return tuple(member for member in members if member in chosen)


def _rank(member: Member, client: str) -> bytes:
    text = "\0".join([client, *(str(part) for part in member.endpoint.identity)])
    return blake2b(text.encode(), digest_size=8).digest()

"""Pagination with opaque tokens.

A token names the operation, its filters and the last item given; it is signed with a key of this
server, so a foreign, changed or misplaced token is refused as the real API refuses it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable
from itertools import islice
from typing import Any, TypeVar

from discovery.local.errors import invalid

Item = TypeVar("Item")
Position = TypeVar("Position", int, str)
_SIGNATURE_BYTES = 12


class Pages:
    """Makes and reads the tokens of one server."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def token(self, operation: str, filters: object, position: int | str) -> str:
        """The token that continues `operation` with `filters` after `position`."""
        body = json.dumps([operation, _digest(filters), position]).encode()
        return base64.urlsafe_b64encode(self._signature(body) + body).decode()

    def position(self, operation: str, filters: object, token: str) -> Any:
        """The position in `token`; InvalidParameterException when it was not made for this call."""
        try:
            raw = base64.urlsafe_b64decode(token.encode())
            signature, body = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
            if not hmac.compare_digest(signature, self._signature(body)):
                raise ValueError("signature")
            made_for, digest, position = json.loads(body)
        except ValueError as error:
            raise invalid("Invalid token") from error
        if (made_for, digest) != (operation, _digest(filters)):
            raise invalid("Invalid token")
        return position

    def _signature(self, body: bytes) -> bytes:
        return hashlib.blake2b(body, key=self._key, digest_size=_SIGNATURE_BYTES).digest()


def _digest(filters: object) -> str:
    text = json.dumps(filters, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def page(
    pages: Pages,
    operation: str,
    request: dict[str, Any],
    items: Iterable[tuple[Position, Item]],
    default: int = 100,
    limit: int = 100,
    descending: bool = False,
) -> tuple[list[Item], str | None]:
    """One page of `items`, which come as (position, item), and the next token or None.

    Positions grow (fall when `descending`) and stay with their items whatever comes and goes.
    The filters are the request without its paging; a token given with other filters is refused.
    """
    size = request.get("maxResults", default)
    if not isinstance(size, int) or not 1 <= size <= limit:
        raise invalid(f"maxResults must be between 1 and {limit}")
    filters = {k: v for k, v in request.items() if k not in ("nextToken", "maxResults")}
    given = request.get("nextToken")
    if given:
        after = pages.position(operation, filters, given)
        items = (i for i in items if (i[0] < after if descending else i[0] > after))
    found = list(islice(items, size + 1))
    taken = [item for _, item in found[:size]]
    if len(found) <= size:
        return taken, None
    return taken, pages.token(operation, filters, found[size - 1][0])

"""Message queues in memory: what SQS keeps of an event."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from discovery.local.ids import Ids

_QUEUE_LIMIT = 100_000


@dataclass(slots=True)
class Stored:
    """A message in a queue; `visible_at` moves when it is received."""

    id: str
    body: str
    sent_at: float
    visible_at: float = 0.0
    received: int = 0
    first_received_at: float = 0.0
    receipts: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Queue:
    """A queue; `arrived` is set while a message may be visible."""

    name: str
    url: str
    visibility_s: float
    messages: deque[Stored] = field(default_factory=deque)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, ids: Ids, body: str, now: float) -> Stored:
        """Add a message; the oldest is dropped beyond the limit."""
        made = Stored(ids.uuid(), body, now)
        self.messages.append(made)
        if len(self.messages) > _QUEUE_LIMIT:
            self.messages.popleft()
        self.arrived.set()
        return made

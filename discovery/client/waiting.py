"""Conversations that wait, decided once for threads and for coroutines.

A conversation is a generator: it yields what it waits for, is sent whether that came true in time,
and returns its result. The two drivers differ only by `await`.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

from discovery.catalog.bell import Bell

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wait:
    """Until `done()`, at most `timeout_s` seconds; `None` waits for ever."""

    done: Callable[[], bool]
    timeout_s: float | None


Waiting = Generator[Wait, bool, T]


def drive(bell: Bell, conversation: Waiting[T]) -> T:
    """Have the conversation in this thread."""
    try:
        wait = next(conversation)
        while True:
            wait = conversation.send(bell.wait(wait.done, wait.timeout_s))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # StopIteration.value is untyped


async def drive_async(bell: Bell, conversation: Waiting[T]) -> T:
    """Have the conversation in this coroutine."""
    try:
        wait = next(conversation)
        while True:
            wait = conversation.send(await bell.wait_async(wait.done, wait.timeout_s))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # StopIteration.value is untyped

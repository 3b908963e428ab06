"""Waiting for news, from threads and coroutines."""

import asyncio
import threading

from discovery.catalog.bell import Bell


def test_what_is_done_already_is_not_waited_for() -> None:
    """Neither a ring nor a timeout is needed."""
    assert Bell().wait(lambda: True, 0)


def test_a_timeout_says_that_it_is_not_done() -> None:
    """The caller decides what that means."""
    assert not Bell().wait(lambda: False, 0)
    assert not asyncio.run(Bell().wait_async(lambda: False, 0))


def test_a_ring_wakes_threads_and_coroutines_alike() -> None:
    """One ring for all, whatever loop they run in."""
    bell, news, woken = Bell(), threading.Event(), threading.Semaphore(0)

    def in_thread() -> None:
        if bell.wait(news.is_set, 10):
            woken.release()

    def in_loop() -> None:
        if asyncio.run(bell.wait_async(news.is_set, 10)):
            woken.release()

    threads = [threading.Thread(target=target) for target in (in_thread, in_loop) * 3]
    for thread in threads:
        thread.start()
    news.set()
    bell.ring()
    for thread in threads:
        thread.join(10)
    assert sum(woken.acquire(blocking=False) for _ in threads) == 6


def test_no_ring_is_lost_between_looking_and_waiting() -> None:
    """Whoever waits is armed before it looks for the last time."""
    bell = Bell()
    looks: list[int] = []

    def done() -> bool:
        looks.append(len(looks))
        if len(looks) == 2:  # the look after arming: it becomes true just now, and rings
            bell.ring()
            return False
        return len(looks) > 2

    assert bell.wait(done, 10)


def test_a_loop_that_was_closed_does_not_break_the_ring() -> None:
    """Its waiters are gone; the others are still woken."""
    bell, loop = Bell(), asyncio.new_event_loop()
    waiting = loop.create_task(bell.wait_async(lambda: False))
    loop.run_until_complete(asyncio.sleep(0))
    others: list[str] = []
    bell._armed.add(lambda: others.append("woken"))
    armed = set(bell._armed)
    waiting.cancel()
    loop.run_until_complete(asyncio.gather(waiting, return_exceptions=True))
    loop.close()
    bell._armed = armed  # as if the loop had been closed without ending its tasks
    bell.ring()
    assert others == ["woken"]


def test_a_cancelled_waiter_leaves_nothing_behind() -> None:
    """Many clients that give up must not fill memory."""

    async def give_up(bell: Bell) -> None:
        waiting = asyncio.create_task(bell.wait_async(lambda: False))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    bell = Bell()
    asyncio.run(give_up(bell))
    assert bell._armed == set()

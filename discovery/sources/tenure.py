"""The lease of one process: taken, renewed by a thread of its own, given up in time.

Rule 1: it is given up before the store lets anybody else have it, by our own clock alone.
Rule 2: a renewal that fails is tried again until then; one that is refused ends it.
Rule 3: no lock is held while the store is asked.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from discovery.errors import SourceError
from discovery.sources.lease import Held, Terms
from discovery.sources.store import Store

LETTING_GO_S = 1.0  # how long closing waits for the store


class Tenure:
    """Whether the lease is ours. Taken by one thread; all else is for any."""

    def __init__(
        self, store: Store, holder: str, terms: Terms, monotonic: Callable[[], float]
    ) -> None:
        self._store = store
        self._holder = holder
        self._terms = terms
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._held: Held | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def held(self) -> Held | None:
        """The lease while it is surely ours."""
        held = self._held
        return held if held is not None and held.is_sure(self._monotonic()) else None

    def take(self, least_epoch: int) -> bool:
        """Ask for the lease with an epoch over that. Raises `SourceError`."""
        self.lost()
        asked_at = self._monotonic()
        epoch = self._store.take(self._holder, least_epoch, self._terms.lasts_s)
        if epoch is None:
            return False
        held = self._held = Held(epoch, asked_at, self._terms)
        self._over = over = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(held, over), name="discovery-lease", daemon=True
        )
        self._thread.start()
        return True

    def lost(self) -> None:
        """It is not ours any more."""
        self._over.set()
        with self._lock:
            self._held = None

    def let_go(self) -> None:
        """Let others have it."""
        held = self._held
        self.lost()
        if held is not None:
            self._release(held.epoch)

    def close(self) -> None:
        """Let go of it; waits only for so long for a store that does not answer."""
        thread = threading.Thread(target=self.let_go, name="discovery-lease-end", daemon=True)
        renewing, self._thread = self._thread, None
        if renewing is None:
            return
        thread.start()
        thread.join(LETTING_GO_S)
        renewing.join(LETTING_GO_S)

    def renew(self) -> None:
        """Renew it where it is time to."""
        held = self._held
        if held is not None:
            self._step(held.epoch)

    def _run(self, held: Held, over: threading.Event) -> None:
        pause_s: float | None = held.renewed_in_s(self._monotonic())
        while pause_s is not None and not over.wait(pause_s):
            pause_s = self._step(held.epoch)

    def _step(self, epoch: int) -> float | None:
        """Do what is due; seconds until something is again, `None` when the lease is over."""
        held, now = self._held, self._monotonic()
        if held is None or held.epoch != epoch:
            return None
        if not held.is_sure(now):
            self._end(epoch)
            return None
        if held.renewed_in_s(now) > 0:
            return held.renewed_in_s(now)
        try:
            is_ours = self._store.renew(self._holder, epoch, self._terms.lasts_s)
        except SourceError:
            return self._terms.lasts_s / 10
        if not is_ours:
            self._end(epoch)
            self._release(epoch)  # where its epoch was fenced off, nobody else could have it
            return None
        with self._lock:
            if self._held is held:
                self._held = replace(held, asked_at=now)
        return replace(held, asked_at=now).renewed_in_s(self._monotonic())

    def _end(self, epoch: int) -> None:
        with self._lock:
            if self._held is not None and self._held.epoch == epoch:
                self._held = None

    def _release(self, epoch: int) -> None:
        with suppress(SourceError):  # it ends by itself
            self._store.release(self._holder, epoch)

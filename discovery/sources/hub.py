"""Following other sidecars: blocking queries on `/v1/snapshot`, one hub at a time.

Rule 1: what a hub says is as old as it was there, and older for as long as we hear nothing; its
times are moved to our clock by the age that it sends along, so that clocks need not agree.
Rule 2: nothing older is taken after something newer: of one publisher by its sequence, else, as
epochs of two hubs do not compare, by when it was observed. The same holds for what `seen` tells.
Rule 3: a hub that fails, or that has nothing fresh, is passed by for the next one. One that may not
read any more fails, once what it has is known; one that has an outage may have it with all others.
Rule 4: answers are bounded in size and time; closing ends a wait that is under way.
Rule 5: whom nothing could be taken from is connected to anew, as its name may lead elsewhere by
now, and whom to believe may be written anew.
"""

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from discovery.balancing.policy import Chance
from discovery.errors import (
    BadSetting,
    CredentialsMissing,
    SourceError,
    SourceMalformed,
    SourceUnreachable,
)
from discovery.events import Listeners, Noticed
from discovery.model import Observation, Snapshot
from discovery.secret import Secret, without_password
from discovery.snapshots import MAX_BYTES, Told, inflated, told
from discovery.sources.base import Wanted
from discovery.sources.hearsay import is_older, observed, shifted
from discovery.sources.secrets import revealed

if TYPE_CHECKING:
    import ssl

    import httpx

CONNECT_S = 2.0
ANSWER_S = 10.0  # of silence, beyond the wait that was asked for
WHOLE_S = 40.0  # for a whole answer, beyond that wait
LONGEST_WAIT_S = 60.0
LEAST_PERIOD_S = 0.2  # between two queries, whatever a hub answers
KEPT_S = 4.0  # an idle connection; hubs close theirs after 5 s, and none is used at its very end
WANT = "http://HUB:PORT or https://HUB:PORT, several with commas"
_AGE = "X-Discovery-Age"
_FOLLOWER = "X-Discovery-Follower"
_MOST_REASON = 300
# by what is in OpenSSL's words
_FIXES = {
    "CERTIFICATE_VERIFY_FAILED": "set hub_ca to the file of whoever signed its certificate",
    "WRONG_VERSION_NUMBER": "it speaks no TLS, write http://",
}


@dataclass(frozen=True, slots=True)
class Following:
    """How hubs are followed. Times are seconds; `ca` is a PEM file."""

    chance: Chance
    interval_s: float = 10.0
    token: Secret | None = None
    ca: str | None = None
    label: str = "default"
    whole_s: float = WHOLE_S
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


def hubs(written: str) -> tuple[str, ...]:
    """The URLs in the text of a source. Raises `BadSetting`."""
    return tuple(_hub(item.strip()) for item in written.split(","))


class HubSource:
    """What other sidecars know, from the first of `urls` that answers; they begin in any order."""

    def __init__(
        self, urls: Sequence[str], how: Following, *, listeners: Listeners | None = None
    ) -> None:
        self._urls = sorted(urls, key=lambda _: how.chance.random())
        self._how = how
        self._listeners = listeners or Listeners()
        self._name = uuid.uuid4().hex
        self._told: dict[str, Told] = {}  # by hub, in its own clock
        self._known: Told | None = None  # what was taken last, in ours
        self._since = float("-inf")  # when what others have shown was observed
        self._labels: tuple[str, ...] = ()
        self._closed = False
        self._inherited: list[object] = []
        self._renew()
        if how.token is not None and (plain := [u for u in urls if u.startswith("http:")]):
            said = f"hub {plain[0]}: the token is sent to it without encryption: use https"
            self._listeners.emit(Noticed(said))

    def _renew(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()  # held while loading
        self._client: httpx.Client | None = None
        self._socket: socket.socket | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The hub's clusters; before it said anything, the one that was configured."""
        return self._labels or (self._how.label,)

    @property
    def followers(self) -> int:
        """How many follow our hubs, as far as is known: each counts its own only."""
        return max((t.followers for t in self._told.values()), default=0) * len(self._urls)

    def seen(self, observed_at: float) -> None:
        """Take nothing from now on that was observed before, in seconds since the epoch."""
        self._since = max(self._since, observed_at)

    def load(self, wanted: Wanted) -> Observation:
        """Wait for a change at the hub, or for an interval; then all that it knows."""
        if self._pid != os.getpid():
            self._inherited.append((self._client, self._socket))  # neither used nor closed here
            self._renew()
        began, before = self._how.monotonic(), self._known
        try:
            with self._lock:
                found = self._freshest()
        finally:
            if self._closed:
                self.close()
        took_s = self._how.monotonic() - began
        observation = observed(found.snapshot)
        self._labels = observation.labels
        fresh_for_s = observation.fresh_for_s + self._wait_s
        # A hub that has no place to wait answers at once; then the pace is for us to keep.
        is_news = before is None or before.token != found.token
        again_s = max(0.0, (LEAST_PERIOD_S if is_news else self._wait_s / 2) - took_s)
        return replace(observation, again_s=again_s, fresh_for_s=fresh_for_s)

    def load_pending(self) -> Observation:
        """Nothing: hubs say all they know."""
        return Observation(self._how.clock())

    def close(self) -> None:
        """End the query under way, and close the connection when it has ended."""
        self._closed = True
        self._interrupt()
        if self._lock.acquire(blocking=False):
            try:
                self._disconnect()
            finally:
                self._lock.release()

    @property
    def _wait_s(self) -> float:
        return min(LONGEST_WAIT_S, self._how.interval_s)

    def _freshest(self) -> Told:
        """The first fresh snapshot, else the newest; the hub that has it is the next to ask."""
        failures: list[tuple[str, SourceError]] = []
        stale: list[tuple[str, Told]] = []
        for url in tuple(self._urls):
            try:
                found = self._asked(url)
            except SourceError as error:
                failures.append((url, error))
                continue
            if self._how.clock() - found.snapshot.observed_at <= found.snapshot.fresh_for_s:
                return self._taken(url, found)
            if self._known is not None and (why := _denied(found.snapshot)):
                failures.append((url, SourceUnreachable(f"hub {url}: it may not read: {why}")))
                continue
            stale.append((url, found))
        if stale:
            return self._taken(*max(stale, key=lambda each: each[1].snapshot.observed_at))
        self._urls.append(self._urls.pop(0))
        if len(failures) == 1:
            raise failures[0][1]
        # In one order whoever was asked first: what is said anew is taken for news.
        raise SourceUnreachable("; ".join(sorted(str(error) for _, error in failures)))

    def _taken(self, url: str, found: Told) -> Told:
        while self._urls[0] != url:
            self._urls.append(self._urls.pop(0))
        self._known = found
        return found

    def _asked(self, url: str) -> Told:
        """What a hub says, in our clock. Raises `SourceError` with the hub's name."""
        if self._closed:
            raise SourceUnreachable("closed")
        try:
            found = self._answer(url)
            if is_older(found, self._known, self._since, self._how.clock()):
                raise SourceUnreachable("what it knows is older than what is known already")
        except SourceError as error:
            self._disconnect()
            raise type(error)(f"hub {url}: {error}") from error
        return found

    def _answer(self, url: str) -> Told:
        import httpx

        known = self._told.get(url)
        query, wait_s = self._query(url, known)
        headers = {_FOLLOWER: self._name, "Accept-Encoding": "gzip"}
        with (
            self._failures(wait_s + self._how.whole_s),
            self._connected().stream(
                "GET",
                f"{url}/v1/snapshot",
                params=query,
                headers=headers | self._authorization(),
                timeout=httpx.Timeout(CONNECT_S, read=wait_s + ANSWER_S),
                extensions={"trace": self._trace},
            ) as answer,
        ):
            now = self._how.clock()
            content = _body(answer)
        _refuse_failure(answer, content)
        try:
            found = told(content, known)
        except SourceMalformed:
            self._told.pop(url, None)  # so that all of it is asked for next
            raise
        self._told[url] = found
        observed_at = now - _age_s(answer.headers.get(_AGE))
        return replace(
            found, snapshot=shifted(found.snapshot, observed_at - found.snapshot.observed_at)
        )

    def _query(self, url: str, known: Told | None) -> tuple[dict[str, str], float]:
        """Waits only where we are up to date, and only for the hub that we follow."""
        if known is None:
            return {}, 0.0
        query = {"index": str(known.snapshot.index), "known": known.token}
        wait_s = self._wait_s * (0.8 + 0.2 * self._how.chance.random())
        if url != self._urls[0]:
            wait_s = 0.0
        return query | {"wait": f"{round(wait_s * 1_000)}ms"}, wait_s

    def _authorization(self) -> dict[str, str]:
        token = self._how.token
        return {"Authorization": f"Bearer {revealed(token, 'hub_token')}"} if token else {}

    @contextlib.contextmanager
    def _failures(self, within_s: float) -> Iterator[None]:
        """Have the library's errors say what is wrong, and have it end within that time.

        Its own timeouts are for each piece of an answer, not for the whole.
        """
        import httpx

        is_over = threading.Event()  # a timer is finished only after what it does

        def end() -> None:
            is_over.set()
            self._interrupt()

        ends = threading.Timer(within_s, end)
        ends.daemon = True
        ends.start()
        try:
            yield
        except BadSetting as exc:
            raise SourceError(exc.message) from exc
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as exc:  # or a name that none can be
            if is_over.is_set():
                raise SourceUnreachable(f"its answer took over {within_s:.3g} s") from exc
            said = str(exc) or type(exc).__name__
            fixes = (fix for sign, fix in _FIXES.items() if sign in said)
            raise SourceUnreachable(": ".join(("no answer", said, *fixes))) from exc
        finally:
            ends.cancel()

    def _connected(self) -> "httpx.Client":
        import httpx

        if self._client is None:
            # Hubs are neighbours: a proxy from the environment must not be asked for them.
            self._client = httpx.Client(
                verify=_trusting(self._how.ca),
                trust_env=False,
                limits=httpx.Limits(keepalive_expiry=KEPT_S),
            )
        return self._client

    def _disconnect(self) -> None:
        client, self._client, self._socket = self._client, None, None
        if client is not None:
            client.close()

    def _trace(self, event: str, info: dict[str, Any]) -> None:
        """Have `close` know the socket that is waited on; the library tells of it here only."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._socket = info["return_value"].get_extra_info("socket")
            if self._closed:
                self._interrupt()

    def _interrupt(self) -> None:
        waited_on = self._socket
        if waited_on is not None:
            with contextlib.suppress(OSError):
                waited_on.shutdown(socket.SHUT_RDWR)


def _denied(value: Snapshot) -> str | None:
    """Why no cluster may be read there any more; `None` where any may."""
    are_denied = value.clusters and all(cluster.denied_since for cluster in value.clusters)
    return (value.clusters[0].error or "denied") if are_denied else None


def _hub(written: str) -> str:
    try:
        parts = urlsplit(written)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or "@" in parts.netloc:
        raise BadSetting("source", without_password(written), WANT)
    return written.rstrip("/")


def _trusting(ca: str | None) -> "ssl.SSLContext | bool":
    """Whom to believe: the authorities in that file, else the usual ones."""
    import ssl

    try:
        return ssl.create_default_context(cafile=ca) if ca else True
    except OSError as exc:
        raise BadSetting("hub_ca", ca, f"a PEM file that can be read ({exc})") from exc


def _body(answer: "httpx.Response") -> bytes:
    """The whole body, decompressed; bounded, whatever its head says."""
    content = bytearray()
    for piece in answer.iter_raw():
        content += piece
        if len(content) > MAX_BYTES:
            raise SourceMalformed(f"its answer is over {MAX_BYTES >> 20} MiB")
    if answer.headers.get("Content-Encoding") == "gzip":
        return inflated(bytes(content))
    return bytes(content)


def _refuse_failure(answer: "httpx.Response", content: bytes) -> None:
    if answer.status_code == 200:
        return
    if answer.status_code == 401:
        fix = "set hub_token to its http_token"
        raise CredentialsMissing(f"it refuses us ({_reason(content)}): {fix}")
    raise SourceUnreachable(f"it answers {answer.status_code}: {_reason(content)}")


def _reason(content: bytes) -> str:
    """The message of an error's body, or its beginning."""
    try:
        message = msgspec.json.decode(content)["error"]["message"]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError):
        message = content[:_MOST_REASON].decode(errors="replace")
    return " ".join(str(message)[:_MOST_REASON].split()) or "without a reason"


def _age_s(header: str | None) -> float:
    try:
        age_s = float(header or "")
    except ValueError:
        age_s = -1.0
    if not 0 <= age_s < 1e11:
        raise SourceMalformed(f"{_AGE} is {header!r}: this is no hub")
    return age_s

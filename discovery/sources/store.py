"""Redis or Valkey as the store that sidecars share: its connections and its failures.

Rule 1: what is compared and then changed is one script, so that nothing comes between.
Rule 2: every request is bounded in time, every answer in size; none is sent a second time.
Rule 3: after a new connection nothing is taken for unchanged, as it may lead to another server;
after any error connections are made anew, as the name may lead to another one by now.
Rule 4: a part of a Redis cluster that does not have our keys says who has: from then on that one is
asked, until it fails.
"""

import contextlib
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from discovery.errors import (
    BadSetting,
    CredentialsMissing,
    SourceError,
    SourceMalformed,
    SourceUnreachable,
)
from discovery.secret import Secret, without_password
from discovery.sources import scripts
from discovery.sources.publication import MOST_BYTES, Publication, Shelf
from discovery.sources.secrets import revealed

CONNECT_S = 2.0
ANSWER_S = 5.0
SLICE_S = 0.5  # how soon a wait notices that it is over
# What a script may not do, in the words of Redis 6 and 7, 7.2 and Valkey; not always with a code.
_DENIED = ("can't run this command", "ACL failure in script")
_NOTHING = "return 0"
KEPT_S = 7 * 86_400  # what nobody publishes any more is forgotten
WANT = "redis://[USER:PASSWORD@]HOST[:PORT][/DB][?cluster=NAME&ca=FILE&password=file:PATH]"


@dataclass(frozen=True, slots=True)
class Where:
    """A store: where it is, whom to be there, which clusters it is about; `ca` is a PEM file."""

    host: str
    port: int = 6379
    database: int = 0
    is_tls: bool = False
    user: str | None = None
    password: Secret | None = None
    ca: str | None = None
    clusters: tuple[str, ...] = ()

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis{'s' if self.is_tls else ''}://{host}:{self.port}/{self.database}"


def where(written: str) -> Where:
    """A store from the text of a source. Raises `BadSetting`, which does not show the password."""
    wrong = BadSetting("source", without_password(written), WANT)
    try:
        parts = urlsplit(written)
        port = parts.port or 6379
        database = int(parts.path.strip("/") or 0)
        asked = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise wrong from None
    if not parts.hostname or parts.fragment or database < 0 or not all(map(all, asked.values())):
        raise wrong
    if asked.keys() - {"cluster", "ca", "password"} or len(asked.get("ca", ())) > 1:
        raise wrong
    password = asked.get("password", [unquote(parts.password or "")])
    return Where(
        parts.hostname,
        port,
        database,
        parts.scheme == "rediss",
        unquote(parts.username) if parts.username else None,
        Secret(password[0]) if password[0] else None,
        asked.get("ca", [None])[0],
        tuple(asked.get("cluster", ())),
    )


class Store:
    """The keys of some clusters in one store. From any thread; `wait` by one at a time.

    Every method but `close` may raise `SourceError`; making one may raise `BadSetting`. `met` is
    called with a sentence where the server turns out to be another one.
    """

    def __init__(self, at: Where, name: str) -> None:
        _library()
        _refuse_unreadable(at.ca)
        self._at = at
        self._keys = scripts.keys(name)
        self._closed = threading.Event()
        self._opening = threading.Lock()
        self._client: Any = None
        self._hearing: Any = None
        self._moved: tuple[str, int] | None = None  # who has our keys, of a cluster
        self._connected = 0
        self._met = (0, "")  # how often we had connected, and which server that was
        self.met: Callable[[str], None] = lambda _: None

    def take(self, holder: str, least_epoch: int, lasts_s: float) -> int | None:
        """The epoch of a lease that is ours now, over `least_epoch`; `None` while it is another's.

        Without an answer it may be ours and is not used: it ends by itself.
        """
        return int(self._eval(scripts.TAKE, holder, least_epoch, _ms(lasts_s))) or None

    def renew(self, holder: str, epoch: int, lasts_s: float) -> bool:
        """Whether the lease is ours still, and for that much longer."""
        return bool(self._eval(scripts.RENEW, f"{epoch} {holder}", epoch, _ms(lasts_s)))

    def release(self, holder: str, epoch: int) -> None:
        """Let others have the lease, if it is ours."""
        self._eval(scripts.RELEASE, f"{epoch} {holder}")

    def fence(self, epoch: int) -> None:
        """Have the store refuse what has this epoch's predecessors, which it may have forgotten."""
        self._eval(scripts.FENCE, epoch)

    def publish(self, new: Publication) -> bool | None:
        """Whether it was taken; `None` where the store needs all of it. Others are told."""
        said = self._eval(
            scripts.PUBLISH,
            *(new.epoch, new.sequence, new.publisher, new.stamp, new.since, _ms(new.age_s)),
            *(new.content or b"", new.changes, KEPT_S * 1_000),
        )
        return {1: True, 2: None}.get(int(said), False)

    def read(self, stamp: str, token: str) -> Shelf:
        """What differs from what is known, by its stamp and by the token of its document."""
        try:
            said = self._eval(scripts.READ, stamp, token, MOST_BYTES)
            if self._is_another():
                self.deaf()  # what is listened to may be the one before
                said = self._eval(scripts.READ, "", "", MOST_BYTES)
        except SourceError:
            self.deaf()  # whom we cannot ask may not reach us either, and a dead end is silent
            raise
        left, now, *found = said
        lease_left_s = left / 1_000 if left >= 0 else None
        if not found or found[0] is None:
            return Shelf(lease_left_s)
        try:
            has, since, observed, *documents = found
            age_s = max(0.0, (int(now) - int(observed)) / 1_000)
            return Shelf(lease_left_s, has.decode(), since.decode(), age_s, *documents)
        except (ValueError, TypeError, AttributeError) as exc:
            raise SourceMalformed(f"store {self._at}: its snapshot is none of ours: {exc}") from exc

    def followers(self) -> int:
        """How many wait for news; none where the store does not say."""
        with self._failures():
            try:
                ((_, count),) = self._opened().pubsub_numsub(self._keys[3])
            except _library().exceptions.ResponseError:
                return 0  # not permitted
            return int(count)

    def listen(self) -> bool:
        """Have the store tell of news from now on; whether it did not do so already."""
        if self._hearing is not None:
            return False
        self._eval(_NOTHING)  # who has our keys is to be listened to, as it counts who does
        with self._failures():
            hearing = self._opened().pubsub()
            try:
                hearing.subscribe(self._keys[3])
                until = time.monotonic() + ANSWER_S
                while (hearing.get_message(timeout=SLICE_S) or {}).get("type") != "subscribe":
                    if time.monotonic() > until:
                        raise SourceUnreachable(f"store {self._at}: it confirms no subscription")
            except BaseException:
                hearing.close()
                raise
            self._hearing = hearing
            return True

    def wait(self, timeout_s: float) -> bool:
        """Wait for news; whether there are any. Ends when `close` is called."""
        until = time.monotonic() + timeout_s
        try:
            with self._failures():
                while not self._closed.is_set() and self._hearing is not None:
                    left_s = until - time.monotonic()
                    message = self._hearing.get_message(timeout=min(SLICE_S, max(0.0, left_s)))
                    if message is not None:
                        return True
                    if left_s <= 0:
                        break
        except SourceError:
            self.deaf()
            raise
        return False

    def deaf(self) -> None:
        """Have the store tell of nothing any more."""
        hearing, self._hearing = self._hearing, None
        if hearing is not None:
            with contextlib.suppress(SourceError), self._failures():
                hearing.close()

    def end(self) -> None:
        """End waits, from any thread."""
        self._closed.set()

    def close(self) -> None:
        """Give back connections, when nobody waits any more."""
        self._closed.set()
        self.deaf()
        self._leave()

    def _eval(self, script: str, *arguments: object) -> Any:
        given = (script, len(self._keys), *self._keys, *arguments)
        with self._failures():
            try:
                return self._opened().eval(*given)
            except _library().exceptions.MovedError as moved:
                self._leave((moved.host or self._at.host, moved.port))
                return self._opened().eval(*given)

    def _leave(self, for_whom: tuple[str, int] | None = None) -> None:
        """Give back connections; the next are to somebody else, or to where we are to begin."""
        with self._opening:
            client, self._client, self._moved = self._client, None, for_whom
        _give_back(client)

    def _opened(self) -> Any:
        with self._opening:
            if self._client is None:
                if self._closed.is_set():
                    raise SourceUnreachable(f"store {self._at}: closed")
                self._client = self._made()
            return self._client

    def _made(self) -> Any:
        redis, at = _library(), self._at
        host, port = self._moved or (at.host, at.port)
        trust = {"ssl_ca_certs": at.ca, "ssl_check_hostname": True} if at.is_tls else {}
        return redis.Redis(
            host=host,
            port=port,
            db=at.database,
            username=at.user,
            socket_connect_timeout=CONNECT_S,
            socket_timeout=ANSWER_S,
            socket_keepalive=True,
            retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0),
            protocol=2,
            redis_connect_func=self._connect,
            ssl=at.is_tls,
            **trust,
        )

    def _connect(self, connection: Any) -> None:
        """Begin with a new connection; the password in a file may have been renewed."""
        try:
            password = self._at.password
            connection.password = revealed(password, "source") if password else None
        except BadSetting:
            connection.disconnect()
            raise
        connection.on_connect()
        self._connected += 1

    def _is_another(self) -> bool:
        """Whether this is another server than before, or the same one after a restart."""
        connected = self._connected
        if connected == self._met[0]:
            return False
        run_id = self._run_id()
        (before, known), self._met = self._met, (connected, run_id)
        if known and run_id and known != run_id:
            self.met(f"store {self._at}: it was restarted or failed over (run id {run_id[:8]})")
        return before > 0 and (known != run_id or not run_id)

    def _run_id(self) -> str:
        with self._failures():
            try:
                return str(self._opened().info("server").get("run_id", ""))
            except _library().exceptions.ResponseError:
                return ""  # not permitted

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        """Have the library's errors say what is wrong, and where."""
        try:
            yield
        except BadSetting as exc:
            raise SourceError(exc.message) from exc
        except (_library().exceptions.RedisError, OSError, ValueError) as exc:
            if self._moved:
                self._leave()
            _give_back(self._client)
            raise self._meaning(exc) from exc

    def _meaning(self, exc: Exception) -> SourceError:
        errors, store, said = _library().exceptions, f"store {self._at}", str(exc)
        if isinstance(exc, errors.AuthenticationError | errors.AuthorizationError):
            fix = "check user and password of the source"
            return CredentialsMissing(f"{store}: it refuses us ({said}): {fix}")
        if isinstance(exc, errors.NoPermissionError) or any(map(said.__contains__, _DENIED)):
            fix = "allow it to the user of the source"
            return SourceError(f"{store}: a permission is missing ({said}): {fix}")
        if isinstance(exc, errors.ReadOnlyError) or "-READONLY" in said:
            return SourceUnreachable(f"{store}: it is a replica by now")
        if isinstance(exc, errors.ResponseError):
            return SourceUnreachable(f"{store}: it refuses: {said}")
        return SourceUnreachable(f"{store}: no answer: {said or type(exc).__name__}")


def _give_back(client: Any) -> None:
    """Close connections; one that another thread uses closes when nobody has it any more."""
    if client is not None:
        client.connection_pool.disconnect(inuse_connections=False)


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1_000))


def _refuse_unreadable(ca: str | None) -> None:
    if ca is None:
        return
    try:
        ssl.create_default_context(cafile=ca)
    except OSError as exc:
        want = f"in ca= a PEM file that can be read ({exc})"
        raise BadSetting("source", ca, want) from exc


def _library() -> Any:
    try:
        import redis
    except ImportError as exc:
        fix = "the library for it: pip install 'ecs-discovery[redis]'"
        raise BadSetting("source", "redis", fix) from exc
    return redis

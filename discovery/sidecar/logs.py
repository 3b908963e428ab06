"""What the sidecar says on standard error: few lines, each one sentence, or one object of JSON.

Rule 1: a failure is said when it begins or changes and once in ten minutes while it lasts; its end
is said too. Rule 2: no more than a fixed number of lines a minute, whatever happens.
"""

import json
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Literal

from discovery.events import Event, Noticed, Refreshed, RefreshFailed

_log = logging.getLogger("discovery.sidecar")

AGAIN_S = 600.0
OLD_S = 1.0  # from which an age is said
MOST_LINES = 60  # a minute
MOST_TRACEBACK = 20  # lines


def configure(level: int = logging.INFO, form: Literal["text", "json"] = "text") -> None:
    """Send this package's log to standard error; nothing of other libraries but warnings."""
    handler = logging.StreamHandler(sys.stderr)
    plain = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(Json() if form == "json" else plain)
    handler.addFilter(Bounded())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("discovery").setLevel(level)


def say(message: str, *arguments: object) -> None:
    """One line about the sidecar itself."""
    _log.info(message, *arguments)


class Json(logging.Formatter):
    """One line of JSON a record: time (UTC), level, message, and the facts of the event.

    Facts are what was logged with `extra={"facts": {…}}`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        body = {"time": at, "level": record.levelname, "message": record.getMessage()}
        body |= getattr(record, "facts", {})
        if record.exc_text:
            body["traceback"] = record.exc_text
        return json.dumps(body, ensure_ascii=False)


class Bounded(logging.Filter):
    """Passes the first lines of each minute and says how many were left out.

    Of a traceback it passes the last lines, which say what happened and where.
    """

    def __init__(self, most: int = MOST_LINES, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._most = most
        self._clock = clock
        self._minute = -1
        self._lines = 0
        self._left_out = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record may be written; its traceback is cut to what may."""
        minute = int(self._clock() // 60)
        if minute != self._minute:
            self._minute, self._lines = minute, 0
            if self._left_out:
                left_out, self._left_out = self._left_out, 0
                record.msg = f"{record.getMessage()} ({left_out} lines were left out before)"
                record.args = ()
        said = record.getMessage().count("\n") + 1
        trace = _traceback(record)
        shown = trace[max(0, len(trace) - MOST_TRACEBACK) :]
        if self._lines + said + len(shown) > self._most:
            shown = []
        if self._lines + said > self._most:
            self._left_out += said + len(trace)
            return False
        self._lines += said + len(shown)
        self._left_out += len(trace) - len(shown)
        record.exc_info, record.exc_text = None, "\n".join(shown) or None
        return True


def _traceback(record: logging.LogRecord) -> list[str]:
    info = record.exc_info
    return logging.Formatter().formatException(info).splitlines() if info else []


class Narrator:
    """A listener that tells of refreshes that begin to fail, go on failing, or succeed again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failing: dict[str, tuple[str, float]] = {}  # cluster → what was said, and when
        self._just_failed: set[str] = set()
        self._read: set[str] = set()

    def __call__(self, event: Event) -> None:
        """Log what a person should know of the event."""
        if isinstance(event, RefreshFailed):
            self._failed(event)
        elif isinstance(event, Refreshed):
            self._succeeded(event)
        elif isinstance(event, Noticed):
            _log.warning("%s", event.message, extra={"facts": {"event": "noticed"}})

    def _failed(self, event: RefreshFailed) -> None:
        self._just_failed.add(event.cluster)
        message, at = self._failing.get(event.cluster, ("", 0.0))
        now = self._clock()
        if event.error.message == message and now - at < AGAIN_S:
            return
        self._failing[event.cluster] = (event.error.message, now)
        facts = {"event": "refresh_failed", "cluster": event.cluster, "code": event.error.code}
        said = (event.cluster, event.error.message)
        _log.warning("cluster %s cannot be read: %s", *said, extra={"facts": facts})

    def _succeeded(self, event: Refreshed) -> None:
        if event.cluster in self._just_failed:  # a load that read a part of the cluster tells both
            self._just_failed.discard(event.cluster)
            return
        failed = self._failing.pop(event.cluster, None) is not None
        again = event.cluster in self._read
        if again and not failed:
            return
        self._read.add(event.cluster)
        _log.info(
            "cluster %s %s%s: %d services, %d endpoints, %d excluded, in %.2f s",
            event.cluster,
            "can be read again" if again else "is read",
            f", as of {event.age_s:.0f} s ago" if event.age_s >= OLD_S else "",
            event.services,
            event.endpoints,
            event.excluded,
            event.seconds,
            extra={"facts": {"event": "refreshed", **asdict(event)}},
        )

"""The queue that EventBridge feeds: hears of changes, on a thread of its own, by long polls.

Rule 1: a message is deleted after what it tells was taken in; one that cannot be read, at once.
Rule 2: who takes in is told that there is news, fetches it, and says when it is done. What is not
fetched is kept with the newest of each thing only, and nothing more is received beyond a limit.
Rule 3: whatever fails here is said, and tried again later; reads go on, at the usual pace.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from discovery.ecs.calls import QUEUES, Call
from discovery.ecs.clients import Access, Clients, answer_of
from discovery.ecs.eventbridge import Told, told_in
from discovery.ecs.fields import Document, rows, text
from discovery.ecs.news import News
from discovery.ecs.queues import Queue
from discovery.errors import SourceError
from discovery.events import CallMade, Listeners, MessagesReceived, Noticed

_log = logging.getLogger("discovery")

WAIT_S = 20  # the longest poll that SQS has
BATCH = 10  # the most messages of one answer, and of one deletion
ROUND = 500  # messages that are taken in together while more are there
PATIENCE_S = 20.0  # how long messages wait to be taken in; less than they stay invisible
NEWS_LIMIT = 20_000  # beyond it nothing is received until something was fetched
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 30.0
SAY_AGAIN_S, FAILED_AGAIN_S = 60.0, 3_600.0
ALIVE_S = 60.0  # how long after an answer of the queue the next one may be missing


class Changes:
    """What events tell, by cluster. `label_of` says which one an event is of, `None` for another's.

    `at_news` is called by its thread. Other methods may be called by any.
    """

    def __init__(
        self,
        queue: Queue,
        access: Access,
        clients: Clients,
        label_of: Callable[[Told], str | None],
        at_news: Callable[[], None],
        *,
        listeners: Listeners,
        monotonic: Callable[[], float],
    ) -> None:
        self._queue, self._access, self._clients = queue, access, clients
        self._url = queue.url
        self._label_of, self._at_news = label_of, at_news
        self._listeners, self._monotonic = listeners, monotonic
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._changed = threading.Condition()
        self._news: dict[str, News] = {}
        self._in_work: set[str] = set()
        self._heard_at: float | None = None
        self._unreadable = 0
        self._said_at: dict[str, float] = {}

    @property
    def is_started(self) -> bool:
        """Whether it ever listened."""
        return self._thread is not None

    @property
    def is_alive(self) -> bool:
        """Whether the queue was heard of lately, be it that nothing has happened."""
        at = self._heard_at
        return at is not None and self._monotonic() - at < ALIVE_S

    @property
    def waiting(self) -> bool:
        """Whether there is news that nobody has fetched."""
        return bool(self._news)

    def start(self) -> None:
        """Start to listen, unless it does."""
        if self._thread is None and not self._closed.is_set():
            self._thread = threading.Thread(
                target=self._run, name="ecs-discovery-events", daemon=True
            )
            self._thread.start()

    def fetch(self, label: str) -> News | None:
        """The news of a cluster; whoever gets some says `done` when it is taken in."""
        with self._changed:
            news = self._news.pop(label, None)
            if news is not None:
                self._in_work.add(label)
            return news

    def done(self, label: str) -> None:
        """What was fetched of that cluster is taken in."""
        with self._changed:
            self._in_work.discard(label)
            self._changed.notify_all()

    def close(self) -> None:
        """Listen no more. A poll under way ends by itself, and what it brings comes again."""
        self._closed.set()
        with self._changed:
            self._changed.notify_all()

    def _run(self) -> None:
        failures = 0
        while not self._closed.is_set():
            try:
                self._round()
                failures = 0
            except SourceError:  # it was said
                failures += 1
            except Exception:  # a mistake of ours must not end the listening
                _log.exception("a round of the events' queue failed")
                failures += 1
            if failures:
                self._closed.wait(min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(failures - 1, 9)))

    def _round(self) -> None:
        """Receive what is there, have it taken in, delete it."""
        batch = self._received(WAIT_S)
        messages = list(batch)
        with suppress(SourceError):  # it was said, and what has come is taken in
            while len(batch) == BATCH and len(messages) < ROUND:
                batch = self._received(0)
                messages += batch
        if self._closed.is_set() or not messages:
            return
        heard, others = self._heard(messages)
        self._delete(others)
        if heard and self._is_taken_in():
            self._delete(heard)

    def _heard(self, messages: Sequence[Document]) -> tuple[list[Document], list[Document]]:
        """Those that tell something of our clusters, which is news from now on; and the others."""
        heard, others, told = [], [], []
        unreadable = 0
        for message in messages:
            try:
                event = told_in(text(message, "Body") or "")
            except Exception as why:  # a mistake of ours, too: one message must not stop the others
                others.append(message)
                unreadable += 1
                self._note_unreadable(str(why))
                continue
            label = self._label_of(event) if event else None
            if event is None or label is None:
                others.append(message)
                continue
            heard.append(message)
            told.append((label, event))
        foreign = len(others) - unreadable
        self._listeners.emit(MessagesReceived(len(told), foreign, unreadable))
        with self._changed:
            for label, event in told:
                self._news.setdefault(label, News()).add(event)
        if told:
            self._at_news()
        return heard, others

    def _is_taken_in(self) -> bool:
        """Wait until nothing is left to take in, or for too long; of too much, for ever."""

        def taken_in() -> bool:
            return self._closed.is_set() or not (self._news or self._in_work)

        with self._changed:
            self._changed.wait_for(taken_in, PATIENCE_S)
            while sum(map(len, self._news.values())) > NEWS_LIMIT and not self._closed.is_set():
                self._changed.wait(PATIENCE_S)
            return not (self._news or self._in_work)

    def _received(self, wait_s: int) -> tuple[Document, ...]:
        answer = self._call(
            "ReceiveMessage",
            "hear of changes",
            "events are not heard, so clusters are polled",
            MaxNumberOfMessages=BATCH,
            WaitTimeSeconds=wait_s,
        )
        self._heard_at = self._monotonic()
        return rows(answer, "Messages")

    def _delete(self, messages: Sequence[Document]) -> None:
        handles = [h for message in messages if (h := text(message, "ReceiptHandle"))]
        for start in range(0, len(handles), BATCH):
            entries = [
                {"Id": str(number), "ReceiptHandle": handle}
                for number, handle in enumerate(handles[start : start + BATCH])
            ]
            self._call(
                "DeleteMessageBatch",
                "delete what was taken in",
                "events stay in their queue, and are heard late and again",
                Entries=entries,
            )

    def _call(self, operation: str, reason: str, without: str, **parameters: Any) -> Document:
        """Raises `SourceError`, having said what happens `without` the answer.

        Calls of the queue have no quota to share with anybody's.
        """
        try:
            if self._url is None:
                self._url = self._found()
            full = {"QueueUrl": self._url, **parameters}
            return self._answer(Call(operation, full, reason, QUEUES, "sqs"))
        except SourceError as error:
            said = f"{without}: queue {self._queue.name}: {error}; ecs-discovery doctor has the fix"
            self._say(f"{operation} {error.code}", said, FAILED_AGAIN_S)
            raise

    def _found(self) -> str:
        reason = "find the queue of events"
        answer = self._answer(Call("GetQueueUrl", self._queue.parameters, reason, QUEUES, "sqs"))
        url = text(answer, "QueueUrl")
        if url is None:
            raise SourceError(f"SQS gives no URL for queue {self._queue.name!r}")
        return url

    def _answer(self, call: Call) -> Document:
        started = self._monotonic()
        answer = answer_of(self._clients.client("sqs", self._access), call)
        failed = answer if isinstance(answer, SourceError) else None
        said = (str(failed), failed.code) if failed else (None, "ok")
        seconds = self._monotonic() - started
        self._listeners.emit(CallMade(call.operation, call.reason, seconds, *said))
        if isinstance(answer, SourceError):
            raise answer
        return answer

    def _note_unreadable(self, why: str) -> None:
        self._unreadable += 1
        count = f"{self._unreadable} messages could not be read and were deleted"
        self._say("unreadable", f"events: {count} so far, the last one because {why}", SAY_AGAIN_S)

    def _say(self, what: str, message: str, again_s: float) -> None:
        at = self._said_at.get(what)
        if at is None or self._monotonic() - at >= again_s:
            self._said_at[what] = self._monotonic()
            self._listeners.emit(Noticed(message))

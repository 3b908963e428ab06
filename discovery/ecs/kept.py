"""Task definitions on disk, so that a restart reads none that was ever read.

Rule 1: a definition never changes under its ARN, so what is on disk is right for ever and may be of
any cluster, region and account. It is of one ECS only: another endpoint may be another world.
Rule 2: nothing is kept but what a `Definition` has: documents of ECS hold the environment, with
what is secret in it.
Rule 3: what another version has written is not believed, as it may have read other facts.
Rule 4: a disk that fails is said, and nothing else fails.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import islice
from math import inf

import msgspec

from discovery.ecs.conversation import Outcome
from discovery.ecs.definitions import Definition
from discovery.ecs.memory import DEFINITION_LIMIT
from discovery.errors import SourceMalformed
from discovery.events import Listeners, SaidOnce
from discovery.sources.sealed import Sealed, reason

# To be raised when the same answer of ECS comes to another `Definition`; other fields, and other
# types of them, are told apart by themselves.
MEANING = 1
PAUSE_S = 60.0  # between writes while more definitions come in, or the disk fails

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(tuple[Definition, ...])


def encoded(definitions: Iterable[Definition]) -> bytes:
    """The definitions as text that `decoded` reads."""
    return _ENCODER.encode(tuple(definitions))


def decoded(content: bytes) -> dict[str, Definition]:
    """Definitions by ARN. Raises `SourceMalformed`."""
    try:
        found = _DECODER.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise SourceMalformed(f"it has no task definitions: {exc}") from exc
    ports = (p for each in found for c in each.containers.values() for p in c.ports)
    if wrong := next((p for p in ports if not 0 < p.container_port < 65_536), None):
        raise SourceMalformed(f"{wrong.container_port} is no port")
    return {each.arn: each for each in found}


def version() -> str:
    """What a definition is made of, as a short text that differs when that does."""
    schema = msgspec.json.encode(msgspec.json.schema(Definition))
    return f"{MEANING}-{sha256(schema).hexdigest()[:8]}"


def beside(
    cache: str | None,
    environment: Mapping[str, str],
    listeners: Listeners,
    monotonic: Callable[[], float],
) -> "KeptDefinitions | None":
    """The file beside the snapshot, where there is a cache."""
    if cache is None:
        return None
    said = map(environment.get, ("AWS_ENDPOINT_URL_ECS", "AWS_ENDPOINT_URL"))
    endpoint = next(filter(None, said), "AWS")
    return KeptDefinitions(
        f"{cache}.definitions", endpoint, listeners=listeners, monotonic=monotonic
    )


class KeptDefinitions:
    """The file at `path` with the definitions that ECS at `endpoint` has. For one thread at a time.

    `monotonic` gives seconds that only go on.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        endpoint: str,
        *,
        listeners: Listeners | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file = Sealed(path, f"task definitions {version()} of {endpoint}")
        self._said = SaidOnce(listeners or Listeners())
        self._monotonic = monotonic
        self._kept: Mapping[str, Definition] = {}
        self._tried_at = -inf
        self._is_failing = False

    def read(self) -> Mapping[str, Definition]:
        """What is there, by ARN; nothing, and a notice why, where none of it can be used."""
        try:
            self._kept = decoded(self._file.read())
        except FileNotFoundError:
            pass
        except (OSError, SourceMalformed) as error:
            self._said.say(f"cache {self._file.path} is not used: {reason(error)}")
        return self._kept

    def keep(self, lasts: Sequence[Outcome | None]) -> None:
        """Write what is in use, by the last outcome of each cluster, where any of that is new.

        What is not in use any more goes then, once all clusters are read: a name that is read on
        demand says nothing of the others. While more come in, or the disk fails, they are written
        once in a while only. Blocks as long as the disk.
        """
        whole = [last for last in lasts if last is not None and last.names is None]
        used = {arn: known for last in whole for arn, known in last.definitions.items()}
        if used.keys() <= self._kept.keys():
            return
        now = self._monotonic()
        is_early = now - self._tried_at < PAUSE_S
        if is_early and (self._is_failing or any(last.pending for last in whole)):
            return
        self._tried_at = now
        is_all = len(whole) == len(lasts) and all(last.reading.complete for last in whole)
        others = {} if is_all else {k: d for k, d in self._kept.items() if k not in used}
        room = max(0, DEFINITION_LIMIT - len(used))
        kept = {**used, **dict(islice(others.items(), room))}
        try:
            self._file.write([encoded(kept.values())])
        except OSError as error:
            self._is_failing = True
            self._said.say(f"cache {self._file.path} cannot be written: {reason(error)}")
            return
        self._kept, self._is_failing = kept, False
        self._said.over()

"""Active probes: which services have one, and from when on its results count. Pure."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from discovery.model import Service
from discovery.probe import Probe


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How many results in a row change what is believed: `rise` passes, `fall` failures."""

    rise: int = 2
    fall: int = 3


@dataclass(frozen=True, slots=True)
class Standing:
    """How an endpoint's probe stands: `failing` or not, results in a row, and why it failed last.

    Before its first result nothing is held against an endpoint.
    """

    is_failing: bool = False
    last: Literal["passed", "failed"] | None = None
    times: int = 0
    why: str = ""

    def after(self, failure: str | None, thresholds: Thresholds) -> "Standing":
        """The same with one more result; `failure` is why, `None` where it passed."""
        last: Literal["passed", "failed"] = "passed" if failure is None else "failed"
        times = self.times + 1 if last == self.last else 1
        if last == "passed":
            return Standing(self.is_failing and times < thresholds.rise, last, times, self.why)
        is_failing = self.is_failing or times >= thresholds.fall
        # What it failed with first stays, so that words that change are no new content.
        why = self.why if self.is_failing else failure or ""
        return Standing(is_failing, last, times, why)


def probe_of(service: Service, probes: tuple[Probe, ...]) -> Probe | None:
    """The first probe whose pattern matches `SERVICE` or `SERVICE.CLUSTER`."""
    names = (service.name, service.full_name)
    return next((p for p in probes if any(fnmatchcase(n, p.pattern) for n in names)), None)


def grpc_request(service: str) -> bytes:
    """The body of a `grpc.health.v1.Health/Check` call: one uncompressed message.

    https://github.com/grpc/grpc/blob/master/doc/health-checking.md
    """
    name = service.encode()[:127]
    message = b"\x0a" + bytes([len(name)]) + name if name else b""
    return b"\x00" + len(message).to_bytes(4, "big") + message


def grpc_failure(http_status: int, grpc_status: str | None, body: bytes) -> str | None:
    """Why an answer does not say SERVING; `None` where it does.

    The message is `{1: status}` and is empty for status 0, and so is that of an error; where an
    error has none, its status is among the headers (what follows a message is not seen here).
    """
    if http_status != 200:
        return f"grpc: status {http_status} of HTTP"
    if grpc_status not in (None, "0"):
        return f"grpc: status {grpc_status}"
    if len(body) < 5 or body[0] != 0 or len(body) != 5 + int.from_bytes(body[1:5], "big"):
        return "grpc: no answer of a health service"
    message = body[5:]
    status = message[1] if len(message) >= 2 and message[0] == 0x08 else 0
    names = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
    said = names[status] if status < len(names) else str(status)
    return None if said == "SERVING" else f"grpc: {said}"

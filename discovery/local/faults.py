"""Faults that tests and users switch on, in Python or over `/_local/faults`.

A fault applies to the calls whose operation matches its pattern (`*`, `List*`, `ecs:ListTasks`),
as often as `times` says (None: until it is switched off), with `paged` only to continuation pages.
Each method returns the fault, which is also a context manager.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from discovery.local.errors import ApiError, invalid
from discovery.local.wire import Call

KINDS = {
    "throttle": "ThrottlingException, Rate exceeded",
    "latency": "every answer comes `value` seconds later",
    "error": "HTTP status `value` (500 or 503)",
    "deny": "AccessDeniedException; the pattern may name a service, as in ecs:ListTasks",
    "expire": "ExpiredTokenException",
    "bad_token": "continuation pages answer InvalidParameterException",
    "torn": "the answer is cut off in the middle",
    "stale": "answers are up to `value` seconds old",
    "omit": "the members named in `value` are missing",
    "missing": "the ARNs in `value` (all when empty) are failures with reason MISSING",
    "late_bindings": "tasks are RUNNING without bindings for `value` seconds",
    "slow_boot": "containers started from now on run for `value` seconds before they listen",
    "disorder": "events arrive out of order and more than once",
}
_SECONDS = ("latency", "stale", "late_bindings", "slow_boot")
_NAMES = ("omit", "missing")
_FOUND = {
    "DescribeTasks": ("tasks", "taskArn"),
    "DescribeServices": ("services", "serviceArn"),
    "DescribeContainerInstances": ("containerInstances", "containerInstanceArn"),
    "DescribeClusters": ("clusters", "clusterArn"),
}


@dataclass(slots=True, eq=False)
class Fault:
    """One fault that is on; leaving it as a context manager switches it off."""

    kind: str
    operation: str = "*"
    value: Any = None
    times: int | None = None
    paged: bool = False
    principal: str | None = None
    off: Callable[[Fault], None] = field(default=lambda fault: None, repr=False)

    def __enter__(self) -> Fault:
        return self

    def __exit__(self, *_: object) -> None:
        self.off(self)

    def applies(self, call: Call, principal: str) -> bool:
        """Whether it concerns this call."""
        if self.paged and not (call.request.get("nextToken") or call.request.get("NextToken")):
            return False
        if self.principal is not None and self.principal not in principal:
            return False
        named = call.action if ":" in self.operation else call.operation
        return fnmatchcase(named, self.operation)

    def document(self) -> dict[str, Any]:
        """The fault as the control path shows it."""
        return {
            "kind": self.kind,
            "operation": self.operation,
            "value": self.value,
            "times": self.times,
            "paged": self.paged,
            "principal": self.principal,
        }


class Faults:
    """The faults of one server. Any thread may switch them; changes hold from the next call."""

    def __init__(self) -> None:
        self._on: list[Fault] = []

    def __iter__(self) -> Iterator[Fault]:
        return iter(tuple(self._on))

    def __repr__(self) -> str:
        return f"<Faults {', '.join(each.kind for each in self._on) or 'none'}>"

    def on(
        self,
        kind: str,
        operation: str = "*",
        value: Any = None,
        times: int | None = None,
        *,
        paged: bool = False,
        principal: str | None = None,
    ) -> Fault:
        """Switch on a fault of one of `KINDS`; ValueError says what is wrong with it."""
        if kind not in KINDS:
            raise ValueError(f"no fault {kind!r}; there are {', '.join(KINDS)}")
        if not isinstance(operation, str) or not isinstance(principal, str | None):
            raise ValueError("operation and principal are text")
        if not isinstance(paged, bool):
            raise ValueError("paged is true or false")
        if times is not None and (not _is_whole(times) or times < 1):
            raise ValueError(f"times is a whole number from 1, not {times!r}")
        _check_value(kind, value)
        fault = Fault(kind, operation, value, times, paged, principal, self.off)
        self._on.append(fault)
        return fault

    def off(self, fault: Fault) -> None:
        """Switch a fault off; nothing happens when it is off already."""
        if fault in self._on:
            self._on.remove(fault)

    def clear(self) -> None:
        """Switch everything off."""
        self._on.clear()

    def throttle(self, operation: str = "*", times: int | None = None) -> Fault:
        """ThrottlingException."""
        return self.on("throttle", operation, times=times)

    def latency(self, seconds: float, operation: str = "*") -> Fault:
        """Answers come later."""
        return self.on("latency", operation, seconds)

    def error(
        self, status: int = 500, operation: str = "*", times: int | None = None, paged: bool = False
    ) -> Fault:
        """HTTP 5xx; with `paged` the first page works and the next ones fail."""
        return self.on("error", operation, status, times, paged=paged)

    def deny(self, action: str = "*", principal: str | None = None) -> Fault:
        """No permission for an action such as `ecs:ListTasks`; for one role with `principal`."""
        return self.on("deny", action, principal=principal)

    def expire(self) -> Fault:
        """Expired credentials."""
        return self.on("expire")

    def bad_token(self, operation: str = "*", times: int | None = None) -> Fault:
        """Tokens fail midway."""
        return self.on("bad_token", operation, times=times, paged=True)

    def torn(self, operation: str = "*", times: int | None = None) -> Fault:
        """Answers are cut off in the middle."""
        return self.on("torn", operation, times=times)

    def stale(self, seconds: float, operation: str = "*") -> Fault:
        """Answers are repeated for so many seconds, whatever happened meanwhile."""
        return self.on("stale", operation, seconds)

    def omit(self, *members: str, operation: str = "*") -> Fault:
        """Members of that name are missing, at any depth."""
        return self.on("omit", operation, list(members))

    def missing(self, *arns: str, operation: str = "Describe*") -> Fault:
        """These ARNs (all when none is named) are failures with reason MISSING."""
        return self.on("missing", operation, list(arns))

    def late_bindings(self, seconds: float) -> Fault:
        """Tasks started from now on are RUNNING without bindings for so long."""
        return self.on("late_bindings", value=seconds)

    def slow_boot(self, seconds: float) -> Fault:
        """Containers started from now on are RUNNING for so long before they listen.

        The docker label `local.boot-seconds` of a container definition says it for one container.
        """
        return self.on("slow_boot", value=seconds)

    def disorder(self) -> Fault:
        """Events arrive out of order and more than once."""
        return self.on("disorder")

    def value(self, kind: str, default: float = 0.0) -> float:
        """The value of the first fault of a kind, `default` when it is off."""
        return next((float(f.value or 0) for f in self._on if f.kind == kind), default)

    def is_on(self, kind: str) -> bool:
        """Whether a fault of that kind is on."""
        return any(fault.kind == kind for fault in self._on)

    def met(self, kind: str, call: Call, principal: str) -> Fault | None:
        """The fault of that kind that concerns the call; it counts as met once more."""
        for fault in tuple(self._on):
            if fault.kind == kind and fault.applies(call, principal):
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times <= 0:
                        self.off(fault)
                return fault
        return None

    def check(self, call: Call, principal: str) -> None:
        """Raise the `ApiError` of the first fault that refuses the call."""
        if not self._on:
            return
        if self.met("expire", call, principal):
            raise _expired(call.service)
        if self.met("deny", call, principal):
            raise denied(call, principal)
        if self.met("throttle", call, principal):
            raise _throttled(call.service)
        failure = self.met("error", call, principal)
        if failure is not None:
            raise _server_error(call.service, int(failure.value or 500))
        if self.met("bad_token", call, principal):
            raise invalid("Invalid token")

    def alter(self, call: Call, principal: str, document: dict[str, Any]) -> dict[str, Any]:
        """The answer without what faults take away."""
        omitted = self.met("omit", call, principal)
        if omitted is not None:
            document = _without(document, frozenset(omitted.value or ()))
        lost = self.met("missing", call, principal)
        if lost is not None and call.operation in _FOUND:
            document = _lost(document, *_FOUND[call.operation], lost.value or [])
        return document

    def alters(self) -> bool:
        """Whether any fault changes answers."""
        return any(fault.kind in ("omit", "missing") for fault in self._on)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_value(kind: str, value: Any) -> None:
    """Each kind has its own sort of value: seconds, a status, names, or none."""
    if kind in _SECONDS:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value < math.inf:
            raise ValueError(f"the value of {kind} is a number of seconds, not {value!r}")
    elif kind == "error":
        if value is not None and not (_is_whole(value) and 500 <= value <= 599):
            raise ValueError(f"the value of error is a status from 500 to 599, not {value!r}")
    elif kind in _NAMES:
        if value is not None and not (
            isinstance(value, list) and all(isinstance(each, str) for each in value)
        ):
            raise ValueError(f"the value of {kind} is a list of texts, not {value!r}")
    elif value is not None:
        raise ValueError(f"{kind} has no value")


def _without(value: Any, names: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {k: _without(v, names) for k, v in value.items() if k not in names}
    if isinstance(value, list):
        return [_without(each, names) for each in value]
    return value


def _lost(document: dict[str, Any], member: str, key: str, arns: list[str]) -> dict[str, Any]:
    gone = [each[key] for each in document[member] if not arns or each[key] in arns]
    failures = [{"arn": arn, "reason": "MISSING"} for arn in gone]
    kept = [each for each in document[member] if each[key] not in gone]
    return document | {member: kept, "failures": [*document["failures"], *failures]}


def decoded(body: bytes) -> dict[str, Any]:
    """An encoded answer as a document that faults can alter."""
    return msgspec.json.decode(body, type=dict[str, Any])


def denied(call: Call, principal: str) -> ApiError:
    """The refusal of an action, worded as IAM words it."""
    why = f"because no identity-based policy allows the {call.action} action"
    who = f"User: {principal} is not authorized to perform: {call.action}"
    if call.service == "ec2":
        text = f"You are not authorized to perform this operation. {who} {why}"
        return ApiError("UnauthorizedOperation", text, 403)
    if call.service in ("elbv2", "sts"):
        return ApiError("AccessDenied", f"{who} on resource: * {why}", 403)
    return ApiError("AccessDeniedException", f"{who} on resource: * {why}")


def _expired(service: str) -> ApiError:
    text = "The security token included in the request is expired"
    if service == "ec2":
        return ApiError("RequestExpired", "Request has expired.", 400)
    if service in ("elbv2", "sts"):
        return ApiError("ExpiredToken", text, 403)
    return ApiError("ExpiredTokenException", text)


def _throttled(service: str) -> ApiError:
    if service == "ec2":
        return ApiError("RequestLimitExceeded", "Request limit exceeded.", 503)
    if service in ("elbv2", "sts"):
        return ApiError("Throttling", "Rate exceeded")
    return ApiError("ThrottlingException", "Rate exceeded")


def _server_error(service: str, status: int) -> ApiError:
    if service == "ec2":
        return ApiError("InternalError", "An internal error has occurred", status)
    if service in ("elbv2", "sts"):
        return ApiError("InternalFailure", "An internal error has occurred", status)
    if status == 503:
        return ApiError("ServiceUnavailableException", "Service Unavailable", status)
    return ApiError("ServerException", "Service Unavailable. Please try again later.", status)

"""Every error of the package, and what each means on every wire.

    DiscoveryError
    ├── BadInput                the caller's mistake; nothing was asked of anyone
    │   ├── BadName             no service can have this name
    │   ├── BadSetting          a setting's value cannot be used
    │   ├── AmbiguousPort       several ports and no rule that prefers one
    │   ├── AddressUnusable     we cannot listen there
    │   ├── Unauthorized        an HTTP request without the token that is asked for
    │   ├── ForeignHost         an HTTP request that was meant for another host
    │   └── MethodNotAllowed    an HTTP request that wants to change something
    ├── UnknownName             nothing by that name
    │   ├── UnknownService
    │   ├── UnknownPort
    │   └── UnknownPath
    ├── NoEndpoints             known, but nothing runs
    ├── AttemptsFailed          a request got no answer from any endpoint it was sent to
    ├── DeadlinePassed          a request had no time left to be sent
    ├── NotReady                not loaded yet, or too old to be served
    │   └── Expired
    └── SourceError             what we read from fails; known data is still served
        ├── SourceUnreachable
        ├── SourceThrottled
        ├── SourceMalformed
        ├── AccessDenied
        ├── CredentialsMissing
        ├── CredentialsExpired
        ├── RegionMissing
        └── ClusterNotFound

Each class carries `status` (HTTP), `rcode` (DNS) and `exit_code` (command line); `code` is the
stable word for machines. "Not loaded yet", "no such service", "nothing usable" and "source
failing" are four different answers and never stand in for each other.
"""

from collections.abc import Sequence
from typing import ClassVar

NOERROR, FORMERR, SERVFAIL, NXDOMAIN = 0, 1, 2, 3


class DiscoveryError(Exception):
    """The base of all errors raised by this package."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    rcode: ClassVar[int] = SERVFAIL
    exit_code: ClassVar[int] = 3

    @property
    def message(self) -> str:
        """One sentence for a person: what was wrong, the value, and the fix where one is known."""
        return str(self)


class BadInput(DiscoveryError):
    """The caller's mistake; nothing was asked of anyone."""

    code = "bad_input"
    status = 400
    exit_code = 2


class BadName(BadInput):
    """No service can have this name."""

    code = "bad_name"
    rcode = NXDOMAIN

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name!r} is not a service name: {why}")
        self.name = name


class BadSetting(BadInput):
    """A setting's value cannot be used; the message names key, value and what would be right."""

    code = "bad_setting"

    def __init__(self, key: str, value: object, want: str) -> None:
        super().__init__(f"{key}: {value!r} cannot be used, want {want}")
        self.key = key
        self.value = value
        self.want = want


class AmbiguousPort(BadInput):
    """The service has several ports and no rule that prefers one; `ports` names them."""

    code = "ambiguous_port"
    rcode = NOERROR

    def __init__(self, name: str, ports: Sequence[str]) -> None:
        super().__init__(
            f"{name} has several ports and no default: ask for one of "
            + ", ".join(f"_{port}.{name}" for port in ports)
        )
        self.name = name
        self.ports = tuple(ports)


class AddressUnusable(BadInput):
    """We cannot listen at an address: taken, not ours, or not allowed."""

    code = "address_unusable"


class Unauthorized(BadInput):
    """An HTTP request without the bearer token that is asked for."""

    code = "unauthorized"
    status = 401


class ForeignHost(BadInput):
    """An HTTP request whose Host header names none of ours, as DNS rebinding makes them."""

    code = "foreign_host"
    status = 403


class MethodNotAllowed(BadInput):
    """An HTTP request that wants to change something; everything here is read-only."""

    code = "method_not_allowed"
    status = 405


class UnknownName(DiscoveryError):
    """Nothing by that name; `suggestions` are close matches that exist."""

    code = "unknown_name"
    status = 404
    rcode = NXDOMAIN
    exit_code = 2
    kind: ClassVar[str] = "name"
    suggested: ClassVar[str] = "close matches"

    def __init__(self, name: str, suggestions: Sequence[str] = (), where: str = "") -> None:
        hint = f"; {self.suggested}: {', '.join(suggestions)}" if suggestions else ""
        super().__init__(f"no {self.kind} {name!r}{where and f' in {where}'}{hint}")
        self.name = name
        self.suggestions = tuple(suggestions)


class UnknownService(UnknownName):
    """No ECS service and no task family has this name."""

    code = "unknown_service"
    kind = "service"


class UnknownPort(UnknownName):
    """The service exists and has no such port; `suggestions` are the ports it has."""

    code = "unknown_port"
    kind = "port"
    suggested = "its ports"


class UnknownPath(UnknownName):
    """The HTTP server has nothing there; `suggestions` are paths that it has."""

    code = "unknown_path"
    kind = "path"


class NoEndpoints(DiscoveryError):
    """The service is known and nothing of it can be called now."""

    code = "no_endpoints"
    status = 503
    rcode = NOERROR
    exit_code = 1

    def __init__(self, name: str, reasons: Sequence[str] = ()) -> None:
        why = f": {'; '.join(reasons)}" if reasons else ""
        super().__init__(f"{name} has no endpoint{why}")
        self.name = name


class AttemptsFailed(DiscoveryError):
    """A request got no answer from any endpoint that it was sent to; `attempts` says from which."""

    code = "attempts_failed"
    status = 502
    exit_code = 1

    def __init__(self, name: str, attempts: Sequence[str]) -> None:
        super().__init__(f"{name} was tried at {', then '.join(attempts)}")
        self.name = name
        self.attempts = tuple(attempts)


class DeadlinePassed(DiscoveryError):
    """A request's deadline had passed before it could be sent."""

    code = "deadline_passed"
    status = 504
    exit_code = 1

    def __init__(self) -> None:
        super().__init__("the deadline passed before anything was sent: give the request longer")


class NotReady(DiscoveryError):
    """Nothing is known yet: a first load is under way or failed."""

    code = "not_ready"
    status = 503


class Expired(NotReady):
    """The last good data is older than the stale limit and is not served any more."""

    code = "expired"


class SourceError(DiscoveryError):
    """What we read from fails; what is already known goes on being served."""

    code = "source_failing"
    status = 503


class SourceUnreachable(SourceError):
    """No connection, or no answer in time."""

    code = "source_unreachable"


class SourceThrottled(SourceError):
    """The API asked us to slow down, or our own budget did."""

    code = "source_throttled"


class SourceMalformed(SourceError):
    """What the source gave is not in its format; the message has line and reason."""

    code = "source_malformed"


class AccessDenied(SourceError):
    """A permission is missing; `action` is the IAM action, such as `ecs:ListTasks`."""

    code = "access_denied"

    def __init__(self, action: str, detail: str = "") -> None:
        super().__init__(
            f"permission {action} is missing{detail and f' ({detail})'}: "
            "allow it in the policy of the role in use"
        )
        self.action = action


class CredentialsMissing(SourceError):
    """The SDK found no credentials at all."""

    code = "credentials_missing"


class CredentialsExpired(SourceError):
    """The credentials were valid once and are not any more."""

    code = "credentials_expired"


class RegionMissing(SourceError):
    """No region is configured anywhere, or none that can be."""

    code = "region_missing"


class ClusterNotFound(SourceError):
    """ECS knows no cluster of this name in this account and region."""

    code = "cluster_not_found"

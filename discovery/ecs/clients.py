"""The only place that knows boto3: clients, credentials, regions, and what its errors mean.

boto3 is imported on first use; it costs more time and memory than everything else together.
Sessions are not thread-safe, clients are: one is built for each (service, region, role), by one
thread, and used by many. botocore makes one attempt: further ones are ours to count.
"""

import re
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from discovery.ecs import metadata
from discovery.ecs.calls import Call, NoSuchService
from discovery.ecs.fields import number, part
from discovery.errors import (
    AccessDenied,
    ClusterNotFound,
    CredentialsExpired,
    CredentialsMissing,
    RegionMissing,
    SourceError,
    SourceMalformed,
    SourceThrottled,
    SourceUnreachable,
)

if TYPE_CHECKING:
    from botocore.client import BaseClient
    from botocore.config import Config
    from botocore.session import Session

CONNECT_TIMEOUT_S = 2
READ_TIMEOUT_S = 5
POLL_TIMEOUT_S = 25  # of SQS, whose answers may take 20 s to wait for a message
ATTEMPTS = 1  # botocore's; each of ours has to have its share of the budget
CONNECTIONS = 10

_ACTION = re.compile(r"not authorized to perform: ?([\w-]+:\w+)")
_EXPIRED = {"ExpiredTokenException", "ExpiredToken", "RequestExpired", "TokenRefreshRequired"}
_REJECTED = {
    *("UnrecognizedClientException", "InvalidClientTokenId", "InvalidClientToken", "AuthFailure"),
    *("InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignature"),
    *("MissingAuthenticationToken", "MissingAuthenticationTokenException"),
}
_DENIED = {"AccessDeniedException", "AccessDenied", "UnauthorizedOperation"}
_THROTTLED = {
    *("ThrottlingException", "Throttling", "ThrottledException", "RequestThrottled"),
    *("TooManyRequestsException", "RequestLimitExceeded", "RequestThrottledException"),
}
_PREFIXES = {
    "AssumeRole": "sts",
    "GetCallerIdentity": "sts",
    "DescribeTargetHealth": "elasticloadbalancing",
}


class NoConnection(SourceUnreachable):
    """Nobody answered at all: the one failure that is worth another attempt at once."""


@dataclass(frozen=True, slots=True)
class Access:
    """With what a cluster is read: region, and a role to assume."""

    region: str | None = None
    role_arn: str | None = None
    external_id: str | None = None

    @property
    def account(self) -> str | None:
        """The account of the role; of our own credentials nobody knows it without a call."""
        return self.role_arn.partition("::")[2].partition(":")[0] if self.role_arn else None


class Clients:
    """Builds and keeps clients, for any thread.

    One thread at a time builds for one access: credentials that are slow to come by hold up who
    needs them, and nobody else.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._locks: defaultdict[Access, threading.RLock] = defaultdict(threading.RLock)
        self._sessions: dict[Access, Session] = {}
        self._clients: dict[tuple[str, Access], BaseClient] = {}
        self._own_region: str | None = None

    def client(self, service: str, access: Access) -> "BaseClient":
        """The client of an AWS service. Raises `SourceError` where none can be built."""
        known = self._clients.get((service, access))
        if known is not None:
            return known
        with self._locks[access]:
            if (service, access) not in self._clients:
                self._clients[service, access] = self._build(service, access)
            return self._clients[service, access]

    def identity(self, access: Access) -> tuple[str, str]:
        """Whose quota calls count against, as far as it can be told: (credentials, endpoint).

        The endpoint stands for the region. Raises `SourceError` where there is no region or no way
        to credentials.
        """
        endpoint = str(self.client("ecs", access).meta.endpoint_url)
        if access.role_arn is not None:
            return access.role_arn, endpoint
        try:
            credentials = self._session(access).get_credentials()
        except Exception as exc:
            raise error_of(exc, "sts", "GetCredentials") from exc
        if credentials is None:
            raise _no_credentials()
        return credentials.access_key or "", endpoint

    def _region(self, access: Access) -> str:
        """The configured region, else the environment's or the profile's, else our task's own.

        botocore does not read `AWS_REGION`, the one variable that ECS sets.
        """
        named = access.region or self._environment.get("AWS_REGION")
        found = (
            named or self._session(Access()).get_config_variable("region") or self._region_of_task()
        )
        if not found:
            raise RegionMissing(
                "no AWS region is configured: set AWS_REGION, or write the cluster as REGION/NAME"
            )
        return str(found)

    def _region_of_task(self) -> str | None:
        if self._own_region is None:
            own = metadata.identity(self._environment)
            self._own_region = own.region or "" if own else ""
        return self._own_region or None

    def close(self) -> None:
        """Close all connections."""
        clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            client.close()

    def _build(self, service: str, access: Access) -> "BaseClient":
        try:
            region = self._region(access)
            session = self._session(access)
            return session.create_client(service, region_name=region, config=_config(service))
        except Exception as exc:
            raise error_of(exc, service, "CreateClient") from exc

    def _session(self, access: Access) -> "Session":
        from botocore.session import Session

        from discovery.ecs.models import Models
        from discovery.ecs.parsing import ParserFactory

        with self._locks[access]:
            if access not in self._sessions:
                session = Session()
                session.register_component("response_parser_factory", ParserFactory())
                models = Models(session.get_component("data_loader"))
                session.register_component("data_loader", models)
                if access.role_arn is not None:
                    region = self._region(access)
                    _assume(session, Session(), access.role_arn, access.external_id, region)
                self._sessions[access] = session
            return self._sessions[access]


def _assume(
    session: "Session", base: "Session", role_arn: str, external_id: str | None, region: str
) -> None:
    """Give the session credentials of the role, which botocore renews before they expire."""
    from botocore.credentials import (
        AssumeRoleCredentialFetcher,
        CredentialProvider,
        CredentialResolver,
        DeferredRefreshableCredentials,
    )

    base.set_config_variable("region", region)
    base.set_default_client_config(_config())
    source = base.get_credentials()
    if source is None:
        raise _no_credentials()
    extra = {"RoleSessionName": "ecs-discovery"}
    if external_id is not None:
        extra["ExternalId"] = external_id
    fetcher = AssumeRoleCredentialFetcher(
        client_creator=base.create_client,
        source_credentials=source,
        role_arn=role_arn,
        extra_args=extra,
    )

    class AssumedRole(CredentialProvider):
        METHOD = "assume-role"
        CANONICAL_NAME = "ecs-discovery-role"

        def load(self) -> Any:
            return DeferredRefreshableCredentials(
                refresh_using=fetcher.fetch_credentials, method=self.METHOD
            )

    session.register_component("credential_provider", CredentialResolver([AssumedRole()]))


def _config(service: str = "") -> "Config":
    from botocore.config import Config

    return Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=POLL_TIMEOUT_S if service == "sqs" else READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=CONNECTIONS,
        parameter_validation=False,  # costs 4 % of a call; tests hold ours against the model
        user_agent_extra="ecs-discovery",
    )


def answer_of(client: "BaseClient", call: Call) -> Mapping[str, Any] | SourceError:
    """Make a call; a failure is an error value, whatever came instead of an answer."""
    method = getattr(client, _method_name(call.operation))
    try:
        answer = method(**call.parameters)
    except Exception as exc:
        return error_of(exc, call.service, call.operation, call.parameters, client)
    if not isinstance(answer, Mapping):
        return SourceMalformed(f"{call.service} {call.operation} gave an answer that is no object")
    return answer


def error_of(
    exc: Exception,
    service: str,
    operation: str,
    parameters: Mapping[str, Any] | None = None,
    client: "BaseClient | None" = None,
) -> SourceError:
    """What an exception of a call, or of the making of a client, means, in one sentence.

    Where an answer is not what its model promises (a proxy's, say), botocore's reader raises
    whatever Python does on wrong types.
    """
    from botocore import exceptions as known

    if isinstance(exc, SourceError):
        return exc
    if isinstance(exc, known.ClientError):
        return _client_error(exc, service, operation, parameters or {}, client)
    if isinstance(exc, known.NoRegionError):
        return RegionMissing("no AWS region is configured: set AWS_REGION")
    if isinstance(exc, known.InvalidRegionError):
        want = "set AWS_REGION to one such as eu-west-1, or write the cluster as REGION/NAME"
        return RegionMissing(f"no AWS region: {_one_line(exc).rstrip('.')}: {want}")
    if isinstance(exc, known.NoCredentialsError | known.PartialCredentialsError):
        return _no_credentials()
    expired = (known.TokenRetrievalError, known.UnauthorizedSSOTokenError, known.SSOTokenLoadError)
    if isinstance(exc, expired):
        return CredentialsExpired(f"the SSO session is not valid, log in again: {exc}")
    if isinstance(
        exc, known.CredentialRetrievalError | known.ConfigNotFound | known.ProfileNotFound
    ):
        return CredentialsMissing(f"no credentials could be obtained: {exc}")
    if isinstance(exc, known.HTTPClientError | known.ConnectionError):
        return _unreachable(exc, service, operation, client)
    if isinstance(exc, known.BotoCoreError | ValueError):
        return SourceMalformed(f"{service} {operation} is not possible: {_one_line(exc)}")
    why = f"{type(exc).__name__}: {_one_line(exc)}"
    return SourceMalformed(f"{service} {operation} gave an answer that cannot be read ({why})")


def _client_error(
    exc: Any, service: str, operation: str, parameters: Mapping[str, Any], client: Any
) -> SourceError:
    said = part(exc.response, "Error")
    code, message = str(said.get("Code", "")), str(said.get("Message", ""))
    status = number(part(exc.response, "ResponseMetadata"), "HTTPStatusCode") or 0
    operation = exc.operation_name or operation
    if code in _EXPIRED:
        return CredentialsExpired(f"the AWS credentials have expired ({message or code})")
    if code in _REJECTED:
        return CredentialsMissing(f"AWS does not accept the credentials ({code}: {message})")
    if code in _DENIED:
        found = _ACTION.search(message)
        return AccessDenied(
            found[1] if found else f"{_PREFIXES.get(operation, service)}:{operation}"
        )
    if code in _THROTTLED:
        return SourceThrottled(f"AWS throttles {service} {operation} ({message or code})")
    if code == "ClusterNotFoundException":
        return ClusterNotFound(_no_cluster(parameters, client))
    if code == "ServiceNotFoundException":
        return NoSuchService(f"no service {parameters.get('serviceName')!r} ({message})")
    if status >= 500 or code in ("ServerException", "InternalFailure", "InternalError"):
        return SourceUnreachable(f"{service} {operation} failed on the side of AWS ({code})")
    return SourceError(f"{service} {operation} was refused: {message or code} ({code})")


def _no_cluster(parameters: Mapping[str, Any], client: Any) -> str:
    region = client.meta.region_name if client is not None else "this region"
    return (
        f"no cluster {parameters.get('cluster')!r} in {region}: "
        "look at its name, the region and the account"
    )


def _unreachable(exc: Exception, service: str, operation: str, client: Any) -> SourceError:
    url = client.meta.endpoint_url if client is not None else service
    return NoConnection(f"{service} {operation}: no answer from {url} ({_one_line(exc)})")


def _no_credentials() -> CredentialsMissing:
    return CredentialsMissing(
        "no AWS credentials found: give the task a role, or set AWS_PROFILE or AWS_ACCESS_KEY_ID"
    )


def _one_line(exc: Exception) -> str:
    return " ".join(str(exc).split())


def _method_name(operation: str) -> str:
    from botocore import xform_name

    return str(xform_name(operation))

"""What exceptions of botocore mean, one by one, and how clients are built."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
from botocore import exceptions as known
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders

from discovery.ecs.calls import Call, NoSuchService
from discovery.ecs.clients import Access, Clients, NoConnection, answer_of, error_of
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

DENIED = (
    "User: arn:aws:iam::1:user/x is not authorized to perform: ecs:ListTasks on resource: * "
    "because no identity-based policy allows the ecs:ListTasks action"
)


def client_error(code: str, message: str = "why", status: int = 400) -> known.ClientError:
    """An error answer of a service."""
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return known.ClientError(response, "ListTasks")


MEANINGS: list[tuple[Exception, type[SourceError], str]] = [
    (client_error("AccessDeniedException", DENIED), AccessDenied, "ecs:ListTasks"),
    (client_error("AccessDeniedException", "no"), AccessDenied, "ecs:ListTasks"),
    (client_error("UnauthorizedOperation", "You are not"), AccessDenied, "ecs:ListTasks"),
    (client_error("ExpiredTokenException"), CredentialsExpired, "expired"),
    (client_error("ExpiredToken", status=403), CredentialsExpired, "expired"),
    (client_error("RequestExpired"), CredentialsExpired, "expired"),
    (client_error("UnrecognizedClientException"), CredentialsMissing, "does not accept"),
    (client_error("InvalidClientTokenId", status=403), CredentialsMissing, "does not accept"),
    (client_error("AuthFailure", status=401), CredentialsMissing, "does not accept"),
    (client_error("ThrottlingException"), SourceThrottled, "throttles"),
    (client_error("RequestLimitExceeded", status=503), SourceThrottled, "throttles"),
    (client_error("ClusterNotFoundException"), ClusterNotFound, "'prod'"),
    (client_error("ServiceNotFoundException"), NoSuchService, "'orders'"),
    (client_error("ServerException", status=500), SourceUnreachable, "side of AWS"),
    (client_error("Whatever", status=503), SourceUnreachable, "side of AWS"),
    (client_error("InvalidParameterException", "bad token"), SourceError, "bad token"),
    (known.NoCredentialsError(), CredentialsMissing, "AWS_PROFILE"),
    (known.ProfileNotFound(profile="x"), CredentialsMissing, "x"),
    (
        known.CredentialRetrievalError(provider="p", error_msg="broken"),
        CredentialsMissing,
        "broken",
    ),
    (known.UnauthorizedSSOTokenError(), CredentialsExpired, "log in again"),
    (known.NoRegionError(), RegionMissing, "AWS_REGION"),
    (known.InvalidRegionError(region_name="eu_west_1"), RegionMissing, "'eu_west_1'"),
    (known.EndpointConnectionError(endpoint_url="http://x"), NoConnection, "http://x"),
    (known.ConnectTimeoutError(endpoint_url="http://x"), NoConnection, "http://x"),
    (known.ReadTimeoutError(endpoint_url="http://x"), NoConnection, "http://x"),
    (known.ConnectionClosedError(endpoint_url="http://x"), NoConnection, "http://x"),
    (known.ParamValidationError(report="bad"), SourceMalformed, "bad"),
    (ValueError("Invalid endpoint: x"), SourceMalformed, "Invalid endpoint: x"),
]


@pytest.mark.parametrize(
    ("exc", "want", "says"),
    MEANINGS,
    ids=[f"{type(m[0]).__name__}-{n}" for n, m in enumerate(MEANINGS)],
)
def test_each_exception_has_one_meaning(exc: Exception, want: type[SourceError], says: str) -> None:
    """And one sentence that names what to look at."""
    error = error_of(exc, "ecs", "ListTasks", {"cluster": "prod", "serviceName": "orders"})
    assert type(error) is want
    assert says in error.message
    assert "\n" not in error.message


# what a proxy may answer in place of AWS: status, body, what the sentence must say
STRANGE: list[tuple[int, bytes, str]] = [
    (200, b"[]", "cannot be read"),
    (200, b'"x"', "cannot be read"),
    (200, b'{"tasks": 5}', "cannot be read"),
    (400, b"[]", "cannot be read"),
    (400, b'{"message": 5}', "refused"),
    (400, b'{"__type": 5}', "ecs DescribeTasks"),
    (503, b"<html>", "side of AWS"),
]


@pytest.mark.parametrize(("status", "body", "says"), STRANGE)
def test_whatever_comes_instead_of_an_answer_is_an_error_that_names_the_call(
    bare: pytest.MonkeyPatch, status: int, body: bytes, says: str
) -> None:
    """botocore raises whatever Python does on wrong types; nobody above has to know."""
    bare.setenv("AWS_ACCESS_KEY_ID", "x")
    bare.setenv("AWS_SECRET_ACCESS_KEY", "x")
    clients = Clients({"AWS_REGION": "eu-west-1"})
    client = clients.client("ecs", Access())
    response: Any = AWSResponse("http://proxy", status, HTTPHeaders(), Raw(body))
    client.meta.events.register("before-send", lambda **_: response)
    call = Call("DescribeTasks", {"cluster": "prod", "tasks": ["a"]}, "test", "cluster resources")
    error = answer_of(client, call)
    clients.close()
    assert isinstance(error, SourceError)
    assert says in error.message
    assert "DescribeTasks" in error.message
    assert "\n" not in error.message


class Raw(io.BytesIO):
    """A body as botocore reads it from a connection."""

    def stream(self) -> Iterator[bytes]:
        """All of it at once."""
        yield self.read()


def test_a_permission_for_assuming_a_role_is_that_of_sts() -> None:
    """The call that failed is not the one that was made."""
    response: Any = {"Error": {"Code": "AccessDenied", "Message": "no"}, "ResponseMetadata": {}}
    exc = known.ClientError(response, "AssumeRole")
    error = error_of(exc, "ecs", "ListTasks")
    assert isinstance(error, AccessDenied)
    assert error.action == "sts:AssumeRole"


def test_one_client_for_each_service_region_and_role(bare: pytest.MonkeyPatch) -> None:
    """Built once, with timeouts that keep a load bounded."""
    bare.setenv("AWS_ACCESS_KEY_ID", "x")
    bare.setenv("AWS_SECRET_ACCESS_KEY", "x")
    clients = Clients({"AWS_REGION": "eu-west-1"})
    default, other = Access(), Access(region="eu-central-1")
    assert clients.client("ecs", default) is clients.client("ecs", default)
    assert clients.client("ecs", default).meta.region_name == "eu-west-1"
    assert clients.client("ecs", other).meta.region_name == "eu-central-1"
    config: Any = clients.client("ec2", default).meta.config
    assert (config.connect_timeout, config.read_timeout) == (2, 5)
    assert config.retries == {"mode": "standard", "total_max_attempts": 1}
    clients.close()


def test_the_budget_is_that_of_the_credentials_at_their_endpoint(bare: pytest.MonkeyPatch) -> None:
    """A role has a quota of its own account; another region another one."""
    bare.setenv("AWS_ACCESS_KEY_ID", "AKIA1")
    bare.setenv("AWS_SECRET_ACCESS_KEY", "x")
    clients = Clients({"AWS_REGION": "eu-west-1"})
    role = "arn:aws:iam::210987654321:role/reader"
    assert clients.identity(Access()) == ("AKIA1", "https://ecs.eu-west-1.amazonaws.com")
    assert clients.identity(Access("us-east-1", role)) == (
        role,
        "https://ecs.us-east-1.amazonaws.com",
    )
    clients.close()

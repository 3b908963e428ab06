"""What the APIs answer instead of a result.

Every refusal is an `ApiError` with the type and message of the real service; the protocol in
`wire.py` decides how it is written.
"""

from __future__ import annotations


class ApiError(Exception):
    """A refusal as the client sees it: `code` is the error type, `status` the HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


def invalid(message: str) -> ApiError:
    """InvalidParameterException: a parameter has a bad value."""
    return ApiError("InvalidParameterException", message)


def client_error(message: str) -> ApiError:
    """ClientException: the request cannot be carried out as it stands."""
    return ApiError("ClientException", message)


def cluster_not_found() -> ApiError:
    """ClusterNotFoundException, with the message of the real service."""
    return ApiError("ClusterNotFoundException", "Cluster not found.")


def service_not_found() -> ApiError:
    """ServiceNotFoundException, with the message of the real service."""
    return ApiError("ServiceNotFoundException", "Service not found.")


def service_not_active() -> ApiError:
    """ServiceNotActiveException, with the message of the real service."""
    return ApiError("ServiceNotActiveException", "Service was not ACTIVE.")

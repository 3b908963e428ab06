"""How commands start a local ECS and talk to it: with plain API calls, as the AWS CLI would."""

import contextlib
import json
import os
import shlex
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

from discovery.errors import BadSetting, DiscoveryError
from discovery.local.errors import ApiError
from discovery.local.server import LocalECS
from discovery.sidecar.listening import unusable
from discovery.written import address

LISTEN = "127.0.0.1:8054"
_TARGET = "AmazonEC2ContainerServiceV20141113"
_TIMEOUT_S = 10.0
# What in the caller's environment could send the SDK elsewhere than to the local ECS.
_ELSEWHERE = (
    *("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_ROLE_ARN"),
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
)
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_NO_PROXY = ("NO_PROXY", "no_proxy")
_NO_FILES = ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")


@contextlib.contextmanager
def started(listen: str) -> Iterator[LocalECS]:
    """A local ECS that listens there. Raises `BadSetting` and `AddressUnusable`."""
    try:
        where = address(listen)
        ecs = LocalECS(listen=str(where))
        ecs.start()
    except ValueError:
        want = f"an address of 127.0.0.0/8 and a port, such as {LISTEN}"
        raise BadSetting("--listen", listen, want) from None
    except OSError as error:
        raise unusable(where, "--listen", error) from error
    try:
        yield ecs
    finally:
        ecs.close()


def add_cluster(ecs: LocalECS, name: str, instances: int) -> None:
    """Make a cluster of so many container instances. Raises `BadSetting` for the name."""
    try:
        ecs.add_cluster(name)
    except ApiError:
        want = "at most 255 letters, digits, hyphens and underscores"
        raise BadSetting("--cluster", name, want) from None
    ecs.add_instances(name, instances)


def exports(ecs: LocalECS, cluster: str | None) -> list[str]:
    """Shell lines that make the AWS SDKs and ecs-discovery talk to it.

    What in our environment would send them elsewhere is unset there, and proxies are passed by.
    """
    variables = dict(ecs.environment())
    if cluster:
        variables["ECS_DISCOVERY_CLUSTER"] = cluster
    if any(name.lower() in _PROXIES for name in os.environ):
        variables |= _without_proxy(ecs)
    elsewhere = list(_set_elsewhere())
    return [
        *([f"unset {' '.join(elsewhere)}"] if elsewhere else []),
        *(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
    ]


def enter(ecs: LocalECS) -> None:
    """Make the AWS SDK in this process talk to the local ECS and to nothing else."""
    for name in list(_set_elsewhere()):
        os.environ.pop(name, None)
    os.environ.update(ecs.environment(), **dict.fromkeys(_NO_FILES, os.devnull))
    os.environ.update(_without_proxy(ecs))


def _set_elsewhere() -> Iterator[str]:
    """What is set here that could send the SDK elsewhere."""
    yield from (name for name in _ELSEWHERE if name in os.environ)
    ours = "AWS_ENDPOINT_URL"  # is set anew; the others are for one AWS service each, and win
    yield from (name for name in os.environ if name.startswith(f"{ours}_"))


def _without_proxy(ecs: LocalECS) -> dict[str, str]:
    """Variables that pass proxies by on the way to the local ECS, as to whatever they did."""
    known = dict.fromkeys(filter(None, map(os.environ.get, _NO_PROXY)))
    host = urllib.parse.urlsplit(ecs.url).hostname or ""
    return dict.fromkeys(_NO_PROXY, ",".join([*known, host]))


def call(ecs: LocalECS, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to one ECS API call. Raises `DiscoveryError` with what the API said."""
    request = urllib.request.Request(
        ecs.url,
        json.dumps(parameters).encode(),
        {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": f"{_TARGET}.{operation}",
        },
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as answer:
            body: dict[str, Any] = json.load(answer)
            return body
    except OSError as error:
        raise DiscoveryError(f"the local ECS refused {operation}: {error}") from error

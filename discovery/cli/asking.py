"""Asking a running sidecar over HTTP; imports nothing heavy, as `health` runs every few seconds."""

import contextlib
import functools
import http.client
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

LOOPBACK = "127.0.0.1:8053"
BRIDGE = "172.17.0.1:8053"  # where `serve` listens in bridge and host tasks
VARIABLE = "ECS_DISCOVERY_HTTP"
PLAIN, ENCRYPTED = "http://", "https://"
_CERTIFICATE = "ECS_DISCOVERY_TLS_CERT"
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_MOST = 16 * 1024 * 1024  # bytes of a body


@dataclass(frozen=True, slots=True)
class Heard:
    """What a sidecar answered."""

    address: str
    status: int
    body: bytes


class NoAnswer(Exception):
    """No sidecar answered there; the message is why, as half a sentence."""


def addresses(flag: str | None, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Where a sidecar may listen: as the flag or the environment says, else where it does."""
    scheme = ENCRYPTED if environment.get(_CERTIFICATE) else ""
    named = flag or environment.get(VARIABLE)
    if named and named.startswith(PLAIN):
        return (named.removeprefix(PLAIN),)
    if named:
        return (named if named.startswith(ENCRYPTED) else f"{scheme}{named}",)
    on_ecs = "ECS_CONTAINER_METADATA_URI_V4" in environment
    return tuple(f"{scheme}{a}" for a in ((LOOPBACK, BRIDGE) if on_ecs else (LOOPBACK,)))


def ask(address: str, path: str, timeout_s: float, token: str | None = None) -> Heard:
    """GET that path of the sidecar at `ADDR:PORT`, with a bearer token. Raises `NoAnswer`.

    With `https://` before it over TLS; a token only to whom the certificate proves to be right.
    """
    host, _, port = address.removeprefix(ENCRYPTED).rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or len(port) > 5 or not 0 < int(port) < 65_536:
        raise NoAnswer(_no_address(address))
    try:
        where = _WILDCARDS.get(host, host), int(port)
        is_encrypted = address.startswith(ENCRYPTED)
        kind = _encrypted(token is not None) if is_encrypted else http.client.HTTPConnection
        with contextlib.closing(kind(*where, timeout=timeout_s)) as connection:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return Heard(address, answer.status, answer.read(_MOST))
    except (UnicodeError, http.client.InvalidURL):  # what neither is nor could be a host's name
        raise NoAnswer(_no_address(address)) from None
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise NoAnswer(f"no sidecar answers at {address} ({why})") from None


def _encrypted(is_secret: bool) -> Callable[..., http.client.HTTPConnection]:
    import ssl

    own = os.environ.get(_CERTIFICATE)
    trusting = ssl.create_default_context(cafile=own)
    if own:  # is proof enough, by whatever name the sidecar beside us is asked
        trusting.check_hostname = False
        trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    elif not is_secret:
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    return functools.partial(http.client.HTTPSConnection, context=trusting)


def ask_any(flag: str | None, path: str, timeout_s: float, token: str | None = None) -> Heard:
    """The answer of the first sidecar that gives one. Raises `NoAnswer` with all that was tried."""
    failures = []
    for address in addresses(flag):
        try:
            return ask(address, path, timeout_s, token)
        except NoAnswer as failure:
            failures.append(str(failure))
    raise NoAnswer("; ".join(failures))


def _no_address(address: str) -> str:
    return f"{address!r} is no ADDR:PORT, such as {LOOPBACK}"

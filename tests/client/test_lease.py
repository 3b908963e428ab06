"""Endpoints on loan, and what the resolver shows of their use."""

import asyncio
import errno
import importlib.util
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from discovery import Resolver
from discovery.balancing.round_robin import RoundRobin
from discovery.client.lease import outcome_of
from discovery.errors import UnknownService
from discovery.sources.base import FixedSource
from tests.client.servers import Server, source_of
from tests.made import FakeClock, observed, reading, service

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    """Knows the service `web` with two endpoints."""
    source = FixedSource(observed(reading(service("web", 1, 2))))
    with Resolver(source=source, clock=FakeClock(), policy=RoundRobin) as made:
        yield made


def usage(resolver: Resolver, host: str) -> Any:
    known = resolver.service("web")
    found = {e.host: resolver.usage(known).get(e.identity) for e in known.endpoints}
    return found[host]


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "want"),
    [
        (None, "answer"),
        (ConnectionRefusedError(), "refused"),
        (TimeoutError(), "broken"),
        (ConnectionResetError(), "broken"),
        (caused(RuntimeError(), ConnectionRefusedError()), "refused"),
        (caused(RuntimeError(), OSError(errno.EHOSTUNREACH, "no route")), "broken"),
        (socket.gaierror(socket.EAI_NONAME, "no such name"), "broken"),
        (ssl.SSLCertVerificationError(1, "not yours"), "broken"),
        (FileNotFoundError(errno.ENOENT, "no such file", "a.txt"), "abandoned"),
        (requests.HTTPError("404 Not Found"), "abandoned"),
        (requests.exceptions.InvalidURL("http:///"), "abandoned"),
        (ValueError(), "abandoned"),
        (asyncio.CancelledError(), "abandoned"),
    ],
)
def test_an_exception_tells_how_it_went(error: BaseException | None, want: str) -> None:
    """Clients raise their own around an `OSError`; what has none is the caller's affair."""
    assert outcome_of(error) == want


def test_what_was_handled_before_is_none_of_the_endpoints_affair(resolver: Resolver) -> None:
    """Falling back to a service after a connection to something else was refused, say."""
    try:
        raise ConnectionRefusedError
    except ConnectionRefusedError:
        with pytest.raises(ValueError, match="mine"), resolver.lease("web") as endpoint:
            raise ValueError("mine") from None
    (member,) = (m for m in resolver._balancer.pools[0].members if m.endpoint is endpoint)
    assert member.standing.failures == 0


def test_a_lease_counts_while_its_block_runs(resolver: Resolver) -> None:
    """Then its time is the endpoint's latency."""
    with resolver.lease("web") as endpoint:
        assert usage(resolver, endpoint.host)["in_flight"] == 1
    after = usage(resolver, endpoint.host)
    assert after["in_flight"] == 0
    assert after["latency_s"] is not None


def test_a_lease_in_a_coroutine_is_the_same(resolver: Resolver) -> None:
    """With `async with`."""

    async def use() -> tuple[str, int]:
        async with resolver.lease("web") as endpoint:
            return endpoint.host, usage(resolver, endpoint.host)["in_flight"]

    host, during = asyncio.run(use())
    assert (during, usage(resolver, host)["in_flight"]) == (1, 0)


def test_refusals_through_leases_eject(resolver: Resolver) -> None:
    """The endpoint gets no more leases, and its usage says why."""
    for _ in range(8):
        try:
            with resolver.lease("web") as endpoint:
                if endpoint.host == "10.0.0.1":
                    raise ConnectionRefusedError
        except ConnectionRefusedError:
            pass
    ejected = usage(resolver, "10.0.0.1")["ejected"]
    assert ejected["cause"] == "unreachable"
    assert ejected["why"] == "2 refusals in a row"
    assert 0 < ejected["for_s"] <= 10
    assert usage(resolver, "10.0.0.2")["ejected"] is None
    assert {resolver.pick("web").host for _ in range(8)} == {"10.0.0.2"}


def test_a_lease_can_be_told_the_status(resolver: Resolver) -> None:
    """Clients that raise nothing for a 503 report it themselves."""
    for _ in range(10):
        lease = resolver.lease("web")
        with lease as endpoint:
            lease.answered(503 if endpoint.host == "10.0.0.1" else 200)
    assert usage(resolver, "10.0.0.1")["ejected"]["why"] == "5 failures in a row"


def test_nothing_is_asked_before_the_block(resolver: Resolver) -> None:
    """A lease of an unknown name fails where it is entered."""
    lease = resolver.lease("wbe")
    with pytest.raises(UnknownService), lease:
        pass


def test_repr_shows_what_is_in_use(resolver: Resolver) -> None:
    """Per endpoint: in flight, latency, ejection and why."""
    assert "in use" not in repr(resolver)
    with resolver.lease("web") as endpoint:
        assert f"<{endpoint.authority}: 1 in flight, no answer yet>" in repr(resolver)


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_the_adapter_for_requests_balances_and_ejects() -> None:
    """A session's URLs name services."""
    with Server(0) as one, Server(1) as other, requests.Session() as session:
        source = source_of(one, other)
        with Resolver(source=source, clock=FakeClock(), policy=RoundRobin) as resolver:
            session.mount("http://web/", example("requests_adapter").DiscoveryAdapter(resolver))
            bodies = {session.get("http://web/a", timeout=5).text for _ in range(4)}
            assert bodies == {"0", "1"}
            assert {(got.host, got.path) for got in one.got} == {("web", "/a")}
            other.status = 500
            for _ in range(12):
                session.get("http://web/", timeout=5)
            answers = {session.get("http://web/", timeout=5).status_code for _ in range(4)}
            assert answers == {200}


@pytest.mark.parametrize(
    ("hosts", "want"),
    [
        (("10.0.0.1", "10.0.0.2"), "ipv4:10.0.0.1:32768,10.0.0.2:32768"),
        (("fd00::1",), "ipv6:[fd00::1]:32768"),
    ],
)
def test_grpc_targets(hosts: tuple[str, ...], want: str) -> None:
    """All endpoints in one target."""
    from tests.made import endpoint

    endpoints = [endpoint(n, host=host) for n, host in enumerate(hosts)]
    assert example("grpc_targets").target(endpoints) == want

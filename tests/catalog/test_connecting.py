"""Connecting to real sockets on loopback: one that listens, one that does not, one that is full."""

import contextlib
import errno
import resource
import socket
import time
from collections.abc import Iterator

import pytest

from discovery.catalog.connecting import Place, connected


@pytest.fixture
def listening() -> Iterator[Place]:
    """An address at which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()


@pytest.fixture
def refusing() -> Iterator[Place]:
    """An address that is bound, so that nobody else gets it, and does not listen."""
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        yield it.getsockname()


@pytest.fixture
def silent() -> Iterator[Place]:
    """An address whose queue of connections is full, so that the kernel drops what comes."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            assert client.connect_ex(server.getsockname()) == errno.EINPROGRESS
        yield server.getsockname()


def test_who_listens_accepts(listening: Place) -> None:
    """However it goes on from there."""
    assert connected([listening]) == {listening: ("accepted", "")}


def test_who_does_not_listen_refuses(refusing: Place) -> None:
    """Which is proof, unlike silence."""
    assert connected([refusing]) == {refusing: ("refused", "")}


def test_who_says_nothing_is_silent(silent: Place) -> None:
    """After the timeout."""
    assert connected([silent], timeout_s=0.1) == {silent: ("silent", "timed out")}


def test_ipv6_is_tried_alike() -> None:
    """Where the machine has it."""
    try:
        server = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        place = server.getsockname()[:2]
        assert connected([place])[place] == ("accepted", "")


def test_the_silent_hold_up_nobody(silent: Place, listening: Place, refusing: Place) -> None:
    """All are tried side by side, each place once."""
    found = connected([silent, listening, refusing, listening], timeout_s=0.1)
    assert [found[place][0] for place in (silent, listening, refusing)] == [
        "silent",
        "accepted",
        "refused",
    ]


def test_more_places_than_fit_at_once_are_tried_in_turn(listening: Place, refusing: Place) -> None:
    """With as few sockets as one."""
    found = connected([listening, refusing], at_once=1)
    assert set(found) == {listening, refusing}


def test_the_time_for_all_is_bounded(silent: Place, listening: Place) -> None:
    """What was not tried in time has no result, and the rest of the wait is not made."""
    began = time.monotonic()
    found = connected([silent, listening], timeout_s=300, within_s=0.2, at_once=1)
    assert found == {}
    assert time.monotonic() - began < 250


def test_what_is_no_address_is_not_tried() -> None:
    """It is not the endpoint's fault."""
    places = [("nowhere.invalid", 80), ("127.0.0.1", 70_000)]
    assert connected(places) == dict.fromkeys(places, ("untried", "not an address"))


def test_no_descriptor_left_is_no_result(listening: Place) -> None:
    """Our own trouble is held against nobody."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        last = stack.enter_context(socket.socket())
        resource.setrlimit(resource.RLIMIT_NOFILE, (last.fileno() + 1, hard))
        try:
            assert connected([listening]) == {listening: ("untried", "too many open files")}
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert connected([listening]) == {listening: ("accepted", "")}


def test_with_one_descriptor_left_all_are_tried_in_turn(listening: Place, refusing: Place) -> None:
    """What is under way gives its own back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        last = stack.enter_context(socket.socket())
        resource.setrlimit(resource.RLIMIT_NOFILE, (last.fileno() + 2, hard))
        try:
            found = connected([listening, refusing, ("127.0.0.1", listening[1])])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found == {listening: ("accepted", ""), refusing: ("refused", "")}


def test_no_socket_is_left_open(listening: Place, silent: Place) -> None:
    """Those that were not answered in time are closed, too (an open one is an error here)."""
    connected([listening, silent], timeout_s=5, within_s=0.05)

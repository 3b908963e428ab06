"""Whom the sidecar forwards to."""

import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import dns.message
import pytest

from discovery import settings
from discovery.settings import Settings
from discovery.sidecar.resolvers import Resolvers
from discovery.sidecar.supervisor import Sidecar
from discovery.sources.base import FixedSource
from discovery.written import Address, ClusterSettings, Forward
from tests.dns.resolvers import resolving
from tests.dns.test_forward import address_of
from tests.dns.world import packet, question
from tests.sidecar.fleet import WEB, observed

ANY = Address("127.0.0.1", 0)
DGRAM = socket.SOCK_DGRAM

TEXT = "nameserver 127.0.0.1\nnameserver 10.0.0.2\nnameserver fd00:ec2::253\nsearch ec2.internal\n"
OTHERS = [("10.0.0.2", 53), ("fd00:ec2::253", 53)]


@pytest.fixture
def resolv_conf(tmp_path: Path) -> Path:
    """A file as ours is in it."""
    path = tmp_path / "resolv.conf"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize(
    ("written", "want"),
    [
        ([], {}),
        (["10.0.0.2"], {"": [("10.0.0.2", 53)]}),
        (
            ["10.0.0.2:5353", "::1", "[::2]:54"],
            {"": [("10.0.0.2", 5353), ("::1", 53), ("::2", 54)]},
        ),
        (["Corp.Example.=10.0.0.2"], {"corp.example": [("10.0.0.2", 53)]}),
        (["auto"], {"": OTHERS}),
        ("auto,corp.example=10.9.9.9", {"": OTHERS, "corp.example": [("10.9.9.9", 53)]}),
    ],
)
def test_routes_are_what_was_written(
    written: object, want: dict[str, list[tuple[str, int]]], resolv_conf: Path
) -> None:
    """In every form, by zone; `auto` is the system's list without ourselves."""
    merged, _ = settings.merge(("flag", {"forward": written}))
    assert Resolvers(merged.forward, Address("127.0.0.1", 53), resolv_conf)() == want


@pytest.mark.parametrize(
    ("own", "first"), [("127.0.0.1", OTHERS[0]), ("0.0.0.0", OTHERS[0]), ("10.0.0.2", None)]
)
def test_we_are_not_our_own_resolver(
    own: str, first: tuple[str, int] | None, resolv_conf: Path
) -> None:
    """By our address, or by loopback where we listen on every address."""
    merged, _ = settings.merge(("flag", {"forward": ["auto"]}))
    found = Resolvers(merged.forward, Address(own, 53), resolv_conf)()
    assert found[""][0] == (first or ("127.0.0.1", 53))
    elsewhere = Resolvers(merged.forward, Address(own, 1053), resolv_conf)()
    assert elsewhere[""][0] == ("127.0.0.1", 53)


def test_no_other_resolver_means_no_route(tmp_path: Path) -> None:
    """Names of others are refused then, as without forwarding; so they are without the file."""
    alone = tmp_path / "alone"
    alone.write_text("nameserver 127.0.0.1\n")
    merged, _ = settings.merge(("flag", {"forward": ["auto"]}))
    for path in (alone, tmp_path / "missing"):
        assert Resolvers(merged.forward, Address("127.0.0.1", 53), path)() == {}


@pytest.mark.parametrize(
    ("own", "listed", "is_ours"),
    [
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("0.0.0.0", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("::1", "::", True),
        ("127.0.0.2", "0.0.0.0", False),
        ("0.0.0.0", "127.0.0.11", False),
        ("::", "::ffff:127.0.0.11", False),
        ("::", "::1", True),
        ("0.0.0.0", "192.0.2.1", False),
        ("0.0.0.0", "2001:db8::1", False),
        ("::", "127.0.0.1", True),
        ("::", "2001:db8::1", False),
        ("127.0.0.1", "fe80::1%eth0", False),
    ],
)
def test_we_are_known_by_every_address_of_ours(
    own: str, listed: str, is_ours: bool, tmp_path: Path
) -> None:
    """Where we listen on all of them, each address of this machine is ours, and no other one.

    Docker's resolver is at 127.0.0.11, to which a socket can be bound nevertheless.
    """
    path = tmp_path / "resolv.conf"
    path.write_text(f"nameserver {listed}\nnameserver 192.0.2.9\n")
    found = Resolvers((Forward("", None),), Address(own, 53), path)()
    assert found == {"": [*([] if is_ours else [(listed, 53)]), ("192.0.2.9", 53)]}


def test_a_file_that_changes_is_followed(resolv_conf: Path) -> None:
    """A new list counts at once."""
    resolvers = Resolvers((Forward("", None),), Address("127.0.0.1", 53), resolv_conf)
    assert resolvers() == {"": OTHERS}
    resolv_conf.write_text("nameserver 10.7.7.7\n")
    assert resolvers() == {"": [("10.7.7.7", 53)]}


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("# later\n")])
def test_a_list_that_is_lost_is_not_an_empty_one(
    spoil: Callable[[Path], object], resolv_conf: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The former resolvers are asked on; one warning says so."""
    resolvers = Resolvers((Forward("", None),), Address("127.0.0.1", 53), resolv_conf)
    resolvers()
    spoil(resolv_conf)
    assert [resolvers(), resolvers()] == 2 * [{"": OTHERS}]
    assert len(caplog.records) == 1


def test_the_sidecar_forwards_other_names() -> None:
    """From the setting to the answer of a resolver."""
    with resolving(address_of) as upstream:
        forward = (Forward("", Address(*upstream.address)),)
        given = Settings(
            clusters=(ClusterSettings("prod"),), dns=ANY, http=ANY, forward=forward, lame_duck_s=0
        )
        source = FixedSource(observed(WEB, at=time.time()))
        before = sys.getswitchinterval()
        try:
            with Sidecar(given, source=source) as sidecar, socket.socket(type=DGRAM) as sock:
                sock.settimeout(10.0)
                sock.connect((sidecar.dns_address.host, sidecar.dns_address.port))
                sock.send(packet(question("www.example.com")))
                reply = dns.message.from_wire(sock.recv(1_232))
        finally:
            sys.setswitchinterval(before)
        assert [str(r) for r in reply.answer] == ["www.example.com. 60 IN A 192.0.2.1"]

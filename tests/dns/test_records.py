"""Record data and the labels of addresses, held against dnspython and the standard library."""

import ipaddress

import dnslib
import pytest
from dnslib.label import DNSBuffer
from hypothesis import given
from hypothesis import strategies as st

from discovery.dns import records, wire
from tests.dns.world import as_text

TARGET = wire.name_of(b"ip-10-0-0-1", b"node", b"prod", b"ecs", b"internal")


@pytest.mark.parametrize(
    ("kind", "data", "want"),
    [
        (wire.SRV, records.srv(1, 100, 32_768, b"\x01a\0"), "1 100 32768 a."),
        (wire.TXT, records.txt(("a=b", "")), '"a=b" ""'),
        (wire.TXT, records.txt(("x" * 300,)), f'"{"x" * 255}"'),
        (wire.HINFO, records.hinfo("RFC8482"), '"RFC8482" ""'),
        (wire.SOA, records.soa(b"\x01a\0", b"\x01b\0", 2**32 + 5, 2), "a. b. 5 60 10 3600 2"),
        (wire.PTR, TARGET, "ip-10-0-0-1.node.prod.ecs.internal."),
    ],
)  # fmt: skip
def test_data_is_what_another_library_reads(kind: int, data: bytes, want: str) -> None:
    """Each kind of data in the text form of dnspython."""
    assert as_text(kind, data) == want


def test_service_records_are_those_of_dnslib() -> None:
    """A second opinion on the one kind of data that we pack ourselves for speed."""
    buffer = DNSBuffer()
    dnslib.SRV(3, 100, 32_768, dnslib.DNSLabel(list(wire.labels_of(TARGET)))).pack(buffer)
    assert records.srv(3, 100, 32_768, TARGET) == bytes(buffer.data)


@given(st.ip_addresses())
def test_addresses_are_a_or_aaaa(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """The data is the address, the type its family."""
    kind = wire.A if address.version == 4 else wire.AAAA
    assert records.a_or_aaaa(str(address)) == (kind, address.packed)


def test_addresses_may_be_written_in_any_way() -> None:
    """ECS shows IPv6 addresses in mixed case and in full."""
    assert records.a_or_aaaa("2001:DB8:0:0:0:0:0:1") == records.a_or_aaaa("2001:db8::1")


@pytest.mark.parametrize("text", ["", "localhost", "10.0.0", "10.0.0.256", "1:2"])
def test_what_is_no_address_has_no_record(text: str) -> None:
    """A static file may hold anything."""
    assert records.a_or_aaaa(text) is None
    assert records.node_label(text) is None


@given(st.ip_addresses())
def test_labels_of_hosts_mean_their_address(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """The label fits and leads back."""
    label = records.node_label(str(address))
    assert label is not None
    assert len(label) <= wire.MAX_LABEL
    assert records.node_address(label) == str(address)


@pytest.mark.parametrize(
    "label",
    [
        *(b"ip-10-0-0", b"ip-10-0-0-01", b"10-0-0-1", b"ip-10.0.0.1", b"ip-2001-db8-0-0-0-0-0-1"),
        b"\xff",
    ],
)
def test_other_labels_are_no_hosts(label: bytes) -> None:
    """One address has one name."""
    assert records.node_address(label) is None


@given(st.ip_addresses())
def test_reverse_names_mean_their_address(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """The standard library writes them, we read them."""
    labels = address.reverse_pointer.encode().split(b".")
    assert records.reverse_address(labels) == str(address)


@pytest.mark.parametrize(
    "name",
    ["0.10.in-addr.arpa", "01.0.0.10.in-addr.arpa", "1.0.0.0.10.in-addr.arpa", "a.ip6.arpa",
     ".".join(["x"] * 32) + ".ip6.arpa", "in-addr.arpa", "1.0.0.10.example.org"],
)  # fmt: skip
def test_other_names_are_no_addresses(name: str) -> None:
    """Networks, malformed and foreign names."""
    assert records.reverse_address(name.encode().split(b".")) is None

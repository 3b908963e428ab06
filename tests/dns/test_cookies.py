"""Cookies, with the test vectors of RFC 9018 and of SipHash's authors."""

import pytest

from discovery.dns.cookies import Cookies, is_well_formed, siphash

SECRET = bytes.fromhex("e5e973e5a6b2a43f48e7dc849e37bfcf")
CLIENT = bytes.fromhex("2464c4abcf10c957")
FIRST = bytes.fromhex("2464c4abcf10c957010000005cf79f111f8130c3eee29480")
MADE_AT = 1_559_731_985
JAR = Cookies(SECRET)


def test_a_first_cookie_is_that_of_the_standard() -> None:
    """RFC 9018, appendix A.1: learning a new server cookie."""
    assert JAR.reply(CLIENT, "198.51.100.100", MADE_AT) == FIRST


def test_an_ipv6_client_has_the_cookie_of_the_standard() -> None:
    """RFC 9018, appendix A.4: a cookie of an older secret is replaced."""
    secret = bytes.fromhex("445536bcd2513298075a5d379663c962")
    old = bytes.fromhex("22681ab97d52c298010000005cf7c57926556bd0934c72f8")
    new = bytes.fromhex("22681ab97d52c298010000005cf7c609a6bb79d16625507a")
    got = Cookies(secret).reply(old, "2001:db8:220:1:59de:d0f4:8769:82b8", 1_559_741_961)
    assert got == new


@pytest.mark.parametrize(
    ("after_s", "kept"), [(0, True), (1_799, True), (-299, True), (1_801, False), (-301, False)]
)
def test_cookies_are_kept_while_they_are_recent(after_s: int, kept: bool) -> None:
    """RFC 9018 §4.3: renewed after half an hour, and never from far in the future."""
    assert (JAR.reply(FIRST, "198.51.100.100", MADE_AT + after_s) == FIRST) is kept


@pytest.mark.parametrize("client", ["198.51.100.101", "2001:db8::1"])
def test_a_cookie_belongs_to_one_address(client: str) -> None:
    """Whoever shows another's gets one of his own."""
    got = JAR.reply(FIRST, client, MADE_AT)
    assert got[:8] == CLIENT
    assert got != FIRST


@pytest.mark.parametrize(
    ("size", "fine"), [(0, False), (7, False), (8, True), (9, False), (15, False), (16, True),
                       (24, True), (40, True), (41, False)]
)  # fmt: skip
def test_a_cookie_has_one_of_the_lengths_of_the_standard(size: int, fine: bool) -> None:
    """RFC 7873 §5.2.2: 8 octets, or 16 to 40."""
    assert is_well_formed(bytes(size)) is fine


@pytest.mark.parametrize(
    ("length", "want"), [(0, 0x726FDB47DD0E0E31), (1, 0x74F839C593DC67FD), (15, 0xA129CA6149BE45E5)]
)
def test_siphash_is_that_of_its_authors(length: int, want: int) -> None:
    """The vectors of the reference implementation: key 00…0f, message 00…"""
    key = bytes(range(16))
    keys = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    assert siphash(keys, bytes(range(length))) == want

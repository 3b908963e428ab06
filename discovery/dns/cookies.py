"""DNS cookies (RFC 7873) in the form of RFC 9018: proof that a client has its address.

Nothing is refused for lack of one; whoever sends a client cookie gets a server cookie.
"""

import ipaddress
import struct

CLIENT_SIZE = 8
_SERVER_SIZES = range(8, 33)
_VERSION = b"\x01\0\0\0"
_RENEW_AFTER_S, _VALID_FOR_S, _AHEAD_S = 1_800, 3_600, 300  # RFC 9018 §4.3
_MOST_SAID, _REMEMBERED_S = 4_096, 120.0
_MASK = (1 << 64) - 1


def is_well_formed(cookie: bytes) -> bool:
    """Whether the option's length is one that RFC 7873 §5.2.2 allows."""
    return len(cookie) == CLIENT_SIZE or len(cookie) - CLIENT_SIZE in _SERVER_SIZES


class Cookies:
    """Makes server cookies with a secret of 16 octets. Safe from any thread.

    What it said is remembered for some minutes, as a cookie costs more than a whole answer.
    """

    def __init__(self, secret: bytes) -> None:
        self._keys = struct.unpack("<2Q", secret)
        self._said: dict[tuple[bytes, str], bytes] = {}
        self._said_at = 0.0

    def reply(self, cookie: bytes, client: str, now: float) -> bytes:
        """The cookie option of a reply: the one that came while it is good, else a new one."""
        if len(self._said) >= _MOST_SAID or not 0 <= now - self._said_at < _REMEMBERED_S:
            self._said = {}
            self._said_at = now
        said = self._said.get((cookie, client))
        if said is None:
            said = self._said[cookie, client] = self._reply(cookie, client, now)
        return said

    def _reply(self, cookie: bytes, client: str, now: float) -> bytes:
        client_part = cookie[:CLIENT_SIZE]
        if len(cookie) == CLIENT_SIZE + 16 and cookie[8:12] == _VERSION:
            age_s = (int(now) - int.from_bytes(cookie[12:16], "big")) & 0xFFFF_FFFF
            is_recent = age_s < _RENEW_AFTER_S or age_s > 0xFFFF_FFFF - _AHEAD_S
            if is_recent and cookie == self._made(client_part, cookie[12:16], client):
                return cookie
        return self._made(client_part, struct.pack("!I", int(now) & 0xFFFF_FFFF), client)

    def _made(self, client_part: bytes, timestamp: bytes, client: str) -> bytes:
        address = ipaddress.ip_address(client.partition("%")[0]).packed
        head = client_part + _VERSION + timestamp
        return head + struct.pack("<Q", siphash(self._keys, head + address))


def siphash(keys: tuple[int, int], message: bytes) -> int:
    """SipHash-2-4 (https://www.aumasson.jp/siphash/): a keyed hash for short messages."""
    k0, k1 = keys
    state = (
        k0 ^ 0x736F_6D65_7073_6575,
        k1 ^ 0x646F_7261_6E64_6F6D,
        k0 ^ 0x6C79_6765_6E65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    )
    padding = bytes(7 - len(message) % 8) + bytes((len(message) & 0xFF,))
    for (word,) in struct.iter_unpack("<Q", message + padding):
        v0, v1, v2, v3 = state
        v0, v1, v2, v3 = _round(*_round(v0, v1, v2, v3 ^ word))
        state = (v0 ^ word, v1, v2, v3)
    v0, v1, v2, v3 = state
    v2 ^= 0xFF
    for _ in range(4):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return v0 ^ v1 ^ v2 ^ v3


def _round(v0: int, v1: int, v2: int, v3: int) -> tuple[int, int, int, int]:
    """SipRound, written out: a call for each rotation would cost more than the rest."""
    v0 = (v0 + v1) & _MASK
    v1 = (v1 << 13 & _MASK | v1 >> 51) ^ v0
    v0 = v0 << 32 & _MASK | v0 >> 32
    v2 = (v2 + v3) & _MASK
    v3 = (v3 << 16 & _MASK | v3 >> 48) ^ v2
    v0 = (v0 + v3) & _MASK
    v3 = (v3 << 21 & _MASK | v3 >> 43) ^ v0
    v2 = (v2 + v1) & _MASK
    v1 = (v1 << 17 & _MASK | v1 >> 47) ^ v2
    return v0, v1, v2 << 32 & _MASK | v2 >> 32, v3

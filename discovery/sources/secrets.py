"""Secrets read from where settings say they are."""

from contextlib import suppress
from pathlib import Path

from discovery.errors import BadSetting
from discovery.secret import Secret

_MOST = 8 << 10


def revealed(secret: Secret, key: str) -> str:
    """The secret itself; one in a file is read anew each time. Raises `BadSetting`."""
    if secret.path is None:
        return secret.written
    try:
        with Path(secret.path).open("rb") as file:
            text = file.read(_MOST + 1).decode("ascii").strip()
    except OSError as error:
        want = f"a file that can be read ({error.strerror or error})"
        raise BadSetting(key, str(secret), want) from error
    except UnicodeDecodeError as error:
        raise BadSetting(key, str(secret), "a file with a token in ASCII") from error
    if not text or len(text) > _MOST or not text.isprintable():
        raise BadSetting(key, str(secret), "a file with one line that is the token")
    return text


class Renewed:
    """A secret that is asked for again and again, and may be renewed in its file meanwhile.

    One that cannot be read leaves the one before in force. Making it may raise `BadSetting`.
    """

    def __init__(self, secret: Secret, key: str) -> None:
        self._secret = secret
        self._key = key
        self._known = revealed(secret, key)

    def __call__(self) -> str:
        """The secret as it is now. From any thread."""
        with suppress(BadSetting):
            self._known = revealed(self._secret, self._key)
        return self._known

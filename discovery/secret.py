"""Settings that are not to be shown: a bearer token, or the file that it is in. Pure."""

import re
from dataclasses import dataclass, field

_FILE = "file:"
_NEXT = r",\w+://"  # another URL
_SO_FAR = rf"(?:(?!{_NEXT}).)*"
_IN_QUERY = re.compile(rf"([?&]password=)(?!file:)(?:(?!{_NEXT})[^&])*", re.DOTALL | re.IGNORECASE)
_OF_USER = re.compile(rf"(://(?:(?!{_NEXT})[^:@])*:){_SO_FAR}(?=@)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Secret:
    """A text that neither `str` nor `repr` shows; of a file they show where it is."""

    written: str = field(repr=False)

    @property
    def path(self) -> str | None:
        """The file that has it, where it was written as `file:PATH`."""
        return self.written.removeprefix(_FILE) if self.written.startswith(_FILE) else None

    def __str__(self) -> str:
        return "(not shown)" if self.path is None else self.written


def secret(value: object) -> Secret:
    """The text itself, or `file:PATH`."""
    if isinstance(value, Secret):
        return value
    if not isinstance(value, str) or not value.strip() or value.strip() == _FILE:
        raise ValueError("a token, or file:PATH of a file that has it")
    written = value.strip()
    if not written.isascii() or not written.isprintable():
        raise ValueError("printable ASCII, since it goes into a header")
    return Secret(written)


def without_password(url: str) -> str:
    """A URL, or several, as it may be shown: `redis://app:***@cache:6379`.

    Rather too little than a password that should have been written in another way, as `a/b` or
    `a@b`: what is shown is often a mistake.
    """
    return _OF_USER.sub(r"\1***", _IN_QUERY.sub(r"\1***", url))

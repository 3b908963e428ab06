"""Harm that comes to a file on disk."""

from pathlib import Path


def cut(path: Path) -> None:
    """It lacks its last octet."""
    path.write_bytes(path.read_bytes()[:-1])


def turned(path: Path) -> None:
    """One bit of it is another."""
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)

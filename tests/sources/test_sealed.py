"""Files that are replaced whole and believed whole; see `test_disk` for what is refused."""

import os
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.errors import SourceMalformed
from discovery.sources.sealed import Sealed

OURS = "ours"


@settings(deadline=None)  # the disk takes the time it takes
@given(st.lists(st.binary(max_size=2_000), max_size=3))
def test_what_is_read_is_what_was_written(pieces: list[bytes]) -> None:
    """Whatever it is."""
    with tempfile.TemporaryDirectory() as folder:
        file = Sealed(Path(folder) / "file", OURS)
        file.write(pieces)
        assert file.read() == b"".join(pieces)


@settings(deadline=None)  # the disk takes the time it takes
@given(st.data())
def test_what_was_changed_is_never_believed(data: st.DataObject) -> None:
    """Octets turned, cut off or put in, wherever: it is refused, or says what it said."""
    with tempfile.TemporaryDirectory() as folder:
        file = Sealed(Path(folder) / "file", OURS)
        file.write([content := b"what was kept " * 9])
        whole = file.path.read_bytes()
        start = data.draw(st.integers(0, len(whole)))
        end = data.draw(st.integers(start, len(whole)))
        file.path.write_bytes(whole[:start] + data.draw(st.binary(max_size=9)) + whole[end:])
        with suppress(SourceMalformed):
            assert file.read() == content


@settings(deadline=None)  # the disk takes the time it takes
@given(st.binary(max_size=300))
def test_anything_else_is_refused(octets: bytes) -> None:
    """With a reason, and no other error."""
    with tempfile.TemporaryDirectory() as folder:
        file = Sealed(Path(folder) / "file", OURS)
        file.path.write_bytes(octets)
        with pytest.raises(SourceMalformed):
            file.read()


def test_what_cannot_be_read_stays_open_nowhere(tmp_path: Path) -> None:
    """However often it is tried."""
    files = os.listdir("/proc/self/fd")
    with pytest.raises(IsADirectoryError):
        Sealed(tmp_path, OURS).read()
    assert len(os.listdir("/proc/self/fd")) == len(files)


def test_of_two_that_write_each_is_read_whole(tmp_path: Path) -> None:
    """Two processes that share a file by mistake lose nothing but each other's."""
    contents = {number: bytes([number]) * 100_000 for number in (1, 2)}
    Sealed(tmp_path / "file", OURS).write([contents[1]])

    def write(number: int) -> None:
        for _ in range(10):
            Sealed(tmp_path / "file", OURS).write([contents[number]])

    writing = [threading.Thread(target=write, args=(number,)) for number in contents]
    for thread in writing:
        thread.start()
    while any(thread.is_alive() for thread in writing):
        assert Sealed(tmp_path / "file", OURS).read() in contents.values()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

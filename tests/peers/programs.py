"""Programs that are run beside tests."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.peers.fleet import DEADLINE_S

EXAMPLES = Path(__file__).parents[2] / "examples" / "proxies"
BESIDE = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
ENDING_S = 20.0


def found(program: str, install: str) -> str:
    """Where a program is; the test is skipped where it is missing, and fails where CI is set."""
    path = shutil.which(program, path=BESIDE)
    if path is None:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say(f"{program} is missing: {install}")
    return str(path)


def write_example(
    name: str, ports: Mapping[str, int], at: Path, other: tuple[str, str] = ("", "")
) -> None:
    """One of the examples, with these ports in place of its own, and files beside it.

    `other` is one more text of it, and what to write instead.
    """
    text = (EXAMPLES / name).read_text().replace("examples/proxies/", f"{at}/")
    if other[0]:
        assert other[0] in text
        text = text.replace(*other)
    for theirs, ours in ports.items():
        text = re.sub(rf"\b{theirs}\b", str(ours), text)
    (at / name).write_text(text)


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(what: Callable[[], object]) -> bool:
    """Whether something comes true before the deadline."""
    ends_at = time.monotonic() + DEADLINE_S
    while not what():
        if time.monotonic() > ends_at:
            return False
        time.sleep(0.05)
    return True


@contextmanager
def running(command: Sequence[str], at: Path) -> Iterator[None]:
    """A program at home in a directory, gone afterwards; what it said is in a failure."""
    log = at / "log"
    environment = {"HOME": str(at), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=at, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment
        )
    try:
        yield
    except AssertionError as why:
        raise AssertionError(f"{why}\n{log.read_text(errors='replace')[-4_000:]}") from why
    finally:
        process.terminate()
        try:
            process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

"""Commands as real processes: run to their end, or in the background for as long as a test."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT_S = 60.0
PROGRAM = [sys.executable, "-m", "discovery"]
_OURS = ("ECS_", "AWS_")


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Its standard output as JSON."""
        return json.loads(self.out)


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without settings of AWS's or ours, and with these."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
    # Nothing outside of the test may have an influence, such as a developer's own profile.
    nowhere = {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }
    return kept | nowhere | dict(more or {})


def run(*words: str, env: Mapping[str, str] | None = None) -> Done:
    """Run a command to its end."""
    done = subprocess.run(
        [*PROGRAM, *words],
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def said_in_one_sentence(done: Done) -> str:
    """The one line on standard error, without the program's name; there is no traceback."""
    assert "Traceback" not in done.err
    lines = done.err.splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith("ecs-discovery: ")
    return lines[0].removeprefix("ecs-discovery: ")


class Running:
    """A command in the background. Its standard error is read by `said`, as is its output."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.out = ""
        self.err = ""

    def until(self, *texts: str) -> str:
        """Everything written so far, once all of these texts are in it, in whole lines."""
        until = time.monotonic() + TIMEOUT_S
        while not all(text in self._lines() for text in texts):
            assert time.monotonic() < until, f"{texts} missing in: {self.out}{self.err}"
            if not self._read() and self.process.poll() is not None:
                raise AssertionError(f"ended without {texts}: {self.out}{self.err}")
        return self._lines()

    def end(self, number: int = signal.SIGTERM) -> Done:
        """Signal it and wait for its end."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> Done:
        """How it ended by itself."""
        out, err = self.process.communicate(timeout=TIMEOUT_S)
        return Done(self.process.returncode, self.out + out, self.err + err)

    def _lines(self) -> str:
        """What was written up to the last line that has ended; more of that one may follow."""
        return "".join(text.rpartition("\n")[0] + "\n" for text in (self.out, self.err))

    def _read(self) -> bool:
        streams = [s for s in (self.process.stdout, self.process.stderr) if s is not None]
        ready, _, _ = select.select(streams, [], [], 0.5)
        for stream in ready:
            text = os.read(stream.fileno(), 65_536).decode()
            if stream is self.process.stdout:
                self.out += text
            else:
                self.err += text
            if not text:
                return False
        return bool(ready)


@contextlib.contextmanager
def background(*words: str, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """A command that runs until the end of the block, whatever happens in it."""
    process = subprocess.Popen(
        [*PROGRAM, *words],
        env=environment({"PYTHONUNBUFFERED": "1"} | dict(env or {})),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield Running(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=TIMEOUT_S)


def wait_until_gone(pid: int) -> None:
    """Return when a process has ended, which must be soon; what init has yet to reap has ended.

    Not by its port: other local ECS on this machine give out the same ones.
    """
    until = time.monotonic() + TIMEOUT_S
    while time.monotonic() < until:
        try:
            status = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return
        if status.rpartition(")")[2].split()[0] in ("Z", "X"):
            return
    raise AssertionError(f"process {pid} still runs")

"""Orders to the guardian and its reports: the only way a process is started here.

Everything happens on the event loop's thread; reports come as callbacks. `close` ends every
process, and so does the end of this process, however it comes. A guardian that dies takes its
processes with it and is replaced; what is wanted meanwhile fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

_log = logging.getLogger(__name__)
_RESTART_PAUSE_S = 0.1
LOST = "the guardian of the local ECS has died"
_PACKAGE = str(Path(__file__).parents[1])
# the package's own __init__ is passed over: the guardian, and every fork of it, needs none of it
_BOOT = """
import sys, types
package = sys.modules["discovery"] = types.ModuleType("discovery")
package.__path__ = [sys.argv[1]]
from discovery.local.guardian import main
main()
"""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run: `argv` None is the built-in server on `listen` (address, port, protocol).

    The process exists from the beginning and does nothing for `boot_s` seconds.
    """

    argv: list[str] | None
    env: dict[str, str]
    listen: list[tuple[str, int, str]] = field(default_factory=list)
    page: dict[str, Any] = field(default_factory=dict)
    cwd: str | None = None
    log: str | None = None
    boot_s: float = 0.0


class Launcher(Protocol):
    """Starts and signals processes by a key of the caller's choice."""

    def spawn(
        self,
        key: str,
        program: Program,
        started: Callable[[str | None], None],
        exited: Callable[[int], None],
    ) -> None:
        """Run it; `started` gets None or an error, `exited` the code of what was started.

        `started` may be called before this returns.
        """
        ...

    def signal(self, key: str, number: int) -> None:
        """Signal the process group; nothing happens when it is gone."""
        ...


class Guarded:
    """The launcher that uses a guardian process."""

    def __init__(self) -> None:
        self._started: dict[str, Callable[[str | None], None]] = {}
        self._exited: dict[str, Callable[[int], None]] = {}
        self._env: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._attending: asyncio.Task[None] | None = None

    async def start(self, env: dict[str, str]) -> None:
        """Start the guardian; its children inherit `env`."""
        self._env = env
        self._attending = asyncio.create_task(self._attend(await self._launch()))

    async def _launch(self) -> asyncio.StreamReader:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-c", _BOOT, _PACKAGE, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env=self._env,
                stdin=subprocess.DEVNULL,
            )
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=1 << 20)
        return reader

    async def close(self) -> None:
        """End the guardian and with it every process."""
        if self._attending is not None:
            self._attending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._attending
        await self._bury()

    async def _bury(self) -> None:
        """Let go of the guardian, and wait for its end."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        if self._process is not None:
            await asyncio.to_thread(self._process.wait)

    @property
    def pid(self) -> int:
        """The guardian's process id."""
        assert self._process is not None
        return self._process.pid

    def spawn(
        self,
        key: str,
        program: Program,
        started: Callable[[str | None], None],
        exited: Callable[[int], None],
    ) -> None:
        """See `Launcher`."""
        if self._writer is None:
            started(LOST)
            return
        self._started[key] = started
        self._exited[key] = exited
        self._send(
            {
                "op": "spawn",
                "id": key,
                "argv": program.argv,
                "env": program.env,
                "listen": program.listen,
                "page": program.page,
                "cwd": program.cwd,
                "log": program.log,
                "boot_s": program.boot_s,
            }
        )

    def signal(self, key: str, number: int) -> None:
        """See `Launcher`."""
        self._send({"op": "signal", "id": key, "signal": number})

    def _send(self, order: dict[str, Any]) -> None:
        if self._writer is not None:
            self._writer.write(json.dumps(order).encode() + b"\n")

    async def _attend(self, reader: asyncio.StreamReader) -> None:
        while True:
            await self._read(reader)
            _log.warning("%s; its containers are gone, another one is started", LOST)
            await self._bury()
            self._fail()
            reader = await self._launch_again()

    async def _launch_again(self) -> asyncio.StreamReader:
        while True:
            await asyncio.sleep(_RESTART_PAUSE_S)
            try:
                return await self._launch()
            except OSError as error:
                _log.warning("the guardian of the local ECS could not be started: %s", error)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while (line := await reader.readline()).endswith(b"\n"):
                self._report(json.loads(line))

    def _fail(self) -> None:
        """Everything that was started or was to be has ended with the guardian."""
        started, self._started = self._started, {}
        exited, self._exited = self._exited, {}
        for key, report in started.items():
            del exited[key]
            report(LOST)
        for ended in exited.values():
            ended(128 + signal.SIGKILL)

    def _report(self, said: dict[str, Any]) -> None:
        key = said["id"]
        if "pid" in said:
            self._started.pop(key)(None)
        elif "error" in said:
            self._exited.pop(key)
            self._started.pop(key)(said["error"])
        else:
            self._exited.pop(key)(said["exit"])

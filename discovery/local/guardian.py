"""The process that starts, signals and reaps the containers' processes.

Rule 1: it lives no longer than the server: when its socket ends, every process is killed.
Rule 2: each program runs below a keeper of its own, which leaves nothing of it behind; should the
guardian be killed itself, the kernel tells the keepers (it has one thread, so not early), and
should a keeper be killed, the guardian ends what was below it.
Rule 3: the built-in server is bound here and runs in a fork, so that it starts at once and a port
in use is known before the answer; one that boots slowly binds in its own process, when it has.
Messages are JSON lines. In: `spawn` (id, argv or null, env, listen, page, cwd, log, boot_s),
`signal` (id, signal). Out: `{id, pid}`, `{id, error}`, `{id, exit}`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any, NoReturn

from discovery.local import webserver
from discovery.local.keeper import FREEZE, adopt_orphans, end_children, exit_code, keep

# what a keeper is told where it cannot be sent the program's own signal
_TOLD = {int(signal.SIGKILL): signal.SIGHUP, int(signal.SIGSTOP): FREEZE}


def main() -> None:
    """Serve the socket whose descriptor is the last argument, until it ends."""
    # blocked, not ignored: so none is lost on a keeper that has just been forked
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, FREEZE))
    adopt_orphans()
    Guardian(socket.socket(fileno=int(sys.argv[-1]))).run()


class Guardian:
    """Runs in one thread; `run` returns after the server is gone and every child is dead."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._pids: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._wakeup, self._waker = socket.socketpair()

    def run(self) -> None:
        """Read orders and reap children."""
        self._waker.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        try:
            self._serve()
        finally:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.set_wakeup_fd(-1)
            for pid in self._names:
                _kill(pid, signal.SIGKILL)
            for pid in self._names:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)
            end_children()  # the programs; their addresses are free only when they are gone

    def _serve(self) -> None:
        rest = b""
        while True:
            readable, _, _ = select.select([self._control, self._wakeup], [], [])
            if self._wakeup in readable:
                self._wakeup.recv(4096)
                self._reap()
            if self._control not in readable:
                continue
            data = self._control.recv(1 << 16)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._obey(json.loads(line))

    def _obey(self, order: dict[str, Any]) -> None:
        if order["op"] == "signal":
            if order["id"] in self._pids:
                told = _TOLD.get(order["signal"], order["signal"])
                _kill(self._pids[order["id"]], told)
            return
        try:
            pid = self._spawn(order)
        except OSError as error:
            self._say({"id": order["id"], "error": f"{error.strerror}", "errno": error.errno})
            return
        self._pids[order["id"]] = pid
        self._names[pid] = order["id"]
        self._say({"id": order["id"], "pid": pid})

    def _spawn(self, order: dict[str, Any]) -> int:
        with contextlib.ExitStack() as stack:
            now = [] if order["boot_s"] else order["listen"]
            listeners = [stack.enter_context(webserver.bound(*at)) for at in now]
            guardian = os.getpid()
            pid = os.fork()
            if pid == 0:
                try:
                    self._let_go()
                    keep(guardian, lambda: _become(order, listeners), stack.close)
                finally:  # nothing of the guardian's may run here
                    os._exit(127)
            return pid

    def _let_go(self) -> None:
        """In the child: the guardian's own descriptors."""
        signal.set_wakeup_fd(-1)
        for end in (self._control, self._wakeup, self._waker):
            end.close()

    def _reap(self) -> None:
        while self._names:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            name = self._names.pop(pid, None)
            if os.WIFSIGNALED(status):  # the keeper was killed: what was below it is ours now
                end_children(but=self._names)
            if name is not None:
                self._pids.pop(name, None)
                self._say({"id": name, "exit": exit_code(status)})

    def _say(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._control.sendall(json.dumps(message).encode() + b"\n")


def _become(order: dict[str, Any], listeners: list[socket.socket]) -> NoReturn:
    """In the program's process."""
    status = 127
    try:
        _redirect(order["log"])
        if order["cwd"]:
            os.chdir(order["cwd"])
        time.sleep(order["boot_s"])
        if order["argv"] is None:
            _serve(order, listeners)
            status = 0
        else:
            signal.signal(
                signal.SIGPIPE, signal.SIG_DFL
            )  # Python ignores it, and a program inherits
            environment = {**os.environ, **order["env"]}
            os.execvpe(order["argv"][0], order["argv"], environment)
    except PermissionError:
        status = 126
    finally:
        os._exit(status)


def _serve(order: dict[str, Any], listeners: list[socket.socket]) -> None:
    with contextlib.ExitStack() as stack:
        if order["boot_s"]:
            listeners = [stack.enter_context(webserver.bound(*at)) for at in order["listen"]]
        webserver.serve(listeners, order["page"])


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, number)


def _redirect(log: str | None) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) if log else null
    os.dup2(out, 1)
    os.dup2(out, 2)

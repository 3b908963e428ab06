"""The process above one container's program, which ends with it, and with it whatever it started.

Rule 1: the program's descendants stay below the keeper, however they detach themselves (it is
their subreaper), and die with the program.
Rule 2: SIGTERM goes on to the program alone, as Docker sends it to process 1 alone, so that an
entrypoint may delay it. SIGHUP kills the program with its process group; the kernel sends SIGHUP
when the guardian dies; SIGUSR1 freezes the group. It exits with the program's exit code.
Where there is no subreaper (only Linux has it), children that left the program's group stay.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Collection
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
FREEZE = signal.SIGUSR1
_HEARD = (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, FREEZE)
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def adopt_orphans() -> None:
    """From now on descendants whose parent ends are this process's children."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _die_with_parent(parent: int, number: int) -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it was gone before
            os._exit(128 + number)


def keep(guardian: int, become: Callable[[], NoReturn], forget: Callable[[], None]) -> NoReturn:
    """Fork a child that does `become`, and wait for its end.

    To be called in a fork of the guardian in which SIGTERM and SIGHUP are blocked; `forget`
    closes what only the child needs.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _die_with_parent(guardian, signal.SIGHUP)
    adopt_orphans()
    keeper = os.getpid()
    program = os.fork()
    if program == 0:
        os.setpgid(0, 0)
        _die_with_parent(keeper, signal.SIGKILL)
        for changed in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, FREEZE):
            signal.signal(changed, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        become()
    with contextlib.suppress(OSError):
        os.setpgid(program, program)
    forget()
    code = _outlive(program)
    with contextlib.suppress(OSError):
        os.killpg(program, signal.SIGKILL)
    end_children()
    os._exit(code)


def _outlive(program: int) -> int:
    """Pass signals on until the program has ended; its exit code."""
    while True:
        heard = signal.sigwait(_HEARD)
        if heard == signal.SIGTERM:
            with contextlib.suppress(OSError):
                os.kill(program, signal.SIGTERM)
        elif heard == FREEZE:
            _kill_group(program, signal.SIGSTOP)
        elif heard == signal.SIGHUP:
            _kill_group(program, signal.SIGKILL)
        ended = dict(_reaped())
        if program in ended:
            return ended[program]


def _reaped() -> list[tuple[int, int]]:
    """The children that have ended, with their exit codes."""
    found = []
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            found.append((ended[0], exit_code(ended[1])))
    return found


def exit_code(status: int) -> int:
    """The exit code as Docker gives it: 128 + n for a signal n."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def end_children(but: Collection[int] = ()) -> None:
    """Kill and reap every child, and their children as they become ours; returns when all died."""
    while killed := [pid for pid in _children() if pid not in but and _killed(pid)]:
        for pid in killed:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _children() -> list[int]:
    """This process's children; the process table is read only when there are any."""
    if sys.platform != "linux":
        return []
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        names = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []
    own = os.getpid()
    return [int(name) for name in names if _parent_of(name) == own]


def _parent_of(name: str) -> int | None:
    try:
        with open(f"/proc/{name}/stat", "rb") as stat:
            return int(stat.read().rpartition(b")")[2].split()[1])
    except OSError:
        return None


def _killed(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        return False
    return True


def _kill_group(pid: int, number: int) -> None:
    """Signal the process group, or where the program has left it the program alone."""
    try:
        os.killpg(pid, number)
    except OSError:
        with contextlib.suppress(OSError):
            os.kill(pid, number)

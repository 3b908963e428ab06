"""`exec`: the entrypoint that sets the resolver, passes signals on and delays the last one."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from discovery.cli.exec import MOST_NAMESERVERS, with_first
from tests.cli.programs import PROGRAM, TIMEOUT_S, Done, background, environment, run
from tests.cli.programs import said_in_one_sentence as sentence
from tests.cli.test_light import HEAVY, without

# Says when it is there and which signal came; ends at SIGTERM as programs do that clean up.
LISTENER = """
import signal, sys, time
def came(number, frame):
    print("came", signal.Signals(number).name, time.monotonic(), flush=True)
    if number == signal.SIGTERM:
        sys.exit(7)
for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGINT"):
    signal.signal(getattr(signal, name), came)
print("listening", flush=True)
while True:
    signal.pause()
"""


def command(*words: str) -> tuple[str, ...]:
    """`exec` that leaves the resolver alone."""
    return ("exec", "--no-dns", *words)


@pytest.mark.parametrize("code", [0, 1, 42])
def test_the_exit_code_is_the_commands_own(code: int) -> None:
    """So that ECS sees it."""
    assert run(*command("--", "sh", "-c", f"exit {code}")).code == code


def test_a_command_that_a_signal_ended_is_128_and_its_number() -> None:
    """As a shell says it."""
    assert run(*command("--", "sh", "-c", "kill -KILL $$")).code == 128 + signal.SIGKILL


def test_input_output_and_arguments_are_the_commands_own() -> None:
    """Words that look like options of ours are not taken."""
    done = run(*command("--", "printf", "%s|", "--drain", "5", "--", "x"))
    assert (done.code, done.out) == (0, "--drain|5|--|x|")


def test_a_command_that_is_not_there_is_127() -> None:
    """And is named."""
    done = run(*command("--", "no-such-program"))
    assert done.code == 127
    assert "no-such-program" in sentence(done)


def test_a_file_that_cannot_be_run_is_126(tmp_path: Path) -> None:
    """And is named."""
    program = tmp_path / "program"
    program.write_text("")
    done = run(*command("--", str(program)))
    assert done.code == 126
    assert str(program) in sentence(done)


@pytest.mark.parametrize("words", [(), ("--",), ("--drain", "5")])
def test_without_a_command_it_is_a_mistake(words: tuple[str, ...]) -> None:
    """Exit code 2 and what is missing."""
    done = run(*command(*words))
    assert done.code == 2
    assert "which command to run" in done.err


@pytest.mark.parametrize("seconds", ["-1", "soon", "nan", "1e9"])
def test_a_drain_that_is_no_time_is_a_mistake(seconds: str) -> None:
    """It names the value."""
    done = run(*command("--drain", seconds, "--", "true"))
    assert done.code == 2
    assert seconds in done.err


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGINT"])
def test_signals_are_passed_on(name: str) -> None:
    """At once, whatever the drain."""
    words = command("--drain", "600", "--", sys.executable, "-c", LISTENER)
    with background(*words) as running:
        running.until("listening")
        running.process.send_signal(getattr(signal, name))
        running.until(f"came {name}")


def test_without_a_drain_sigterm_is_passed_on_at_once() -> None:
    """And the exit code is what the command made of it."""
    with background(*command("--", sys.executable, "-c", LISTENER)) as running:
        running.until("listening")
        assert running.end().code == 7


def test_a_drain_delays_sigterm() -> None:
    """The command runs on as if nothing had happened, then is told."""
    words = command("--drain", "1.5", "--", sys.executable, "-c", LISTENER)
    with background(*words) as running:
        running.until("listening")
        running.process.send_signal(signal.SIGTERM)
        running.until("SIGTERM: passed on in 1.5 s")
        running.process.send_signal(signal.SIGHUP)
        running.until("came SIGHUP")
        done = running.ended()
    told = {
        line.split()[1]: float(line.split()[2])
        for line in done.out.splitlines()
        if line.startswith("came")
    }
    assert done.code == 7
    assert told["SIGTERM"] > told["SIGHUP"]


def test_a_second_sigterm_is_passed_on_at_once() -> None:
    """Somebody is in a hurry; and it comes once."""
    words = command("--drain", "3000", "--", sys.executable, "-c", LISTENER)
    with background(*words) as running:
        running.until("listening")
        running.process.send_signal(signal.SIGTERM)
        running.until("passed on in 3000 s")
        done = running.end()
    assert done.code == 7
    assert done.out.count("came SIGTERM") == 1


def test_a_command_that_ends_within_the_drain_ends_it() -> None:
    """Nobody waits for the rest."""
    words = command("--drain", "3000", "--", "sh", "-c", "echo there; read line; exit 3")
    process = subprocess.Popen(
        [*PROGRAM, *words],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "there\n"
        process.send_signal(signal.SIGTERM)
        assert "passed on in 3000 s" in process.stderr.readline()
        process.communicate("\n", timeout=TIMEOUT_S)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 3


def isolated(*words: str) -> list[str]:
    """A command as process 1 of a process namespace of its own, or a skip."""
    within = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *words]
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("namespaces need root")
    if subprocess.run([*within[:5], "true"], capture_output=True, check=False).returncode:
        pytest.skip("process namespaces are not allowed here")
    return within


def finished(words: Sequence[str]) -> Done:
    """A command run to its end."""
    done = subprocess.run(
        words,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def test_orphans_are_reaped_by_process_1() -> None:
    """A child of a child that ended before it leaves no zombie."""
    script = """
    orphan=$(sh -c 'sh -c "read line" > /dev/null & echo $!' < /dev/null)
    while [ -d /proc/$orphan ]; do :; done
    echo reaped
    """
    words = isolated(*PROGRAM, *command("--", "timeout", "50", "sh", "-c", script))
    assert finished(words).out == "reaped\n"


def mounted(resolv_conf: Path, *words: str) -> list[str]:
    """A command that sees this file as /etc/resolv.conf, or a skip."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a mount namespace needs root")
    mount = f'mount --bind {resolv_conf} /etc/resolv.conf && exec "$@"'
    within = ["unshare", "-m", "sh", "-c", mount, "sh"]
    if subprocess.run([*within, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mount namespaces are not allowed here")
    return [*within, *words]


def test_our_resolver_comes_first_in_a_mounted_file(tmp_path: Path) -> None:
    """Where nothing could be renamed; the command sees the new file."""
    file = tmp_path / "resolv.conf"
    file.write_text("search corp.example\nnameserver 10.0.0.2\noptions ndots:2\n")
    done = finished(mounted(file, *PROGRAM, "exec", "--", "cat", "/etc/resolv.conf"))
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "nameserver 127.0.0.1\nnameserver 10.0.0.2\nsearch corp.example\noptions ndots:2\n"
    )


def test_a_file_in_no_known_encoding_is_kept_as_it_is(tmp_path: Path) -> None:
    """Octets that are no UTF-8 stay the same octets."""
    file = tmp_path / "resolv.conf"
    file.write_bytes(b"# caf\xe9\nnameserver 10.0.0.2\n")
    shown = "od -An -c /etc/resolv.conf | tr -d ' \\n'"
    done = finished(mounted(file, *PROGRAM, "exec", "--", "sh", "-c", shown))
    assert (done.code, done.err) == (0, "")
    assert done.out == r"nameserver127.0.0.1\nnameserver10.0.0.2\n#caf351\n"
    assert file.read_bytes() == b"# caf\xe9\nnameserver 10.0.0.2\n"


def test_the_file_is_as_it_was_when_the_command_has_ended(tmp_path: Path) -> None:
    """Also where it cannot be run; what somebody else wrote meanwhile stays."""
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 10.0.0.2\n")
    assert finished(mounted(file, *PROGRAM, "exec", "--", "false")).code == 1
    assert finished(mounted(file, *PROGRAM, "exec", "--", "nosuchprogram")).code == 127
    assert file.read_text() == "nameserver 10.0.0.2\n"
    other = "echo nameserver 10.0.0.3 > /etc/resolv.conf"
    finished(mounted(file, *PROGRAM, "exec", "--", "sh", "-c", other))
    assert file.read_text() == "nameserver 10.0.0.3\n"


def test_without_root_it_says_so(tmp_path: Path) -> None:
    """One sentence, exit code 2, and the command does not run."""
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 10.0.0.2\n")
    file.chmod(0o644)
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    if subprocess.run([*nobody, *PROGRAM, "--version"], capture_output=True).returncode:
        pytest.skip("nobody may not run this Python here")
    done = finished(mounted(file, *nobody, *PROGRAM, "exec", "--", "echo", "ran"))
    assert (done.code, done.out) == (2, "")
    assert "needs root" in sentence(done)
    assert file.read_text() == "nameserver 10.0.0.2\n"


@pytest.mark.parametrize("address", ["127.0.0.1:1053", "localhost", "127.0.0.1:x", ":53"])
def test_an_address_that_the_file_cannot_hold_is_a_mistake(address: str) -> None:
    """It names the value."""
    done = run("exec", "--dns", address, "--", "true")
    assert done.code == 2
    assert repr(address) in done.err


@pytest.mark.parametrize("nameserver", ["172.17.0.1", "fd00::53"])
def test_the_first_name_server_is_ours_once(nameserver: str) -> None:
    """Also where it was in the file before: a container that starts again."""
    once = with_first(nameserver, "nameserver 10.0.0.2\nsearch a b\n")
    assert once == f"nameserver {nameserver}\nnameserver 10.0.0.2\nsearch a b\n"
    assert with_first(nameserver, once) == once


def test_no_more_name_servers_than_the_c_library_reads() -> None:
    """A fourth would be lost in silence."""
    text = "".join(f"nameserver 10.0.0.{n}\n" for n in range(1, 6))
    listed = with_first("127.0.0.1", text).splitlines()
    assert listed == [
        "nameserver 127.0.0.1",
        *(f"nameserver 10.0.0.{n}" for n in range(1, MOST_NAMESERVERS)),
    ]


def test_it_works_without_the_extra() -> None:
    """An application's image has the plain library at most."""
    done = without(HEAVY, "exec", "--no-dns", "--", "sh", "-c", "exit 5")
    assert done.code == 5

"""What is imported: nothing heavy for `health`, and no extra that is not installed."""

import subprocess
import sys

import pytest

from discovery.cli.group import COMMANDS
from tests.cli.programs import PROGRAM, Done, environment, run, said_in_one_sentence

HEAVY = ("boto3", "botocore", "httpx", "starlette", "uvicorn", "click", "rich", "dnslib")
# Stands for an installation without the extra: these modules cannot be found.
WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
from discovery.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def without(missing: tuple[str, ...], *words: str) -> Done:
    """Run a command where these libraries are not installed."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(missing=set(missing)), *words],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("command", ["demo", "serve", "resolve", "ls", "config", "--help"])
def test_without_the_extra_the_command_says_how_to_install_it(command: str) -> None:
    """One sentence, exit code 2."""
    done = without(("click", "rich", "starlette", "uvicorn"), command)
    assert done.code == 2
    assert "pip install 'ecs-discovery[sidecar]'" in said_in_one_sentence(done)


@pytest.mark.parametrize("missing", ["click", "rich", "starlette", "uvicorn"])
def test_a_part_of_the_extra_is_missed_by_name(missing: str) -> None:
    """Whichever library of it is not there."""
    done = without((missing,), "serve", "--cluster", "prod")
    assert done.code == 2
    assert said_in_one_sentence(done).startswith(f"{missing} is not installed")


def test_health_works_without_the_extra() -> None:
    """It answers the question, here with no."""
    done = without(HEAVY, "health", "--http", "127.0.0.1:1")
    assert done.code == 1
    assert "no sidecar answers at 127.0.0.1:1" in said_in_one_sentence(done)


def test_health_loads_nothing_heavy() -> None:
    """By the names of the modules that are there at its end."""
    program = (
        "import sys; from discovery.cli.main import main;"
        "main(['health', '--http', '127.0.0.1:1']);"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["resolve", "ls", "explain", "config", "health"])
def test_finding_needs_no_server_library(command: str) -> None:
    """A command imports what it needs and no more."""
    done = without(("starlette", "uvicorn"), command, "--help")
    assert (done.code, done.err) == (0, "")
    assert "examples:" in done.out


def test_help_lists_every_command() -> None:
    """With or without a word, on standard output."""
    done = run("--help")
    assert done.code == 0
    for command in COMMANDS:
        assert f"  {command} " in done.out
    assert run().out == done.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_examples(command: str) -> None:
    """The help text of each shows how it is called."""
    done = run(command, "--help")
    assert done.code == 0
    assert f"ecs-discovery {command}" in done.out.partition("examples:")[2]


def test_the_module_is_the_command() -> None:
    """`python -m discovery` is the same program."""
    done = subprocess.run(
        [*PROGRAM, "--version"], capture_output=True, text=True, env=environment(), check=True
    )
    assert done.stdout.startswith("ecs-discovery, version ")

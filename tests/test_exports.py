"""The public names, and what importing them costs."""

import ast
import subprocess
import sys
from pathlib import Path

import discovery

HEAVY = {"boto3", "botocore", "httpx", "starlette", "uvicorn", "click", "rich", "dnslib"}


def test_the_exports_are_sorted() -> None:
    """Reviewers find a name where they look for it."""
    assert list(discovery.__all__) == sorted(discovery.__all__)


def test_every_export_exists() -> None:
    """`from discovery import *` works."""
    for name in discovery.__all__:
        assert getattr(discovery, name) is not None


def test_everything_public_is_exported() -> None:
    """What `discovery/__init__.py` imports, lazily or not, is in `__all__`, and nothing else is."""
    tree = ast.parse(Path(discovery.__file__).read_text())
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module != "discovery.client"
        for alias in node.names
    }
    assert imported | {"__version__"} == set(discovery.__all__)


def test_all_errors_are_public() -> None:
    """Whoever can be given an error can catch it by name."""
    from discovery import errors

    raised = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.DiscoveryError)
    }
    assert raised <= set(discovery.__all__)


def test_importing_loads_nothing_heavy_and_starts_nothing() -> None:
    """In a fresh interpreter: no SDK, HTTP client or server library, and no thread."""
    program = (
        "import sys, threading, discovery;"
        "print(threading.active_count(), *sorted(m for m in sys.modules if '.' not in m))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    threads, *modules = done.stdout.split()
    assert threads == "1"
    assert not HEAVY & set(modules)
    assert "asyncio" not in modules

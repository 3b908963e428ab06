"""The house: which room may import which, and what stays out of the pure floors.

A new module must be given a floor here; one that no rule covers fails.
"""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "discovery"

# The longest prefix decides.
FLOORS = {
    "discovery": 7,  # the public names
    "discovery.__main__": 6,
    "discovery.model": 0,
    "discovery.names": 0,
    "discovery.errors": 0,
    "discovery.events": 0,
    "discovery.settings": 0,
    "discovery.written": 0,
    "discovery.tracing": 2,
    "discovery.documents": 0,
    "discovery.snapshots": 1,
    "discovery.secret": 0,
    "discovery.probe": 0,
    "discovery.ecs": 1,
    "discovery.ecs.source": 2,
    "discovery.ecs.caller": 2,
    "discovery.ecs.changes": 2,
    "discovery.ecs.clusters": 2,
    "discovery.ecs.conversation": 2,
    "discovery.ecs.kept": 2,
    "discovery.ecs.pace": 2,
    "discovery.ecs.quotas": 2,
    "discovery.ecs.clients": 2,
    "discovery.ecs.metadata": 2,
    "discovery.ecs.checkup": 2,
    "discovery.ecs.models": 2,
    "discovery.ecs.parsing": 2,
    "discovery.sources": 2,
    "discovery.sources.hearsay": 1,
    "discovery.sources.lease": 1,
    "discovery.sources.publication": 1,
    "discovery.sources.scripts": 1,
    "discovery.health": 1,
    "discovery.health.probes": 4,
    "discovery.balancing": 1,
    "discovery.catalog": 3,
    "discovery.catalog.guard": 1,
    "discovery.catalog.merging": 1,
    "discovery.catalog.order": 1,
    "discovery.catalog.pace": 1,
    "discovery.catalog.pending": 1,
    "discovery.catalog.schedule": 1,
    "discovery.overrides": 1,
    "discovery.overrides.watch": 2,
    "discovery.client": 4,
    "discovery.client.attempts": 1,
    "discovery.client.lifetime": 1,
    "discovery.client.pace": 1,
    "discovery.dns": 1,
    "discovery.dns.server": 5,
    "discovery.dns.udp": 5,
    "discovery.dns.tcp": 5,
    "discovery.dns.polling": 2,
    "discovery.dns.sharing": 2,
    "discovery.dns.forward": 5,
    "discovery.dns.exchange": 5,
    "discovery.dns.mmsg": 5,
    "discovery.dns.answering": 5,
    "discovery.sidecar": 6,
    "discovery.sidecar.adapters.arns": 1,
    "discovery.sidecar.adapters.offers": 1,
    "discovery.sidecar.adapters.prometheus": 1,
    "discovery.sidecar.adapters.traefik": 1,
    "discovery.sidecar.adapters.envoy": 1,
    "discovery.cli": 6,
}
ASIDE = "discovery.local"
PURE = 1

OUTSIDE_WORLD = {
    *("socket", "select", "selectors", "ssl", "http", "urllib", "subprocess", "os", "asyncio"),
    *("time", "random", "secrets", "threading", "concurrent", "multiprocessing", "queue"),
    *("boto3", "botocore", "httpx", "starlette", "uvicorn", "click", "rich"),
}
ONLY_IN = {
    "boto3": ("discovery.ecs",),
    "botocore": ("discovery.ecs",),
    "httpx": ("discovery.client", "discovery.health.probes", "discovery.sources.hub"),
    "dnslib": ("discovery.dns",),
    "redis": ("discovery.sources.store",),
    "opentelemetry": ("discovery.tracing",),
    "prometheus_client": ("discovery.sidecar",),
    "starlette": ("discovery.sidecar",),
    "uvicorn": ("discovery.sidecar", ASIDE),
    "click": ("discovery.cli",),
    "rich": ("discovery.cli",),
}


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def floor_of(module: str) -> int:
    """The floor of the longest prefix that has one."""
    name = module
    while name not in FLOORS or (name == "discovery" and module != name):
        name, _, _ = name.rpartition(".")
        assert name, f"{module} has no floor: give it one in this table"
    return FLOORS[name]


def imports(path: Path) -> Iterator[str]:
    """The dotted names that a module imports when it runs, lazily or not."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            module = node.module or ""
            for alias in node.names:
                whole = f"{module}.{alias.name}"
                yield whole if whole in MODULES else module


def ours(module: str) -> set[str]:
    """The modules of this package that a module imports."""
    return {name for name in imports(MODULES[module]) if name in MODULES and name != "discovery"}


INDOORS = [name for name in MODULES if not name.startswith(ASIDE)]


@pytest.mark.parametrize("module", INDOORS)
def test_imports_never_climb(module: str) -> None:
    """A room imports its own floor and lower ones."""
    floor = floor_of(module)
    climbing = {
        name for name in ours(module) if not name.startswith(ASIDE) and floor_of(name) > floor
    }
    assert not climbing


def test_imports_have_no_cycle() -> None:
    """On one floor, too, imports go one way."""
    graph = {module: ours(module) for module in MODULES}
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises on a cycle
    assert set(order) == set(MODULES)


@pytest.mark.parametrize("module", [m for m in INDOORS if floor_of(m) <= PURE])
def test_nothing_below_the_line_touches_the_world(module: str) -> None:
    """No socket, no clock, no randomness, no thread: time and chance are arguments."""
    assert not {name.partition(".")[0] for name in imports(MODULES[module])} & OUTSIDE_WORLD


@pytest.mark.parametrize("module", MODULES)
def test_foreign_libraries_stay_in_their_rooms(module: str) -> None:
    """What depends on a library is in one place each."""
    for name in imports(MODULES[module]):
        rooms = ONLY_IN.get(name.partition(".")[0])
        assert rooms is None or module.startswith(rooms), f"{module} imports {name}"


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith(ASIDE)])
def test_the_local_ecs_stands_alone(module: str) -> None:
    """It shares no code with what reads ECS, so that a mistake cannot cancel itself out."""
    assert all(name.startswith(ASIDE) for name in ours(module))


@pytest.mark.parametrize("module", INDOORS)
def test_only_commands_know_the_local_ecs(module: str) -> None:
    """Nothing that runs in production depends on it."""
    local = {name for name in ours(module) if name.startswith(ASIDE)}
    assert not local or module.startswith("discovery.cli")


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*/**/__init__.py")))
def test_inner_packages_export_nothing(path: Path) -> None:
    """Public names leave through the front door only."""
    assert path.read_text() == ""


def test_import_loads_no_heavy_library() -> None:
    """`import discovery` costs neither boto3 nor httpx nor any server library."""
    heavy = sorted(
        OUTSIDE_WORLD & {"boto3", "botocore", "httpx", "starlette", "uvicorn", "click", "rich"}
    )
    program = f"import sys, discovery; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"

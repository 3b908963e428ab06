"""The entry point: decides what is imported, and turns everything that goes wrong into a sentence.

`health` runs in a container's health check every few seconds and `exec` as long as a container, so
nothing heavy is imported for them, and they work without the `[sidecar]` extra. Everything else
needs click and rich.
"""

import sys
from collections.abc import Sequence

from discovery.cli.program import EXTRA, PROGRAM


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code. `arguments` are without the program's name."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["health"]:
        from discovery.cli import health

        return health.main(words[1:])
    if words[:1] == ["exec"]:
        from discovery.cli import exec as entrypoint

        return entrypoint.main(words[1:])
    try:
        from discovery.cli import group

        return group.run(words)
    except ModuleNotFoundError as missing:
        name = (missing.name or "").partition(".")[0]
        if name not in EXTRA:
            raise
        print(
            f"{PROGRAM}: {name} is not installed: run pip install 'ecs-discovery[sidecar]', in a"
            " checkout pip install '.[sidecar]'",
            file=sys.stderr,
        )
        return 2

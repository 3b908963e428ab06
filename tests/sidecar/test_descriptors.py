"""Room for connections: by what the operating system gives a process."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from discovery.sidecar import descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
descriptors.raise_limit()
most = descriptors.connections()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], most, descriptors.waits(most))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "said"),
    [
        (1_024, 1_024, "1024 512 409"),
        (1_024, 4_096, "4096 2048 1638"),
        (20, 20, "20 64 51"),
    ],
)
def test_as_many_connections_as_half_the_descriptors(soft: int, hard: int, said: str) -> None:
    """After asking for all that we may have; most of them may wait."""
    command = [sys.executable, "-c", PROGRAM, str(soft), str(hard)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == said, done.stderr

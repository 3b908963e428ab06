"""A short run of the fuzzer, so that its target is known to work."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

RUNS = 20_000


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
def test_the_fuzzer_finds_nothing_in_a_short_run(tmp_path: Path) -> None:
    """Readers, responder and forwarder, from the same start in every run."""
    command = [sys.executable, "-m", "tests.dns.fuzz", f"-runs={RUNS}", "-seed=1"]
    done = subprocess.run(
        [*command, "-max_total_time=30", f"-artifact_prefix={tmp_path}/"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4_000:]

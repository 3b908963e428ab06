#!/bin/sh
# Sets everything up and runs all checks; arguments go to pytest (sh tests/run.sh -k dns).
set -eu
cd "$(dirname "$0")/.."
sh .ci/setup test
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/pytest --cov --cov-report=term "$@"

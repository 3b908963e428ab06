#!/bin/sh
# Sets everything up and runs the demo: a local ECS with real processes, and the sidecar that
# discovers them. Arguments go to `ecs-discovery demo`. Stop it with Ctrl-C.
set -eu
cd "$(dirname "$0")/.."
sh .ci/setup sidecar
exec .venv/bin/ecs-discovery demo "$@"

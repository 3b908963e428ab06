"""What commands call the program; imports nothing, so that `health` stays light."""

PROGRAM = "ecs-discovery"
EXTRA = ("click", "rich", "starlette", "uvicorn")  # what `[sidecar]` brings

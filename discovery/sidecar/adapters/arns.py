"""What a task's ARN says beside the task's id."""

from discovery.model import Endpoint


def region_of(endpoint: Endpoint) -> str | None:
    """The task's region; `None` for what is no task."""
    parts = (endpoint.task_arn or "").split(":")
    return parts[3] or None if len(parts) == 6 else None


def cluster_arn_of(endpoint: Endpoint) -> str | None:
    """The ARN of the task's cluster; ARNs of the old form, without its name, do not tell."""
    arn = endpoint.task_arn or ""
    head, _, resource = arn.rpartition(":")
    kind, *names = resource.split("/")
    return f"{head}:cluster/{names[0]}" if kind == "task" and len(names) == 2 else None

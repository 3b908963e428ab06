"""What differs between two sets of endpoints, as lines for a person."""

from discovery.cli.output import task_id
from discovery.model import Endpoint


def changes(before: tuple[Endpoint, ...], after: tuple[Endpoint, ...]) -> list[str]:
    """One line for each endpoint that went (-), came (+) or is different (~), in this order."""
    old = {endpoint.identity: endpoint for endpoint in before}
    new = {endpoint.identity: endpoint for endpoint in after}
    return [
        *(f"- {_shown(old[key])}" for key in old if key not in new),
        *(f"+ {_shown(new[key])}" for key in new if key not in old),
        *(f"~ {_shown(new[key])}" for key in new if key in old and old[key] != new[key]),
    ]


def _shown(endpoint: Endpoint) -> str:
    parts = (
        f"{endpoint.service:<10}",
        f"{endpoint.authority:<21}",
        f"{endpoint.health:<9}",
        endpoint.zone,
        task_id(endpoint.task_arn),
    )
    return "  ".join(part for part in parts if part)

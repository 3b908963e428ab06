"""Tells listeners of a transport's attempts, as each ends."""

from itertools import count
from typing import Any

from discovery.client.attempts import Answered, Result, Tell
from discovery.events import Attempted, Listeners
from discovery.model import Endpoint


def telling(request: Any, listeners: Listeners) -> Tell | None:
    """For one request of either module, where anybody listens; counts attempts as they end."""
    if not listeners.anybody:
        return None
    method, url, resends = str(request.method), _without_secrets(request.url), count()

    def tell(endpoint: Endpoint, result: Result | None, seconds: float) -> None:
        status = result.status if isinstance(result, Answered) else None
        error = "abandoned" if result is None else result.outcome
        listeners.emit(
            Attempted(
                method,
                url,
                f"{endpoint.service}.{endpoint.cluster}",
                endpoint.host,
                endpoint.port,
                endpoint.task_arn,
                next(resends),
                seconds,
                status,
                error if status is None else None,
            )
        )

    return tell


def _without_secrets(url: Any) -> str:
    """Put together from parts; changing a URL takes longer than all else here."""
    path = url.raw_path.partition(b"?")[0]
    return f"{url.scheme}://{url.netloc.decode('ascii')}{path.decode('ascii')}"

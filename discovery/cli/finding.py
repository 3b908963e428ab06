"""A resolver for one command: made from the settings, closed at its end."""

from discovery.cli.layers import Given
from discovery.client.resolver import Resolver
from discovery.events import Listeners

_PATIENCE_S = 30.0


def resolver_of(given: Given, listeners: Listeners | None = None) -> Resolver:
    """A resolver that reads only what the command asks for; close it, or use it in `with`.

    Raises `BadInput` where no cluster is named.
    """
    given.need_cluster()
    return Resolver(settings=given.settings, timeout_s=_PATIENCE_S, listeners=listeners)

"""What a service takes over from before while its task definitions are not read yet. Pure.

Whoever begins to read, after a restart or in another's place, begins without definitions: names
that were answered go on being answered. A definition never changes under its ARN, so what one of
its ports was called it is still called.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from discovery.model import Endpoint, Identity, Port, Protocol, Service

_Place = tuple[str | None, str | None, int | None, str]
_Names = Mapping[tuple[str | None, int | None, Protocol], str | None]


@dataclass(frozen=True, slots=True)
class _Known:
    """Endpoints of before: each, and one of each port of a definition with the labels of all."""

    each: Mapping[Identity, Endpoint]
    common: Mapping[_Place, Endpoint]

    def completed(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint with what its definition was known to say."""
        same = self.common.get(_place(endpoint))
        if same is None or endpoint.port_name is not None:
            return endpoint
        labels = self.each.get(endpoint.identity, same).labels
        return replace(endpoint, port_name=same.port_name, labels={**labels, **endpoint.labels})


def completed(service: Service, known: Service | None) -> Service:
    """The service with names of ports and labels that are known of the same definitions."""
    if known is None or not service.definitions_pending:
        return service
    before = _known(e for e in (*known.endpoints, *known.spares) if e.task_definition)
    endpoints = tuple(map(before.completed, service.endpoints))
    spares = tuple(map(before.completed, service.spares))
    # A name that nothing of what serves has is no name of a port: nobody would be there.
    named = (e for e in endpoints or spares if e.port_name)
    names = {(e.container, e.container_port, e.protocol): e.port_name for e in named}
    default = service.default_port
    return replace(
        service,
        endpoints=endpoints,
        spares=spares,
        ports=tuple(_named(port, names) for port in service.ports),
        default_port=_named(default, names) if default is not None else None,
    )


def _known(endpoints: Iterable[Endpoint]) -> _Known:
    """Labels that all tasks of a definition have are taken for its own; tags may differ."""
    each: dict[Identity, Endpoint] = {}
    common: dict[_Place, Endpoint] = {}
    for endpoint in endpoints:
        each[endpoint.identity] = endpoint
        same = common.setdefault(_place(endpoint), endpoint)
        if same.labels != endpoint.labels:
            labels = dict(same.labels.items() & endpoint.labels.items())
            common[_place(endpoint)] = replace(same, labels=labels)
    return _Known(each, common)


def _place(endpoint: Endpoint) -> _Place:
    """The port of a definition, whichever task has it."""
    return (
        endpoint.task_definition,
        endpoint.container,
        endpoint.container_port,
        endpoint.protocol,
    )


def _named(port: Port, names: _Names) -> Port:
    if port.name is not None:
        return port
    return replace(port, name=names.get((port.container, port.container_port, port.protocol)))

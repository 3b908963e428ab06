"""Which ports a service offers, and which of them is meant where none is named.

Rule 1: the default is decided for each task definition, since a rollout may move a port or rename
its container: every task serves at the one its own revision has.
Rule 2: registry and load balancer name the port of one revision; where another one does not have
it, its only TCP port is meant.
"""

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field

from discovery.ecs.facts import Facts, is_over
from discovery.ecs.services import RegisteredPort, ServiceFacts
from discovery.ecs.tasks import Task
from discovery.health.eligibility import role_of
from discovery.model import Endpoint, Port


@dataclass(frozen=True, slots=True)
class Offer:
    """The ports of a service. `default` is `None` where no rule prefers one.

    `other_defaults` are those of task definitions that have another one, by ARN.
    """

    ports: tuple[Port, ...] = ()
    default: Port | None = None
    other_defaults: Mapping[str, Port] = field(default_factory=dict)
    is_pending: bool = False

    def role(self, endpoint: Endpoint) -> object:
        """What it stands for: equal for endpoints that a caller may take for each other."""
        default = self.other_defaults.get(endpoint.task_definition or "", self.default)
        return role_of(endpoint, default)


def offer(
    tasks: Iterable[Task], service: ServiceFacts | None, facts: Facts, running: Iterable[Endpoint]
) -> Offer:
    """What the definitions and the bindings of a service's tasks offer.

    `running` are the endpoints of all that runs, whatever its health.
    """
    tasks, running = tuple(tasks), tuple(running)
    injected = {name for task in tasks for name in task.injected}
    revisions = _revisions(tasks, service)
    ports_of = {arn: _ports(arn, injected, facts, running) for arn in revisions}
    registered = service.registered if service else None
    defaults = {
        arn: default
        for arn, ports in ports_of.items()
        if (default := _default(ports, registered, _is_settled(arn, facts))) is not None
    }
    every = tuple(
        dict.fromkeys(p for ports in (*ports_of.values(), _bound(running)) for p in ports)
    )
    default = next(iter(defaults.values()), None)
    if default is None and not revisions:
        default = _default(every, registered, is_settled=bool(every))
    return Offer(
        ports=_each_once(every),
        default=default,
        other_defaults={arn: port for arn, port in defaults.items() if port != default},
        is_pending=not all(_is_settled(arn, facts) for arn in revisions),
    )


def _revisions(tasks: Iterable[Task], service: ServiceFacts | None) -> list[str]:
    """The task definitions in use, the one to be deployed first."""
    named = (task.definition for task in tasks if not is_over(task))
    known = service.definitions if service else ()
    return list(dict.fromkeys(arn for arn in (*known, *named) if arn))


def _is_settled(arn: str, facts: Facts) -> bool:
    """Whether no later read will tell more about a definition."""
    return arn in facts.definitions or arn in facts.problems


def _ports(
    arn: str, injected: Set[str], facts: Facts, running: Iterable[Endpoint]
) -> tuple[Port, ...]:
    """The ports of a definition, in its order, else what the bindings of its tasks tell."""
    definition = facts.definitions.get(arn)
    if definition is None:
        return tuple(_bound(e for e in running if e.task_definition == arn))
    if definition.network_mode == "none":
        return ()
    containers = definition.containers.values()
    return tuple(port for c in containers if c.name not in injected for port in c.ports)


def _bound(endpoints: Iterable[Endpoint]) -> Iterator[Port]:
    for e in endpoints:
        if e.container_port is not None:
            yield Port(e.container_port, e.protocol, e.port_name, e.container)


def _each_once(ports: Iterable[Port]) -> tuple[Port, ...]:
    """A port that some definition names, by that name."""
    found: dict[tuple[str | None, int, str], Port] = {}
    for port in ports:
        key = (port.container, port.container_port, port.protocol)
        if key not in found or found[key].name is None:
            found[key] = port
    return tuple(found.values())


def _default(
    ports: tuple[Port, ...], registered: RegisteredPort | None, is_settled: bool
) -> Port | None:
    if registered is not None:
        same = [p for p in ports if (p.container_port, p.protocol) == (registered.port, "tcp")]
        exact = [p for p in same if registered.container in (None, p.container)]
        # A container that was renamed still has the port.
        found = exact or (same if len(same) == 1 else [])
        if found:
            return found[0]
        if not ports or not is_settled:
            return Port(registered.port, "tcp", None, registered.container)
    tcp = [port for port in ports if port.protocol == "tcp"]
    alone = len(set(tcp)) == 1 and len({port.container for port in ports}) == 1
    return tcp[0] if alone else None

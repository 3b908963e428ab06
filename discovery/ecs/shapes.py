"""From a task to its endpoints, for every shape a task can have.

Rule 1: what is no endpoint is an `Exclusion` with its reason; nothing is skipped silently.
Rule 2: bindings are read from every description anew, since a container restarted in place may get
another host port. Rule 3: nothing raises, whatever is missing from a task.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from discovery.ecs import ports
from discovery.ecs.definitions import ContainerDefinition
from discovery.ecs.facts import Facts, Owner, defined, interface_of, network_mode, not_running
from discovery.ecs.hosts import Public
from discovery.ecs.tasks import Binding, Container, Interface, Task
from discovery.health.eligibility import Candidate
from discovery.model import MAX_WEIGHT, Endpoint, Exclusion, Health, Placement

WEIGHT_TAG = "ecs-discovery.weight"


Where = tuple[str, int, str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What tasks give: endpoints that may be eligible, and what is out, with reasons.

    `places` are where the candidates are, where that is asked for often.
    """

    candidates: tuple[Candidate, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()
    places: tuple[Where, ...] = field(default=(), compare=False)


def endpoints_of(task: Task, owner: Owner, facts: Facts) -> Outcome:
    """The endpoints of one task, not yet judged by health."""
    problem = not_running(task) or _weightless(task, owner)
    if problem is None and not task.containers:
        problem = "ECS reports no container of it"
    if problem is not None:
        return Outcome((), (Exclusion(task.arn, problem),))
    found = [each for c in task.containers for each in _of_container(task, c, owner, facts)]
    return Outcome(
        tuple(each for each in found if isinstance(each, Candidate)),
        tuple(each for each in found if isinstance(each, Exclusion)),
    )


def place_of(endpoint: Endpoint) -> Where:
    """Address, port and protocol: nobody else can be there at the same time."""
    return endpoint.host, endpoint.port, endpoint.protocol


def _weightless(task: Task, owner: Owner) -> str | None:
    return f"its tag {WEIGHT_TAG} is 0" if _weight(task, owner) == 0 else None


def _phase(task: Task) -> tuple[Health | None, str]:
    if task.desired_status != "RUNNING":
        why = f"{task.last_status}, desired {task.desired_status}"
        return "draining", f"it is being stopped ({why})"
    if task.last_status == "ACTIVATING":
        return "starting", "it is ACTIVATING, not running yet"
    if task.last_status != "RUNNING":
        return "draining", f"it is being stopped ({task.last_status})"
    return None, ""


def _of_container(
    task: Task, container: Container, owner: Owner, facts: Facts
) -> Iterator[Candidate | Exclusion]:
    problem = _no_caller_reaches(task, container)
    if problem is not None:
        yield Exclusion(task.arn, problem, container.name)
        return
    mode = network_mode(task, facts.definitions)
    if mode == "awsvpc":
        yield from _on_interface(task, container, owner, facts)
    elif mode in ("bridge", "host"):
        yield from _on_host(task, container, owner, facts, mode)
    elif mode == "none":
        yield Exclusion(task.arn, "its network mode is none", container.name)
    else:
        yield Exclusion(task.arn, _unread(task, facts), container.name)


def _no_caller_reaches(task: Task, container: Container) -> str | None:
    if task.is_injected(container.name):
        return "the container is not part of the service: ECS or an agent put it there"
    if container.status is None:
        return "ECS does not report the container's status"
    return None if container.status == "RUNNING" else f"the container is {container.status}"


def _on_interface(
    task: Task, container: Container, owner: Owner, facts: Facts
) -> Iterator[Candidate | Exclusion]:
    definition = defined(task, container, facts)
    if definition is None:
        yield Exclusion(task.arn, _unread(task, facts), container.name)
        return
    if not definition.ports:
        yield Exclusion(task.arn, "the container maps no port", container.name)
        return
    yield from _cut(task, container, definition.cut_ranges)
    interface = interface_of(task, container) or Interface()
    host, other, problem = _interface_address(interface, facts)
    for port in definition.ports:
        if host is None:
            yield Exclusion(task.arn, problem, container.name, port.container_port)
            continue
        key = (port.container_port, port.protocol)
        spot = ports.Spot(host, port.container_port, is_own_address=True, other_host=other)
        yield _candidate(task, container, owner, facts, key, spot)


def _interface_address(interface: Interface, facts: Facts) -> tuple[str | None, str | None, str]:
    """The address to call, the other one of a dual stack, and why there is none."""
    if interface.status not in (None, "ATTACHED"):
        return None, None, f"its network interface is {interface.status}, not ATTACHED"
    ipv4, problem = interface.ipv4, "its network interface has no address"
    if facts.public is not None:
        known = facts.public.get(interface.network_interface_id or "", Public())
        ipv4, problem = known.ipv4, known.problem or "its public address is not known"
    found = [ipv4, interface.ipv6] if facts.preferred == "ipv4" else [interface.ipv6, ipv4]
    known_addresses = [address for address in found if address]
    if not known_addresses:
        return None, None, problem
    return known_addresses[0], known_addresses[1] if len(known_addresses) > 1 else None, ""


def _on_host(
    task: Task, container: Container, owner: Owner, facts: Facts, mode: str
) -> Iterator[Candidate | Exclusion]:
    bound = _bindings(container, defined(task, container, facts) if mode == "host" else None)
    if not bound:
        yield Exclusion(task.arn, _no_bindings(task, container, facts), container.name)
        return
    definition = defined(task, container, facts)
    cut = (*ports.cut_ranges(container.bindings), *(definition.cut_ranges if definition else ()))
    yield from _cut(task, container, tuple(dict.fromkeys(cut)))
    host = facts.hosts.get(task.instance or "")
    addresses = host.machine.addresses if host else {}
    unknown = "" if addresses else _unknown_host(task, facts)
    for key, bindings in bound.items():
        spot = ports.spot(bindings, addresses, facts.preferred, unknown)
        if spot.host is None:
            yield Exclusion(task.arn, spot.problem, container.name, key[0])
            continue
        yield _candidate(task, container, owner, facts, key, spot)
        yield from _spare(task, container, key, bindings)


def _bindings(
    container: Container, definition: ContainerDefinition | None
) -> dict[ports.PortKey, tuple[Binding, ...]]:
    """What is bound, and in host mode what its definition says, which is bound as it is."""
    bound = ports.by_port(container.bindings)
    for port in definition.ports if definition else ():
        key = (port.container_port, port.protocol)
        single = Binding(port.container_port, port.container_port, port.protocol)
        bound.setdefault(key, (single,))
    return bound


def _spare(
    task: Task, container: Container, key: ports.PortKey, bindings: tuple[Binding, ...]
) -> Iterator[Exclusion]:
    """One container port bound twice to the same address: one endpoint, and the rest said."""
    used: dict[str | None, int] = {}
    for binding in sorted(bindings, key=lambda b: b.host_port or 0):
        first = used.setdefault(binding.bind_ip, binding.host_port or 0)
        if binding.host_port != first:
            reason = f"host port {binding.host_port} is another one beside {first}"
            yield Exclusion(task.arn, reason, container.name, key[0])


def _no_bindings(task: Task, container: Container, facts: Facts) -> str:
    definition = defined(task, container, facts)
    if definition is not None and not definition.ports:
        return "the container maps no port"
    if definition is None:
        return "ECS reports no port binding of the container"
    return "ECS does not report the bindings of its ports yet"


def _unknown_host(task: Task, facts: Facts) -> str:
    if task.instance is None:
        return "ECS does not report which container instance it is on"
    host = facts.hosts.get(task.instance)
    if host is not None and host.machine.problem:
        return host.machine.problem
    short = task.instance.rpartition("/")[2]
    return facts.problems.get(
        task.instance, f"the address of container instance {short} is unknown"
    )


def _unread(task: Task, facts: Facts) -> str:
    if task.definition is None:
        return "ECS does not report its task definition"
    definition = facts.definitions.get(task.definition)
    if definition is not None:
        return "its task definition does not have this container"
    return facts.problems.get(task.definition, "its task definition is not read yet")


def _cut(task: Task, container: Container, cut: tuple[str, ...]) -> Iterator[Exclusion]:
    for written in cut:
        reason = f"of ports {written} only the first {ports.RANGE_LIMIT} are offered"
        yield Exclusion(task.arn, reason, container.name)


def _candidate(
    task: Task,
    container: Container,
    owner: Owner,
    facts: Facts,
    key: ports.PortKey,
    spot: ports.Spot,
) -> Candidate:
    container_port, protocol = key
    definition = facts.definitions.get(task.definition or "")
    known = defined(task, container, facts)
    host = facts.hosts.get(task.instance or "")
    phase, reason = _phase(task)
    endpoint = Endpoint(
        host=spot.host or "",
        port=spot.port,
        protocol=protocol,
        container_port=container_port,
        port_name=definition.port_name(container.name, *key) if definition else None,
        container=container.name,
        task_arn=task.arn,
        task_definition=task.definition,
        cluster=owner.cluster,
        service=owner.name,
        zone=task.zone or (host.zone if host else None),
        weight=_weight(task, owner),
        labels=_labels(known, owner.tags, task.tags),
    )
    return Candidate(
        endpoint=endpoint,
        check=(task.arn, container.name, container.runtime_id),
        reported=container.health,
        has_health_check=known is not None and known.has_health_check,
        phase=phase,
        phase_reason=reason,
        is_own_address=spot.is_own_address,
        other_address=spot.other_host,
        placement=Placement(
            task.started_at, task.created_at, task.instance, host.agent_connected if host else None
        ),
    )


def _weight(task: Task, owner: Owner) -> float:
    """The tag of the task, else of the service; what is no number over 0 counts as not set."""
    for tags in (task.tags, owner.tags):
        if WEIGHT_TAG not in tags:
            continue
        try:
            weight = float(tags[WEIGHT_TAG])
        except ValueError:
            continue
        if math.isfinite(weight) and weight >= 0:
            return min(weight, MAX_WEIGHT)
    return 1.0


def _labels(
    container: ContainerDefinition | None, service: Mapping[str, str], task: Mapping[str, str]
) -> Mapping[str, str]:
    return {**(container.labels if container else {}), **service, **task}

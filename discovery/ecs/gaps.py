"""What is not known yet, of all that tasks depend on; and which services that holds back.

Known means read, or refused by AWS for a reason: then the reason stands where the value would.
"""

from collections import Counter
from collections.abc import Iterable, Set

from discovery.ecs.facts import is_over, needs_definition, needs_host, network_mode, not_running
from discovery.ecs.memory import Memory, service_key
from discovery.ecs.services import ServiceFacts
from discovery.ecs.tasks import Task
from discovery.errors import SourceError


def unsettled(memory: Memory, tasks: Iterable[Task]) -> list[Task]:
    """Those of the tasks of which anything may be unknown: new ones, and changed ones."""
    settled = memory.settled
    return [task for task in tasks if settled.get(task.arn) is not task]


def settle(memory: Memory, tasks: Iterable[Task], public: bool) -> None:
    """Remember of which tasks everything is known, for as long as they are what they are now."""
    for task in tasks:
        known = memory.services.get(task.service or "")
        if known is None or is_over(task) or _is_new(memory, task, known):
            continue
        if not _lacking(memory, task, public):
            memory.settled[task.arn] = task


def definitions(memory: Memory, tasks: Iterable[Task]) -> set[str]:
    """Definitions that addresses or ports depend on."""
    return _texts(t.definition for t in tasks if needs_definition(t, memory.definitions))


def named_definitions(memory: Memory, tasks: Iterable[Task], names: Set[str] | None) -> set[str]:
    """Definitions that ports, labels and health checks are named in: of tasks and of services."""
    folded = None if names is None else {name.lower() for name in names}
    services = memory.services.items()
    facts = [known for name, known in services if folded is None or name.lower() in folded]
    of_services = {arn for known in facts for arn in known.definitions}
    return of_services | _texts({t.definition for t in tasks if not is_over(t)})


def instances(memory: Memory, tasks: Iterable[Task]) -> set[str]:
    """Container instances that tasks are at the address of.

    Also where only an unread definition can tell: asking for both at once saves a round.
    """
    modes = ("bridge", "host", None)
    running = (task for task in tasks if not not_running(task))
    return _texts(t.instance for t in running if network_mode(t, memory.definitions) in modes)


def interfaces(tasks: Iterable[Task]) -> set[str]:
    """Network interfaces whose public addresses count."""
    running = (task for task in tasks if not not_running(task))
    return _texts(i.network_interface_id for task in running for i in task.attachments)


def services(memory: Memory, tasks: Iterable[Task], now: float) -> set[str]:
    """Services that are new to us, or of which a deployment new to us has started a task."""
    found = set()
    for task in tasks:
        if is_over(task) or task.service is None:
            continue
        known = memory.services.get(task.service)
        if known is None and service_key(task.service) not in memory.refused:
            found.add(task.service)
        if known is not None and known.read_at != now and _is_new(memory, task, known):
            found.add(task.service)
    return found


def accept_unknown_deployments(memory: Memory, tasks: Iterable[Task], now: float) -> None:
    """An old deployment's last tasks outlive it: its service need not be read each time."""
    for task in tasks:
        known = memory.services.get(task.service or "")
        if known is not None and known.read_at == now and _is_new(memory, task, known):
            memory.refuse((task.started_by or "",), "the deployment is over", now)


def perhaps_incomplete(memory: Memory, now: float) -> set[str]:
    """Names that tasks which nobody could describe may belong to.

    A service is whole when as many of its tasks are described as it counts itself, now: an older
    count proves nothing.
    """
    running = Counter(t.service for t in memory.tasks.values() if t.desired_status == "RUNNING")
    counted = {name: s.running for name, s in memory.services.items() if s.read_at == now}
    whole = {name for name, count in counted.items() if running[name] >= count}
    return (memory.names_of_tasks() | memory.known_services()) - whole


def blocked(memory: Memory, public: bool) -> set[str]:
    """Names for which something that addresses or ports depend on could not be read."""
    unread = memory.service_names - memory.services.keys()
    found = {name for name in unread if service_key(name) not in memory.refused}
    names_of = memory.namer()
    for task in unsettled(memory, memory.tasks.values()):
        lacks = (key not in memory.refused for key in _lacking(memory, task, public))
        if any(lacks) or _lacks_service(memory, task):
            found |= names_of(task)
    return found


def refusals(memory: Memory, public: bool) -> dict[str, SourceError]:
    """Names of tasks that cannot be told because a call was refused, and why it was.

    Nobody knows whether such a task serves, so that nothing serves is not to be believed.
    """
    refused = {key: refusal.error for key, refusal in memory.refused.items() if refusal.error}
    found: dict[str, SourceError] = {}
    if not refused:
        return found
    names_of = memory.namer()
    for task in memory.tasks.values():
        for key in _lacking(memory, task, public):
            if key in refused:
                found.update(dict.fromkeys(names_of(task), refused[key]))
    return found


def _is_new(memory: Memory, task: Task, known: ServiceFacts) -> bool:
    by = task.started_by
    return by is not None and by not in known.deployments and by not in memory.refused


def _lacks_service(memory: Memory, task: Task) -> bool:
    name = task.service
    if name is None or name in memory.services:
        return False
    return service_key(name) not in memory.refused


def _lacking(memory: Memory, task: Task, public: bool) -> list[str]:
    """ARNs and ids of what its address or ports depend on and that is not known."""
    if needs_definition(task, memory.definitions):
        return [task.definition or ""]
    lacking = [i for i in interfaces((task,)) if i not in memory.public] if public else []
    if not needs_host(task, memory.definitions):
        return lacking
    instance = memory.instances.get(task.instance or "")
    if instance is None:
        return [*lacking, task.instance or ""]
    if instance.machine is not None and instance.machine not in memory.machines:
        lacking.append(instance.machine)
    return lacking


def _texts(values: Iterable[str | None]) -> set[str]:
    return {value for value in values if value}

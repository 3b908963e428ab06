"""Finding out what tasks do not tell: services, definitions, instances, machines, public addresses.

Rule 1: what a permission is missing for is refused and said once; it never fails the cluster.
Rule 2: what fails in passing is not remembered; what depends on it stays as it was.
Rule 3: that a service is gone is believed where AWS says so, or where it twice does not tell of it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, TypeVar

from discovery.ecs import calls, hosts
from discovery.ecs.calls import PASSING, Call, Steps
from discovery.ecs.definitions import definition_of
from discovery.ecs.fields import Document
from discovery.ecs.memory import NO_SUCH_SERVICE, Memory, Scope, service_key
from discovery.ecs.services import ServiceFacts, gone_in, names_in, services_in
from discovery.ecs.shifts import shifts
from discovery.errors import AccessDenied, SourceError

Thing = TypeVar("Thing")


@dataclass(slots=True)
class Lookups:
    """One load's look-ups into the memory; `errors` are what failed in passing.

    `unread` are services that could not be read. `doubts` are services whose shares of the traffic
    are those of an earlier read, and why: that no task of theirs serves is not believed.
    """

    scope: Scope
    memory: Memory
    now: float
    errors: list[SourceError] = field(default_factory=list)
    unread: set[str] = field(default_factory=set)
    doubts: dict[str, SourceError] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)

    def service_names(self) -> Steps[None]:
        """Learn the names of all services of the cluster."""
        call = self._ecs("ListServices", "know the services", calls.SERVICES, maxResults=100)
        listing = yield from calls.pages(call)
        self.memory.names_at = self.now
        if listing.error is not None:
            self._names_failed(listing.error)
            return
        names = frozenset(name for page in listing.pages for name in names_in(page))
        self.memory.service_names = names
        for name in self.memory.services.keys() - names:
            self.memory.doubted_services.setdefault(name, self.now)

    def services(self, names: Iterable[str], reason: str, patience_s: float = inf) -> Steps[None]:
        """Describe services, each once; those that do not exist are forgotten."""
        oldest_first = sorted(set(names) - self.answered, key=lambda n: (self._read_at(n), n))
        chunks = _chunks(oldest_first, 10)
        asked = [self._describe_services(chunk, reason, patience_s) for chunk in chunks]
        answers = yield from calls.all_of(asked)
        found: dict[str, ServiceFacts] = {}
        for chunk, answer in zip(chunks, answers, strict=True):
            if isinstance(answer, SourceError):
                unknown = [name for name in chunk if name not in self.memory.services]
                self._remember(answer, [service_key(name) for name in unknown])
                continue
            self.answered.update(chunk)
            told = services_in(answer, self.now)
            self._lose(set(chunk) - told.keys(), gone_in(answer))
            found.update(told)
        yield from self._keep(found)

    def definitions(self, arns: Iterable[str], reason: str, patience_s: float = inf) -> Steps[None]:
        """Read definitions that are neither known nor refused."""
        wanted = sorted(arn for arn in set(arns) if self.memory.is_unread(arn))
        asked = [
            Call(
                "DescribeTaskDefinition",
                {"taskDefinition": arn},
                reason,
                calls.DEFINITIONS,
                patience_s=patience_s,
            )
            for arn in wanted
        ]
        for arn, answer in zip(wanted, (yield from calls.all_of(asked)), strict=True):
            if isinstance(answer, SourceError):
                self._remember(answer, (arn,))
                continue
            found = definition_of(answer)
            if found is None:
                self.memory.refuse((arn,), "ECS gives no such task definition", self.now)
                continue
            self.memory.definitions[arn] = found

    def instances(self, arns: Iterable[str], reason: str, patience_s: float = inf) -> Steps[None]:
        """Describe container instances."""
        chunks = _chunks(sorted(set(arns)), 100)
        asked = [self._describe_instances(chunk, reason, patience_s) for chunk in chunks]
        for chunk, answer in zip(chunks, (yield from calls.all_of(asked)), strict=True):
            unknown = [arn for arn in chunk if arn not in self.memory.instances]
            if isinstance(answer, SourceError):
                self._remember(answer, unknown)
                continue
            found = hosts.instances_in(answer)
            self.memory.instances.update(found)
            reported = hosts.missing_in(answer)
            untold = {arn for arn in unknown if arn not in found}
            missing = {arn for arn in untold if arn.rpartition("/")[2] in reported}
            self.memory.refuse(missing, "ECS knows no such container instance", self.now)
            self._miss(untold - missing, "container instances")

    def machines(self, again: bool) -> Steps[None]:
        """Find the machines of all known instances: in EC2, or in Systems Manager for `mi-` ids.

        `again` asks for those in Systems Manager whose addresses are known, too: they may change.
        """
        named = sorted({i.machine for i in self.memory.instances.values() if i.machine})
        known = self.memory.machines.keys() | self.memory.refused.keys()
        in_ec2 = [m for m in named if not m.startswith("mi-") and m not in known]
        managed = [m for m in named if m.startswith("mi-") and (again or m not in known)]
        steps = [self._in_ec2(chunk) for chunk in _chunks(in_ec2, 200)]
        steps += [self._managed(chunk) for chunk in _chunks(managed, 50)]
        yield from calls.together(*steps)

    def public_addresses(self, interfaces: Iterable[str]) -> Steps[None]:
        """Find the public addresses of network interfaces."""
        known = self.memory.public.keys() | self.memory.refused.keys()
        chunks = _chunks(sorted(set(interfaces) - known), 200)
        yield from calls.together(*(self._public(chunk) for chunk in chunks))

    def blame(self, error: SourceError) -> None:
        """Note an error of an optional call: a missing permission once, others for this load."""
        if isinstance(error, AccessDenied):
            self.memory.notices[str(error)] = self.now
        elif not isinstance(error, calls.Postponed):
            self.errors.append(error)

    def _read_at(self, name: str) -> float:
        known = self.memory.services.get(name)
        return known.read_at if known else 0.0

    def _ecs(self, operation: str, reason: str, group: str, **parameters: Any) -> Call:
        return Call(operation, {"cluster": self.scope.cluster, **parameters}, reason, group)

    def _describe_services(self, chunk: Sequence[str], reason: str, patience_s: float) -> Call:
        call = self._ecs(
            "DescribeServices", reason, calls.SERVICES, services=list(chunk), include=["TAGS"]
        )
        return replace(call, patience_s=patience_s)

    def _describe_instances(self, chunk: Sequence[str], reason: str, patience_s: float) -> Call:
        call = self._ecs(
            "DescribeContainerInstances",
            reason,
            calls.CLUSTER_RESOURCES,
            containerInstances=list(chunk),
        )
        return replace(call, patience_s=patience_s)

    def _lose(self, absent: Set[str], gone: Set[str]) -> None:
        """Forget services that are gone, and doubt that those are which ECS says nothing of."""
        memory = self.memory
        doubted = memory.doubted_services
        believed = {n for n in absent if n in gone or doubted.get(n, self.now) != self.now}
        for name in believed:
            memory.services.pop(name, None)
            doubted.pop(name, None)
        memory.service_names -= believed
        memory.refuse(map(service_key, believed), NO_SUCH_SERVICE, self.now)
        doubted.update(dict.fromkeys(absent - believed, self.now))
        self._miss(absent - believed, "services")

    def _miss(self, untold: Set[str], what: str) -> None:
        if untold:
            text = f"ECS says nothing of {len(untold)} {what}: waiting for a second read"
            self.errors.append(SourceError(text))

    def _keep(self, found: Mapping[str, ServiceFacts]) -> Steps[None]:
        """Remember services, those whose traffic shifts together with their shares of it."""
        shifting = {name: facts for name, facts in found.items() if facts.is_shifting}
        read = yield from shifts(self.scope, self.memory, shifting, self.now)
        for name, facts in found.items():
            before = self.memory.services.get(name)
            same = before is not None and facts.is_shifting_as(before)
            error = read.failed.get(name)
            if error is not None and not same:
                self.unread.add(name)
                self.errors.append(error)
                continue
            if error is not None:
                self.doubts[name] = error
                self.blame(error)
            told = read.told.get(name) or (before.told if same and before else None)
            self.memory.services[name] = replace(facts, traffic=told) if told else facts
            self.memory.doubted_services.pop(name, None)

    def _in_ec2(self, machines: Sequence[str]) -> Steps[None]:
        # One unknown id among InstanceIds fails the whole call; a filter does not match it.
        call = _ec2("DescribeInstances", "instance-id", machines, "find the address of hosts")
        found = yield from self._found(call, machines, hosts.ec2_machines_in)
        self._keep_machines(machines, found, "EC2 knows no instance {}")

    def _managed(self, machines: Sequence[str]) -> Steps[None]:
        call = Call(
            "DescribeInstanceInformation",
            {"Filters": [{"Key": "InstanceIds", "Values": list(machines)}], "MaxResults": 50},
            "find the address of hosts outside of AWS",
            calls.SSM,
            service="ssm",
        )
        found = yield from self._found(call, machines, hosts.managed_machines_in)
        self._keep_machines(machines, found, "Systems Manager knows no machine {}")

    def _keep_machines(
        self, asked: Sequence[str], found: dict[str, hosts.Machine] | None, unknown: str
    ) -> None:
        for name in asked if found is not None else ():
            machine = (found or {}).get(name, hosts.Machine(problem=unknown.format(name)))
            if machine.problem:
                self.memory.refuse((name,), machine.problem, self.now)
                continue
            self.memory.machines[name] = machine

    def _public(self, interfaces: Sequence[str]) -> Steps[None]:
        call = _ec2(
            "DescribeNetworkInterfaces",
            "network-interface-id",
            interfaces,
            "find the public address of tasks",
        )
        found = yield from self._found(call, interfaces, hosts.public_addresses_in)
        for name in interfaces if found is not None else ():
            known = (found or {}).get(name, hosts.Public(problem=f"EC2 knows no interface {name}"))
            if known.problem:
                self.memory.refuse((name,), known.problem, self.now)
                continue
            self.memory.public[name] = known

    def _found(
        self, call: Call, keys: Sequence[str], read: Callable[[Document], dict[str, Thing]]
    ) -> Steps[dict[str, Thing] | None]:
        listing = yield from calls.pages(call)
        if listing.error is not None:
            self._remember(listing.error, keys)
            return None
        return {name: thing for page in listing.pages for name, thing in read(page).items()}

    def _remember(self, error: SourceError, keys: Sequence[str]) -> None:
        if not isinstance(error, PASSING):
            self.memory.refuse_call(keys, error, self.now)
        if isinstance(error, (*PASSING, AccessDenied)):
            self.blame(error)

    def _names_failed(self, error: SourceError) -> None:
        if isinstance(error, PASSING):
            self.memory.names_at = None
        self.blame(error)


def _chunks(items: Sequence[str], size: int) -> list[Sequence[str]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _ec2(operation: str, name: str, values: Sequence[str], reason: str) -> Call:
    filters = [{"Name": name, "Values": list(values)}]
    return Call(operation, {"Filters": filters}, reason, calls.EC2, service="ec2")

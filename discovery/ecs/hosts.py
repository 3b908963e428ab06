"""Where container instances and network interfaces are: addresses, which ECS itself does not tell.

A container instance names its machine (`i-…`, or `mi-…` outside of AWS); EC2 knows the addresses
of the former, Systems Manager those of the latter.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from discovery.ecs.fields import Document, address, flag, number, pairs, part, rows, text
from discovery.ecs.tasks import Family


@dataclass(frozen=True, slots=True)
class Instance:
    """A container instance: the id of its machine and its state, `ACTIVE` or `DRAINING`.

    `agent_connected` is whether its agent is in touch with ECS. `version` grows with each change.
    """

    arn: str
    machine: str | None = None
    status: str | None = None
    zone: str | None = None
    agent_connected: bool | None = None
    version: int | None = None

    @property
    def is_external(self) -> bool:
        """Whether the machine is managed by Systems Manager, outside of EC2 (ECS Anywhere)."""
        return (self.machine or "").startswith("mi-")


@dataclass(frozen=True, slots=True)
class Machine:
    """Addresses of a machine; without any, `problem` says why."""

    ipv4: str | None = None
    ipv6: str | None = None
    zone: str | None = None
    problem: str = ""

    @property
    def addresses(self) -> Mapping[Family, str]:
        """The known addresses by family."""
        known: dict[Family, str] = {}
        if self.ipv4:
            known["ipv4"] = self.ipv4
        if self.ipv6:
            known["ipv6"] = self.ipv6
        return known


@dataclass(frozen=True, slots=True)
class Host:
    """A container instance together with its machine, as a task on it needs it."""

    machine: Machine
    zone: str | None = None
    agent_connected: bool | None = None
    machine_id: str | None = None


@dataclass(frozen=True, slots=True)
class Public:
    """The public address of a network interface; without one, `problem` says why."""

    ipv4: str | None = None
    problem: str = ""


def instances_in(answer: Document) -> dict[str, Instance]:
    """The container instances in an answer of DescribeContainerInstances, by ARN."""
    found = (instance_of(row) for row in rows(answer, "containerInstances"))
    return {instance.arn: instance for instance in found if instance is not None}


def instance_of(document: Document) -> Instance | None:
    """One container instance; `None` for a document that does not say which it is."""
    arn = text(document, "containerInstanceArn")
    if arn is None:
        return None
    return Instance(
        arn=arn,
        machine=text(document, "ec2InstanceId"),
        status=text(document, "status"),
        zone=pairs(rows(document, "attributes")).get("ecs.availability-zone") or None,
        agent_connected=flag(document, "agentConnected"),
        version=number(document, "version"),
    )


def missing_in(answer: Document) -> set[str]:
    """Ids of the container instances that DescribeContainerInstances says do not exist."""
    failures = [row for row in rows(answer, "failures") if text(row, "reason") == "MISSING"]
    return {(text(row, "arn") or "").rpartition("/")[2] for row in failures}


def ec2_machines_in(answer: Document) -> dict[str, Machine]:
    """The machines in an answer of EC2 DescribeInstances, by instance id."""
    found = {}
    for reservation in rows(answer, "Reservations"):
        for row in rows(reservation, "Instances"):
            machine = text(row, "InstanceId")
            if machine is not None:
                found[machine] = _ec2_machine(machine, row)
    return found


def managed_machines_in(answer: Document) -> dict[str, Machine]:
    """The machines in an answer of SSM DescribeInstanceInformation, by `mi-` id."""
    found = {}
    for row in rows(answer, "InstanceInformationList"):
        machine = text(row, "InstanceId")
        if machine is None:
            continue
        known = address(row.get("IPAddress"))
        found[machine] = Machine(
            ipv4=known if known and ":" not in known else None,
            ipv6=known if known and ":" in known else None,
            problem="" if known else f"Systems Manager gives no address for {machine}",
        )
    return found


def public_addresses_in(answer: Document) -> dict[str, Public]:
    """The interfaces in an answer of EC2 DescribeNetworkInterfaces, by id."""
    found = {}
    for row in rows(answer, "NetworkInterfaces"):
        interface = text(row, "NetworkInterfaceId")
        if interface is not None:
            known = address(part(row, "Association").get("PublicIp"))
            problem = "" if known else f"network interface {interface} has no public address"
            found[interface] = Public(known, problem)
    return found


def _ec2_machine(machine: str, row: Document) -> Machine:
    first = min(
        rows(row, "NetworkInterfaces"),
        key=lambda nic: number(part(nic, "Attachment"), "DeviceIndex") or 0,
        default={},
    )
    ipv4 = address(row.get("PrivateIpAddress")) or address(first.get("PrivateIpAddress"))
    ipv6 = address(row.get("Ipv6Address")) or next(
        (a for item in rows(first, "Ipv6Addresses") if (a := address(item.get("Ipv6Address")))),
        None,
    )
    state = text(part(row, "State"), "Name")
    return Machine(
        ipv4=ipv4,
        ipv6=ipv6,
        zone=text(part(row, "Placement"), "AvailabilityZone"),
        problem="" if ipv4 or ipv6 else _no_address(machine, state),
    )


def _no_address(machine: str, state: str | None) -> str:
    is_in_state = f"is {state} and " if state else ""
    return f"EC2 instance {machine} {is_in_state}has no address"

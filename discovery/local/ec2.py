"""EC2 DescribeInstances and DescribeNetworkInterfaces: the addresses behind ECS records."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from discovery.local.errors import ApiError
from discovery.local.state import ENDED, Document, Instance, Task
from discovery.local.wire import listed
from discovery.local.world import World

_FILTER = re.compile(r"Filter\.(\d+)\.Name$")
_VALUES_LIMIT = 200


def describe_instances(world: World, form: Document) -> Document:
    """DescribeInstances: unknown ids fail the call, filters that match nothing do not."""
    found = [each for each in world.state.instances() if not each.external]
    ids = listed(form, "InstanceId")
    if ids:
        known = {each.ec2_id: each for each in found}
        missing = [each for each in ids if each not in known]
        malformed = [each for each in missing if not re.match(r"i-[0-9a-f]{8,17}$", each)]
        if malformed:
            raise ApiError("InvalidInstanceID.Malformed", f'Invalid id: "{malformed[0]}"')
        if missing:
            listing = ", ".join(missing)
            plural = "s" if len(missing) > 1 else ""
            verb = "do" if plural else "does"
            raise ApiError(
                "InvalidInstanceID.NotFound",
                f"The instance ID{plural} '{listing}' {verb} not exist",
            )
        found = [known[each] for each in ids]
    for name, values in filters(form):
        found = [each for each in found if _matches(_facts(each), name, values)]
    page, token = _page(world, "DescribeInstances", form, found)
    reservations = [_reservation(world, each) for each in page]
    return {"reservationSet": reservations} | ({"nextToken": token} if token else {})


def filters(form: Document) -> list[tuple[str, list[str]]]:
    """The filters of an EC2 form, in order."""
    numbers = sorted(int(m[1]) for key in form if (m := _FILTER.match(key)))
    found = []
    for number in numbers:
        values = listed(form, f"Filter.{number}.Value")
        if len(values) > _VALUES_LIMIT:
            raise ApiError("FilterLimitExceeded", "The maximum number of filter values is 200")
        found.append((str(form[f"Filter.{number}.Name"]), values))
    return found


def _matches(facts: dict[str, str], name: str, values: list[str]) -> bool:
    if name not in facts:
        if name.startswith("tag:"):
            return False
        raise ApiError("InvalidParameterValue", f"The filter '{name}' is invalid")
    return any(fnmatchcase(facts[name], value) for value in values)


def _facts(instance: Instance) -> dict[str, str]:
    tags = {f"tag:{each['key']}": str(each.get("value", "")) for each in instance.tags}
    return tags | {
        "instance-id": instance.ec2_id,
        "private-ip-address": instance.address,
        "availability-zone": instance.zone,
        "instance-state-name": "running",
        "subnet-id": instance.subnet,
    }


def _page(
    world: World, operation: str, form: Document, found: list[Any]
) -> tuple[list[Any], str | None]:
    size = int(form.get("MaxResults") or 1000)
    rest = {k: v for k, v in form.items() if k not in ("MaxResults", "NextToken")}
    token = form.get("NextToken")
    start = world.run.pages.position(operation, rest, str(token)) if token else 0
    end = start + size
    more = world.run.pages.token(operation, rest, end) if len(found) > end else None
    return found[start:end], more


def _reservation(world: World, instance: Instance) -> Document:
    return {
        "reservationId": f"r-{instance.id[:17]}",
        "ownerId": world.state.account,
        "groupSet": [],
        "instancesSet": [_instance(world, instance)],
    }


def _instance(world: World, instance: Instance) -> Document:
    dashed = instance.address.replace(".", "-")
    suffix = _dns_suffix(world.state.region)
    launched = datetime.fromtimestamp(instance.registered_at, UTC)
    addresses = [{"ipv6Address": instance.ipv6, "isPrimaryIpv6": True}] if instance.ipv6 else []
    return {
        "instanceId": instance.ec2_id,
        "imageId": "ami-0ac7415dd546fb485",
        "instanceState": {"code": 16, "name": "running"},
        "privateDnsName": f"ip-{dashed}.{suffix}",
        "dnsName": "",
        "instanceType": "t3.medium",
        "launchTime": launched.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "placement": {"availabilityZone": instance.zone, "groupName": "", "tenancy": "default"},
        "subnetId": instance.subnet,
        "vpcId": world.vpc,
        "privateIpAddress": instance.address,
        "ipv6Address": instance.ipv6,
        "architecture": "x86_64",
        "networkInterfaceSet": [
            {
                "networkInterfaceId": f"eni-{instance.id[:17]}",
                "subnetId": instance.subnet,
                "vpcId": world.vpc,
                "status": "in-use",
                "privateIpAddress": instance.address,
                "ipv6AddressesSet": addresses,
                "attachment": {"deviceIndex": 0, "status": "attached"},
            }
        ],
        "tagSet": instance.tags,
    }


def _dns_suffix(region: str) -> str:
    return "ec2.internal" if region == "us-east-1" else f"{region}.compute.internal"


def describe_network_interfaces(world: World, form: Document) -> Document:
    """DescribeNetworkInterfaces: the interfaces of awsvpc tasks, with their public address."""
    attached = [task for task in world.state.tasks() if task.eni and task.status != ENDED]
    ids = listed(form, "NetworkInterfaceId")
    if ids:
        known = {task.eni.id: task for task in attached if task.eni}
        missing = [each for each in ids if each not in known]
        if missing:
            raise ApiError(
                "InvalidNetworkInterfaceID.NotFound",
                f"The networkInterface ID '{missing[0]}' does not exist",
            )
        attached = [known[each] for each in ids]
    for name, values in filters(form):
        attached = [each for each in attached if _matches(_eni_facts(each), name, values)]
    page, token = _page(world, "DescribeNetworkInterfaces", form, attached)
    found = [_interface(world, task) for task in page]
    return {"networkInterfaceSet": found} | ({"nextToken": token} if token else {})


def _eni_facts(task: Task) -> dict[str, str]:
    assert task.eni is not None
    return {
        "network-interface-id": task.eni.id,
        "private-ip-address": task.eni.address,
        "addresses.private-ip-address": task.eni.address,
        "subnet-id": task.eni.subnet,
        "availability-zone": str(task.zone),
        "status": "in-use",
    }


def _interface(world: World, task: Task) -> Document:
    eni = task.eni
    assert eni is not None
    association = None
    if eni.public_address is not None:
        association = {
            "ipOwnerId": "amazon",
            "publicDnsName": f"ec2-{eni.public_address.replace('.', '-')}.compute-1.amazonaws.com",
            "publicIp": eni.public_address,
        }
    dns_name = f"ip-{eni.address.replace('.', '-')}.{_dns_suffix(world.state.region)}"
    addresses = {
        "privateIpAddress": eni.address,
        "privateDnsName": dns_name,
        "primary": True,
        "association": association,
    }
    return {
        "networkInterfaceId": eni.id,
        "subnetId": eni.subnet,
        "vpcId": world.vpc,
        "availabilityZone": task.zone,
        "description": f"arn:aws:ecs:{world.state.region}:{world.state.account}:attachment/"
        f"{eni.attachment_id}",
        "ownerId": world.state.account,
        "requesterManaged": True,
        "status": "in-use",
        "macAddress": eni.mac,
        "privateIpAddress": eni.address,
        "privateDnsName": dns_name,
        "sourceDestCheck": True,
        "groupSet": [{"groupId": world.security_group, "groupName": "default"}],
        "association": association,
        "privateIpAddressesSet": [addresses],
        "ipv6AddressesSet": [{"ipv6Address": eni.ipv6}] if eni.ipv6 else [],
        "interfaceType": "interface",
    }


OPERATIONS = {
    "DescribeInstances": describe_instances,
    "DescribeNetworkInterfaces": describe_network_interfaces,
}

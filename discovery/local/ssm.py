"""SSM DescribeInstanceInformation: the only address source for ECS Anywhere hosts (`mi-…`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from discovery.local.errors import ApiError
from discovery.local.state import Document, Instance
from discovery.local.world import World

_DEFAULT, _SMALLEST, _LARGEST = 10, 5, 50


def describe_instance_information(world: World, request: Document) -> Document:
    """DescribeInstanceInformation, filtered by `InstanceIds`, `PingStatus` or `ResourceType`."""
    size = request.get("MaxResults") or _DEFAULT
    if not isinstance(size, int) or not _SMALLEST <= size <= _LARGEST:
        raise ApiError(
            "ValidationException",
            "1 validation error detected: Value at 'maxResults' failed to satisfy constraint: "
            f"Member must be between {_SMALLEST} and {_LARGEST}",
        )
    found = [_information(each) for each in world.state.instances() if each.external]
    for name, values in _filters(request):
        if name not in ("InstanceId", "PingStatus", "ResourceType"):
            raise ApiError("InvalidFilterKey", f"The filter key {name} is not valid.")
        found = [each for each in found if each[name] in values]
    rest = {k: v for k, v in request.items() if k not in ("MaxResults", "NextToken")}
    start = 0
    if request.get("NextToken"):
        start = _position(world, rest, str(request["NextToken"]))
    answer: Document = {"InstanceInformationList": found[start : start + size]}
    if len(found) > start + size:
        answer["NextToken"] = world.run.pages.token(_NAME, rest, start + size)
    return answer


_NAME = "DescribeInstanceInformation"


def _position(world: World, rest: Document, token: str) -> int:
    try:
        position: int = world.run.pages.position(_NAME, rest, token)
        return position
    except ApiError as error:
        raise ApiError("InvalidNextToken", "The specified token is not valid.") from error


def _filters(request: Document) -> Iterable[tuple[str, list[Any]]]:
    for given in request.get("Filters") or ():
        yield _singular(str(given.get("Key"))), given.get("Values") or []
    for given in request.get("InstanceInformationFilterList") or ():
        yield _singular(str(given.get("key"))), given.get("valueSet") or []


def _singular(name: str) -> str:
    return "InstanceId" if name == "InstanceIds" else name


def _information(instance: Instance) -> Document:
    return {
        "InstanceId": instance.ec2_id,
        "PingStatus": "Online" if instance.agent_connected else "ConnectionLost",
        "LastPingDateTime": instance.registered_at,
        "AgentVersion": "3.3.987.0",
        "IsLatestVersion": True,
        "PlatformType": "Linux",
        "PlatformName": "Debian GNU/Linux",
        "PlatformVersion": "12",
        "ActivationId": f"a11aa111-111a-1a11-1aaa-{instance.id[:12]}",
        "IamRole": "ecsAnywhereRole",
        "RegistrationDate": instance.registered_at,
        "ResourceType": "ManagedInstance",
        "Name": instance.ec2_id,
        "IPAddress": instance.address,
        "ComputerName": f"ip-{instance.address.replace('.', '-')}.local",
        "AssociationStatus": "Success",
        "LastAssociationExecutionDate": instance.registered_at,
        "LastSuccessfulAssociationExecutionDate": instance.registered_at,
        "AssociationOverview": {
            "DetailedStatus": "Success",
            "InstanceAssociationStatusAggregatedCount": {"Success": 1},
        },
    }


OPERATIONS = {"DescribeInstanceInformation": describe_instance_information}

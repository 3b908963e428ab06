"""ELBv2: target groups that check their targets, made by hand or by a service that names them.

There are no load balancers: every group counts as used by one. A group that a service names and
nobody created is implied (see `targets.TargetGroup`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from discovery.local import targets
from discovery.local.errors import ApiError
from discovery.local.registration import ATTRIBUTES, enter, leave
from discovery.local.state import Document, Instance
from discovery.local.targets import Target, TargetGroup
from discovery.local.wire import listed
from discovery.local.world import World

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?$")
_TARGET = re.compile(r"Targets\.member\.(\d+)\.(Id|Port)$")
_ATTRIBUTE = re.compile(r"Attributes\.member\.(\d+)\.(Key|Value)$")
_HTTP = ("HTTP", "HTTPS")
_PROTOCOLS = (*_HTTP, "TCP", "TLS", "UDP", "TCP_UDP")
_SETTABLE: dict[str, type] = {
    "HealthCheckProtocol": str,
    "HealthCheckPort": str,
    "HealthCheckPath": str,
    "HealthCheckIntervalSeconds": int,
    "HealthCheckTimeoutSeconds": int,
    "HealthyThresholdCount": int,
    "UnhealthyThresholdCount": int,
}
_RANGES = {
    "HealthCheckIntervalSeconds": (5, 300),
    "HealthCheckTimeoutSeconds": (2, 120),
    "HealthyThresholdCount": (2, 10),
    "UnhealthyThresholdCount": (2, 10),
}


def create_target_group(world: World, form: Document) -> Document:
    """CreateTargetGroup, with the defaults of application and network load balancers."""
    name = str(form.get("Name"))
    if not _NAME.match(name):
        raise _invalid(f"Target group name '{name}' must be 1 to 32 letters, digits and hyphens")
    protocol, kind = form.get("Protocol"), str(form.get("TargetType") or "instance")
    if protocol not in _PROTOCOLS:
        raise _invalid("A protocol must be specified")
    if kind not in ("instance", "ip"):
        raise _invalid(f"Target type '{kind}' is not supported by the local ECS")
    if "Port" not in form:
        raise _invalid("A port must be specified")
    http = protocol in _HTTP
    checks = str(form.get("HealthCheckProtocol") or (protocol if http else "TCP"))
    settings: Document = {
        "TargetGroupName": name,
        "Protocol": protocol,
        "Port": int(str(form["Port"])),
        "VpcId": str(form.get("VpcId") or world.vpc),
        "HealthCheckProtocol": checks,
        "HealthCheckPort": "traffic-port",
        "HealthCheckEnabled": str(form.get("HealthCheckEnabled", "true")) == "true",
        "HealthCheckIntervalSeconds": 30,
        "HealthCheckTimeoutSeconds": 5 if http else (6 if checks in _HTTP else 10),
        "HealthyThresholdCount": 5,
        "UnhealthyThresholdCount": 2,
        "LoadBalancerArns": [],
        "TargetType": kind,
        "IpAddressType": "ipv4",
    }
    if http:
        settings["ProtocolVersion"] = "HTTP1"
    settings |= _given(form, settings)
    if any(each.settings["TargetGroupName"] == name for each in _created(world)):
        raise ApiError("DuplicateTargetGroupName", f"A target group with name '{name}' exists")
    arn = world.ids.arn(f"targetgroup/{name}/{world.ids.hex(16)}", "elasticloadbalancing")
    settings = {"TargetGroupArn": arn, **settings}
    world.state.target_groups[arn] = TargetGroup(arn, settings, attributes=dict(ATTRIBUTES))
    return {"TargetGroups": [settings]}


def _given(form: Document, settings: Document) -> Document:
    """The health check settings in a form; ValidationError for those out of range."""
    found: Document = {}
    for name, kind in _SETTABLE.items():
        if name in form:
            found[name] = kind(str(form[name]))
    for name, (least, most) in _RANGES.items():
        if not least <= found.get(name, least) <= most:
            raise _invalid(f"{name} must be between {least} and {most}, not {found[name]}")
    if "HealthCheckEnabled" in form:
        found["HealthCheckEnabled"] = str(form["HealthCheckEnabled"]) == "true"
    merged = settings | found
    if merged["HealthCheckProtocol"] in _HTTP:
        found.setdefault("HealthCheckPath", settings.get("HealthCheckPath", "/"))
        if "Matcher.HttpCode" in form:
            found["Matcher"] = {"HttpCode": str(form["Matcher.HttpCode"])}
        else:
            found["Matcher"] = settings.get("Matcher", {"HttpCode": "200"})
    if merged["HealthCheckTimeoutSeconds"] > merged["HealthCheckIntervalSeconds"]:
        raise _invalid("Health check timeout must be smaller than or equal to the interval")
    return found


def _created(world: World) -> list[TargetGroup]:
    return [each for each in world.state.target_groups.values() if not each.implied]


def _found(world: World, arn: object) -> TargetGroup:
    found = world.state.target_groups.get(str(arn))
    if found is None:
        raise ApiError("TargetGroupNotFound", f"Target groups '{arn}' not found")
    return found


def describe_target_groups(world: World, form: Document) -> Document:
    """DescribeTargetGroups, by ARN or name; unknown ones fail the call."""
    arns, names = listed(form, "TargetGroupArns"), listed(form, "Names")
    if arns:
        return {"TargetGroups": [_found(world, arn).settings for arn in arns]}
    found = _created(world)
    known = {each.settings["TargetGroupName"] for each in found}
    for name in names:
        if name not in known:
            raise ApiError("TargetGroupNotFound", "One or more target groups not found")
    wanted = [e.settings for e in found if not names or e.settings["TargetGroupName"] in names]
    return {"TargetGroups": wanted}


def modify_target_group(world: World, form: Document) -> Document:
    """ModifyTargetGroup: how targets are checked from the next check on."""
    group = _found(world, form.get("TargetGroupArn"))
    group.settings |= _given(form, group.settings)
    return {"TargetGroups": [group.settings]}


def delete_target_group(world: World, form: Document) -> Document:
    """DeleteTargetGroup: refused while a service uses it."""
    arn = str(form.get("TargetGroupArn"))
    group = world.state.target_groups.get(arn)
    if group is None:
        return {}
    if group.targets:
        raise ApiError(
            "ResourceInUse", f"Target group '{arn}' is currently in use by a listener or a rule"
        )
    del world.state.target_groups[arn]
    return {}


def _attributes(group: TargetGroup) -> Document:
    return {"Attributes": [{"Key": k, "Value": v} for k, v in group.attributes.items()]}


def describe_attributes(world: World, form: Document) -> Document:
    """DescribeTargetGroupAttributes."""
    return _attributes(_found(world, form.get("TargetGroupArn")))


def modify_attributes(world: World, form: Document) -> Document:
    """ModifyTargetGroupAttributes; `deregistration_delay.timeout_seconds` is heeded."""
    group = _found(world, form.get("TargetGroupArn"))
    for each in _members(form, _ATTRIBUTE):
        key, value = each["Key"], each.get("Value", "")
        if key not in group.attributes:
            raise ApiError(
                "InvalidConfigurationRequest", f"Target group attribute key '{key}' is not valid"
            )
        if key.endswith("seconds") and not (value.isdigit() and int(value) <= 3600):
            raise _invalid(f"'{key}' must be between 0 and 3600 seconds, not '{value}'")
        group.attributes[key] = value
    return _attributes(group)


def _members(form: Document, pattern: re.Pattern[str]) -> list[dict[str, str]]:
    found: dict[int, dict[str, str]] = {}
    for key, value in form.items():
        if match := pattern.match(key):
            found.setdefault(int(match[1]), {})[match[2]] = str(value)
    return [each for _, each in sorted(found.items())]


def _wanted(form: Document, group: TargetGroup) -> list[tuple[str, int]]:
    port = int(group.settings["Port"])
    return [(each["Id"], int(each.get("Port", port))) for each in _members(form, _TARGET)]


def register_targets(world: World, form: Document) -> Document:
    """RegisterTargets: instances by id, addresses by themselves."""
    group = _found(world, form.get("TargetGroupArn"))
    hosts = {each.ec2_id: each for each in world.state.instances()}
    made = [_target(group, hosts, *each) for each in _wanted(form, group)]
    for target in made:
        if target.key not in group.targets or group.targets[target.key].state == "draining":
            enter(world, group, target, lambda: None)
    return {}


def _target(group: TargetGroup, hosts: dict[str, Instance], name: str, port: int) -> Target:
    if group.type == "ip":
        if name.startswith("i-"):
            raise _invalid(f"The IP address '{name}' is not a valid IPv4 address")
        return Target(name, port, name)
    if name not in hosts:
        raise ApiError(
            "InvalidTarget",
            f"The following targets are not in a running state and cannot be registered: '{name}'",
        )
    return Target(name, port, hosts[name].address, hosts[name].zone)


def deregister_targets(world: World, form: Document) -> Document:
    """DeregisterTargets: they drain."""
    group = _found(world, form.get("TargetGroupArn"))
    for key in _matching(form, group):
        leave(world, group, group.targets[key])
    return {}


def _matching(form: Document, group: TargetGroup) -> Iterator[tuple[str, int]]:
    """The registered targets that a form names; without a port all of that id."""
    for each in _members(form, _TARGET):
        for name, port in tuple(group.targets):
            if name == each["Id"] and each.get("Port") in (None, str(port)):
                yield name, port


def describe_target_health(world: World, form: Document) -> Document:
    """DescribeTargetHealth: of all targets, or of those that are named, registered or not."""
    group = _found(world, form.get("TargetGroupArn"))
    if not _members(form, _TARGET):
        return {"TargetHealthDescriptions": [_described(group, t) for t in group.targets.values()]}
    described = []
    for key in _wanted(form, group):
        found = group.targets.get(key)
        unregistered = {
            "Target": {"Id": key[0], "Port": key[1]},
            "TargetHealth": targets.health("unused", targets.UNREGISTERED),
        }
        described.append(unregistered if found is None else _described(group, found))
    return {"TargetHealthDescriptions": described}


def _described(group: TargetGroup, target: Target) -> Document:
    named: dict[str, Any] = {"Id": target.id, "Port": target.port}
    if target.id == target.address and target.zone is not None:
        named["AvailabilityZone"] = target.zone
    port = group.settings["HealthCheckPort"]
    return {
        "Target": named,
        "HealthCheckPort": str(target.port) if port == "traffic-port" else port,
        "TargetHealth": group.health(target),
    }


def _invalid(message: str) -> ApiError:
    return ApiError("ValidationError", message)


OPERATIONS = {
    "CreateTargetGroup": create_target_group,
    "DescribeTargetGroups": describe_target_groups,
    "ModifyTargetGroup": modify_target_group,
    "DeleteTargetGroup": delete_target_group,
    "DescribeTargetGroupAttributes": describe_attributes,
    "ModifyTargetGroupAttributes": modify_attributes,
    "RegisterTargets": register_targets,
    "DeregisterTargets": deregister_targets,
    "DescribeTargetHealth": describe_target_health,
}

"""Which host port answers for which container port, and at which address.

Identity of a port is `(container port, protocol)`; the same one may be bound twice (`0.0.0.0` and
`::`, with host ports that may differ), and a range is one binding without single ports.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from discovery.ecs.fields import address
from discovery.ecs.tasks import Binding, Family
from discovery.model import Protocol

RANGE_LIMIT = 100  # ports of one range; a wider one is cut and said so
_WILDCARDS: Mapping[str, Family] = {"0.0.0.0": "ipv4", "::": "ipv6"}

PortKey = tuple[int, Protocol]


@dataclass(frozen=True, slots=True)
class Span:
    """The ports of a range, at most `RANGE_LIMIT`."""

    ports: range = range(0)
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a port answers. Without a `host`, `problem` says why nothing answers.

    `is_own_address`: the host is an interface of the task's own, `other_host` its other address.
    """

    host: str | None = None
    port: int = 0
    problem: str = ""
    is_own_address: bool = False
    other_host: str | None = None


def span(written: str | None) -> Span:
    """The ports of a range such as `8000-8009`; empty where the text is none."""
    first, _, last = (written or "").partition("-")
    # Python refuses to read numbers of thousands of digits.
    if not (first.isdecimal() and last.isdecimal()) or len(first + last) > 10:
        return Span()
    low, high = int(first), int(last)
    if not 0 < low <= high < 65_536:
        return Span()
    return Span(range(low, min(high + 1, low + RANGE_LIMIT)), high - low >= RANGE_LIMIT)


def by_port(bindings: Iterable[Binding]) -> dict[PortKey, tuple[Binding, ...]]:
    """Single bindings for each port, with ranges unfolded; what names no host port is left out."""
    found: dict[PortKey, tuple[Binding, ...]] = {}
    for binding in bindings:
        for single in _singles(binding):
            key = (single.container_port or 0, single.protocol)
            found[key] = (*found.get(key, ()), single)
    return found


def cut_ranges(bindings: Iterable[Binding]) -> list[str]:
    """The ranges of which only the first `RANGE_LIMIT` ports are offered."""
    found = {b.container_range for b in bindings if b.container_range}
    return sorted(written for written in found if span(written).is_cut)


def spot(
    bindings: tuple[Binding, ...],
    addresses: Mapping[Family, str],
    preferred: Family,
    unknown_host: str,
) -> Spot:
    """Where one port answers, given all bindings of it and the host's addresses.

    The binding of the family of the chosen address counts. `unknown_host` says why the host has no
    known address.
    """
    families: tuple[Family, Family] = (preferred, "ipv6" if preferred == "ipv4" else "ipv4")
    for family in families:
        found = _specific(bindings, addresses, family) or _wildcard(bindings, addresses, family)
        if found:
            return found
    return Spot(problem=_problem(bindings, addresses, unknown_host))


def _singles(binding: Binding) -> Iterator[Binding]:
    if binding.container_port is not None and binding.host_port is not None:
        yield binding
        return
    inside, outside = span(binding.container_range), span(binding.host_range)
    for container_port, host_port in zip(inside.ports, outside.ports, strict=False):
        yield Binding(container_port, host_port, binding.protocol, binding.bind_ip)


def _specific(
    bindings: Iterable[Binding], addresses: Mapping[Family, str], family: Family
) -> Spot | None:
    for binding in _in_order(bindings):
        bound = address(binding.bind_ip)
        if bound is None or bound in _WILDCARDS or _family(bound) != family:
            continue
        # A host whose own address is a loopback address is a local one, and callable.
        if not ipaddress.ip_address(bound).is_loopback or bound in addresses.values():
            return Spot(bound, binding.host_port or 0)
    return None


def _wildcard(
    bindings: Iterable[Binding], addresses: Mapping[Family, str], family: Family
) -> Spot | None:
    host = addresses.get(family)
    if host is None:
        return None
    for binding in _in_order(bindings):
        if binding.bind_ip is None or _WILDCARDS.get(address(binding.bind_ip) or "") == family:
            return Spot(host, binding.host_port or 0)
    return None


def _in_order(bindings: Iterable[Binding]) -> list[Binding]:
    """The agent gives bindings in random order: of two equally good ones take the same always."""
    return sorted(bindings, key=lambda binding: binding.host_port or 0)


def _problem(
    bindings: tuple[Binding, ...], addresses: Mapping[Family, str], unknown_host: str
) -> str:
    bound = sorted({binding.bind_ip or "" for binding in bindings})
    if all(_is_loopback(ip) for ip in bound):
        return f"it is bound to the loopback address {' and '.join(bound)} only"
    if not addresses:
        return unknown_host
    return f"it is bound to {' and '.join(bound)} only, where its host has no address"


def _is_loopback(ip: str) -> bool:
    known = address(ip)
    return known is not None and ipaddress.ip_address(known).is_loopback


def _family(ip: str) -> Family:
    return "ipv6" if ":" in ip else "ipv4"

"""Which hosts are lost, judged by a few of their endpoints, and which zones by a few hosts. Pure.

A host that vanishes does not refuse, it is silent; each silence costs a timeout. So that the loss
of a hundred tasks does not cost a hundred timeouts, a few silent endpoints condemn their host, a
few silent hosts make one silence enough in their zone, and then one endpoint a host is tried on.
Rule 1: any answer of a host, a refusal too, ends what was held against it before.
Rule 2: silence of an endpoint that nobody missed condemns nobody: firewalls are silent, too.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from discovery.health.evidence import Case

ENOUGH = 3  # silences in all, one after the other or side by side, that condemn a host
ENOUGH_LOST = 2  # where its agent is disconnected
ENOUGH_HOSTS = 2  # silent hosts that make a zone suspected

Machine = tuple[str, str]
Zone = tuple[str, str | None]


@dataclass(frozen=True, slots=True)
class Losses:
    """The hosts that are silent, and the zones in which one silence is enough for it."""

    machines: frozenset[Machine] = frozenset()
    zones: frozenset[Zone] = frozenset()

    def words(self, case: Case) -> str | None:
        """Why an endpoint counts as lost with its host; `None` where it does not."""
        if case.machine not in self.machines:
            return None
        others = f", like others in {case.endpoint.zone}" if case.zone in self.zones else ""
        return f"its host does not answer from here{others}"


@dataclass(slots=True)
class _Host:
    zone: Zone
    needed: int = ENOUGH
    answered_at: float = float("-inf")
    missed: int = 0
    silent: int = 0
    silent_at: float = float("inf")

    @property
    def is_lost(self) -> bool:
        return self.missed >= self.needed


def losses_of(cases: Iterable[Case]) -> Losses:
    """The hosts and zones that these endpoints, each given once, show to be lost."""
    cases = [case for case in cases if case.seen is not None]
    if all(case.seen is None or case.seen.answered for case in cases):
        return Losses()
    hosts: dict[Machine, _Host] = {}
    for case in cases:
        host = hosts.setdefault(case.machine, _Host(case.zone))
        if case.seen is not None and case.seen.answered:
            host.answered_at = max(host.answered_at, case.seen.at)
    for case in cases:
        if case.seen is not None and not case.seen.answered:
            _hold_against(hosts[case.machine], case, case.seen.at, case.seen.times)
    lost = {machine for machine, host in hosts.items() if host.is_lost}
    zones = _suspected(hosts, lost)
    lost |= {m for m, host in hosts.items() if host.zone in zones and host.silent}
    return Losses(frozenset(lost), zones)


def _hold_against(host: _Host, case: Case, at: float, times: int) -> None:
    if at <= host.answered_at:
        return
    host.silent += times
    host.silent_at = min(host.silent_at, at)
    if "lost" in case.signs:
        host.needed = ENOUGH_LOST
    if case.signs & {"lost", "doubted"}:
        host.missed += times


def _suspected(hosts: dict[Machine, _Host], lost: set[Machine]) -> frozenset[Zone]:
    """Zones with several lost hosts in which nothing has answered since the first was silent."""
    found: set[Zone] = set()
    for zone in {hosts[machine].zone for machine in lost} - {(m[0], None) for m in lost}:
        inside = [host for host in hosts.values() if host.zone == zone]
        silent = [host for host in inside if host.is_lost]
        since = min(host.silent_at for host in silent)
        if len(silent) >= ENOUGH_HOSTS and all(host.answered_at < since for host in inside):
            found.add(zone)
    return frozenset(found)

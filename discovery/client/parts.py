"""What a resolver is put together from: a source, what is known of it, and what goes on with that.

Nothing is read here, and no thread is started.
"""

from dataclasses import dataclass

from discovery.balancing.policy import MakePolicy
from discovery.balancing.pool import Balancing
from discovery.catalog.bell import Bell
from discovery.catalog.catalog import Catalog
from discovery.catalog.checks import Checks
from discovery.catalog.refresher import Refresher, Timing
from discovery.client.attempts import Missed
from discovery.client.balancer import Balancer
from discovery.client.opening import is_read_whole, opened, placed, remembered
from discovery.events import Listeners
from discovery.health.ejection import Outcome
from discovery.health.evidence import Rules
from discovery.health.probes import Probes
from discovery.model import Endpoint
from discovery.overrides.watch import ByHand
from discovery.secret import without_password
from discovery.settings import Settings
from discovery.sources.base import Hearing, Source

_FRESH_INTERVALS = 3  # reads may fail for this many intervals before data counts as stale


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What is known, who reads it, and the pools of requests; `title` names the source."""

    title: str
    bell: Bell
    catalog: Catalog
    refresher: Refresher
    balancer: Balancer


def assembled(
    source: str | Source,
    settings: Settings,
    timing: Timing,
    *,
    whole: bool,
    policy: MakePolicy,
    balancing: Balancing | None,
    listeners: Listeners,
) -> Parts:
    """The parts for this source. Raises `BadSetting`."""
    title = without_password(source) if isinstance(source, str) else type(source).__name__
    by_hand = ByHand(
        settings.overrides,
        settings.enable,
        settings.zone,
        labels=tuple(c.label for c in settings.clusters) if source == "ecs" else (),
        listeners=listeners,
        clock=timing.clock,
    )
    if isinstance(source, str):
        whole = whole or is_read_whole(source)
        source = opened(source, settings, listeners)
    hearing = source if isinstance(source, Hearing) else None
    known = remembered(source, title, settings, listeners, timing.clock) if whole else None
    source, spread = placed(known or source, settings, balancing)
    bell, checks = Bell(timing.monotonic), _checks(settings, timing, listeners)
    catalog = Catalog(
        source.labels,
        fresh_for_s=max(30.0, _FRESH_INTERVALS * settings.interval_s),
        stale_limit_s=settings.stale_limit_s,
        listeners=listeners,
        bell=bell,
        adjustments=[checks.adjusted, by_hand.adjusted],
        least_epoch=known.next_epoch if known else 0,
        clock=timing.clock,
    )
    if known is not None:
        known.snapshot = lambda: catalog.read
    refresher = Refresher(
        source, catalog, timing, whole=whole, listeners=listeners, checks=checks, by_hand=by_hand
    )
    if hearing is not None:
        hearing.news = refresher.news
    missed = _missed(checks, refresher)
    balancer = Balancer(policy, timing.chance, spread, timing.monotonic, missed)
    return Parts(title, bell, catalog, refresher, balancer)


def _checks(settings: Settings, timing: Timing, listeners: Listeners) -> Checks:
    checks = Checks(Rules(settings.boot_check), listeners=listeners, clock=timing.clock)
    if settings.probes:
        checks.companion = Probes(checks, settings, listeners, timing.chance, timing.monotonic)
    return checks


def _missed(checks: Checks, refresher: Refresher) -> Missed:
    """What follows when a request did not reach an endpoint."""

    def missed(endpoint: Endpoint, outcome: Outcome) -> None:
        checks.doubt(endpoint)
        if outcome == "refused":
            refresher.hurry()

    return missed

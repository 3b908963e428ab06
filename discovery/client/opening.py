"""From the text of a source setting to a source; each kind is imported when it is asked for."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from discovery.balancing.pool import Balancing
from discovery.client.own_zone import Placed
from discovery.errors import BadSetting
from discovery.events import Listeners
from discovery.secret import without_password
from discovery.settings import Settings
from discovery.sources.base import Source
from discovery.written import ClusterSettings, clusters

if TYPE_CHECKING:
    from discovery.sources.disk import Remembered
    from discovery.sources.fallback import Leader

Open = Callable[[str, Settings, Listeners], Source]
Clock = Callable[[], float]
Placing = tuple[Source, Callable[[], Balancing]]
ANY_ZONE = "any"
_PLACES = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_ECS", "AWS_ENDPOINT_URL")
WANT = "ecs, file:PATH, http://HUB:PORT or redis://STORE:PORT"


def configured(
    settings: Settings, cluster: str | ClusterSettings | Sequence[str | ClusterSettings] | None
) -> Settings:
    """The settings, with these clusters where any are given. Raises `BadSetting`."""
    if cluster is None:
        return settings
    try:
        return replace(settings, clusters=clusters(cluster))
    except ValueError as why:
        raise BadSetting("cluster", cluster, str(why)) from None


def opened(source: str, settings: Settings, listeners: Listeners) -> Source:
    """The source that the setting names. Raises `BadSetting` for one that there is not."""
    scheme, _, rest = source.partition(":")
    open_source = _SCHEMES.get(scheme)
    if open_source is None:
        raise BadSetting("source", without_password(source), WANT)
    return open_source(rest, settings, listeners)


def placed(source: Source, settings: Settings, balancing: Balancing | None) -> Placing:
    """The source, and how to balance: our own zone first, where anything says which it is.

    The balancing's zone goes before the setting's, and that before what the task's metadata say.
    """
    given = balancing or Balancing()
    zone = given.zone or settings.availability_zone
    if zone is not None:
        how = replace(given, zone=None if zone == ANY_ZONE else zone)
        return source, lambda: how
    asking = source if isinstance(source, Placed) else Placed(source)
    return asking, lambda: replace(given, zone=asking.zone)


def remembered(
    source: Source, title: str, settings: Settings, listeners: Listeners, clock: Clock
) -> "Remembered | None":
    """The source that begins with what is in the cache, where settings name one.

    A cache is of one source and its clusters: another one's is refused.
    """
    if settings.cache is None:
        return None
    from discovery.sources.disk import Disk, Remembered

    names = (c.arn or "/".join(filter(None, (c.region, c.name))) for c in settings.clusters)
    where = (os.environ.get(v) for v in _PLACES) if title == "ecs" else ()
    identity = " ".join([title, *names, *filter(None, where)])
    return Remembered(source, Disk(settings.cache, identity, listeners=listeners, clock=clock))


def is_read_whole(source: str) -> bool:
    """Whether this kind of source is always read whole, since reading less would cost the same."""
    return source.partition(":")[0] != "ecs"


def _ecs(rest: str, settings: Settings, listeners: Listeners) -> Source:
    if rest:
        raise BadSetting("source", f"ecs:{rest}", WANT)
    return _reader(settings, listeners)


def _reader(settings: Settings, listeners: Listeners, names_later: bool = False) -> Source:
    """What reads ECS itself; loaded when it is needed first."""
    from discovery.ecs.source import EcsSource

    return EcsSource(settings, listeners=listeners, names_later=names_later)


def _file(rest: str, settings: Settings, _: Listeners) -> Source:
    from discovery.sources.static import StaticSource

    path = rest.removeprefix("//")
    if not path:
        raise BadSetting("source", f"file:{rest}", WANT)
    label = settings.clusters[0].label if settings.clusters else "default"
    return StaticSource(path, label=label)


def _hub(written: str, settings: Settings, listeners: Listeners) -> Source:
    from random import Random

    from discovery.sources.hub import Following, HubSource, hubs

    following = Following(
        Random(),
        interval_s=settings.interval_s,
        token=settings.hub_token,
        ca=settings.hub_ca,
        label=settings.clusters[0].label if settings.clusters else "default",
    )
    return _led(HubSource(hubs(written), following, listeners=listeners), settings, listeners)


def _redis(written: str, settings: Settings, listeners: Listeners) -> Source:
    from random import Random

    from discovery.sources.redis import RedisSource, Sharing
    from discovery.sources.store import Store, where

    at = where(written)
    if at.clusters:
        try:
            settings = replace(settings, clusters=clusters(at.clusters))
        except ValueError as exc:
            raise BadSetting("source", without_password(written), f"in cluster= {exc}") from None
    if not settings.clusters:
        want = "clusters too, in their setting or as ?cluster=NAME, to know what is shared"
        raise BadSetting("source", without_password(written), want)
    name = ",".join(c.arn or "/".join(filter(None, (c.region, c.name))) for c in settings.clusters)
    sharing = Sharing(Random(), [c.label for c in settings.clusters], settings.interval_s)
    source = RedisSource(
        lambda: Store(at, name),
        sharing,
        lambda: _reader(settings, listeners),
        listeners=listeners,
    )
    return _led(source, settings, listeners)


def _led(leader: "Leader", settings: Settings, listeners: Listeners) -> Source:
    """The leader, and what to read without it, where settings say so."""
    if settings.fallback == "off":
        return leader
    if not settings.clusters:
        raise BadSetting("fallback", settings.fallback, "clusters too, to know what to read")
    from random import Random

    from discovery.sources.fallback import Fallback

    # Without events: one queue has one consumer, and of these there are as many as followers.
    direct = replace(settings, events=None)
    return Fallback(
        leader,
        lambda: _reader(direct, listeners, names_later=True),
        chance=Random(),
        interval_s=settings.interval_s,
        path=f"{settings.cache}.fleet" if settings.cache else None,
        listeners=listeners,
    )


_SCHEMES: Mapping[str, Open] = {
    "ecs": _ecs,
    "file": _file,
    "http": lambda rest, settings, listeners: _hub(f"http:{rest}", settings, listeners),
    "https": lambda rest, settings, listeners: _hub(f"https:{rest}", settings, listeners),
    "redis": lambda rest, settings, listeners: _redis(f"redis:{rest}", settings, listeners),
    "rediss": lambda rest, settings, listeners: _redis(f"rediss:{rest}", settings, listeners),
}

"""The last good snapshot on disk: what is kept, what is refused, and how a restart begins."""

import json
import os
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from discovery.client.resolver import Resolver
from discovery.errors import SourceUnreachable
from discovery.events import Event, Listeners, Noticed
from discovery.model import Cluster, Service, Snapshot
from discovery.settings import Settings
from discovery.sources.base import FixedSource, Source
from discovery.sources.disk import Disk, Remembered
from discovery.sources.fallback import Fallback
from discovery.sources.sealed import FORMAT
from discovery.written import ClusterSettings
from tests.made import NOW, FakeClock, failed, observed, reading, service
from tests.sources.harm import cut, turned
from tests.sources.hubs import Hub, following

OURS = "ecs prod"
DOWN = SourceUnreachable("nobody answers")


def holding(*services: Service, sequence: int = 1, at: float = NOW) -> Snapshot:
    return Snapshot(
        epoch=7,
        sequence=sequence,
        observed_at=at,
        clusters=(Cluster("demo", at),),
        services={s.key: s for s in services},
        read_at={s.key: at for s in services},
    )


class Kept:
    """A disk with one snapshot, and what was said of it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "below" / "cache"
        self.times = self.path.with_name("cache.times")
        self.clock = FakeClock()
        self.said: list[str] = []
        self.snapshot = holding(service("web", 1, 2))
        self.disk = self.opened()
        self.disk.keep(self.snapshot)

    def opened(self, identity: str = OURS) -> Disk:
        """The same file after a restart."""
        return Disk(self.path, identity, listeners=Listeners(self._hear), clock=self.clock)

    def read(self) -> Snapshot | None:
        """What a restart finds."""
        return self.opened().read()

    def _hear(self, event: Event) -> None:
        assert isinstance(event, Noticed)
        self.said.append(event.message)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    """A snapshot of one service on disk."""
    return Kept(tmp_path)


def test_a_restart_finds_what_was_kept(kept: Kept) -> None:
    """All of it, in files that only we can read."""
    assert kept.read() == kept.snapshot
    assert kept.path.stat().st_mode & 0o777 == 0o600
    assert kept.path.parent.stat().st_mode & 0o777 == 0o700
    assert kept.said == []


def test_nothing_kept_is_nothing_to_say(tmp_path: Path) -> None:
    """The first start of all."""
    said: list[Event] = []
    assert Disk(tmp_path / "cache", OURS, listeners=Listeners(said.append)).read() is None
    assert said == []


def test_newer_times_are_kept_without_writing_the_content_again(kept: Kept) -> None:
    """Ages stay true over a restart, and a quiet cluster costs a short file."""
    before = kept.path.stat()
    kept.disk.keep(later := replace(holding(service("web", 1, 2), at=NOW + 10)))
    assert kept.path.stat().st_ino == before.st_ino
    kept.clock.now = NOW + 20
    assert kept.read() == later


def test_what_did_not_change_is_not_written(kept: Kept) -> None:
    """Neither content nor times."""
    kept.disk.keep(replace(kept.snapshot))
    assert not kept.times.exists()


def test_nothing_read_yet_does_not_replace_what_is_kept(kept: Kept) -> None:
    """A start in an outage leaves the file alone."""
    kept.opened().keep(Snapshot(epoch=8, clusters=(Cluster("demo"),)))
    assert kept.read() == kept.snapshot


def test_times_of_another_content_are_passed_over(kept: Kept) -> None:
    """A power loss between the two files makes it older than it is, never newer."""
    kept.disk.keep(replace(kept.snapshot, observed_at=NOW + 4, read_at={("demo", "web"): NOW + 4}))
    times = kept.times.read_bytes()
    kept.disk.keep(newer := holding(service("web", 3), sequence=2))
    kept.times.write_bytes(times)
    assert kept.read() == newer


def _negative(kept: Kept) -> None:
    head, _, content = kept.path.read_bytes().partition(b"\n")
    written = json.loads(head) | {"bytes": -5}
    kept.path.write_bytes(json.dumps(written).encode() + b"\n" + content)


def _newer(kept: Kept) -> None:
    content = kept.path.read_bytes()
    kept.path.write_bytes(content.replace(b'"format":%d' % FORMAT, b'"format":%d' % (FORMAT + 1)))


def _elsewhere(kept: Kept) -> None:
    kept.path.rename(other := kept.path.with_name("other"))
    kept.path.symlink_to(other)


def _pipe(kept: Kept) -> None:
    kept.path.unlink()
    os.mkfifo(kept.path)


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda kept: cut(kept.path), "cut off"),
        (lambda kept: turned(kept.path), "checksum"),
        (_newer, "format is 2"),
        (_elsewhere, "symbolic links"),
        (_pipe, "no file"),
        (lambda kept: kept.path.write_bytes(b"\n"), "does not begin"),
        (lambda kept: kept.path.write_bytes(b""), "does not begin"),
        (_negative, "does not begin"),
        (lambda kept: kept.path.chmod(0o620), "others may write"),
        (lambda kept: setattr(kept.clock, "now", NOW - 60), "60 s in the future"),
    ],
)
def test_what_cannot_be_trusted_is_refused_with_the_reason(
    kept: Kept, harm: object, why: str
) -> None:
    """And left where it is; what is read next replaces it."""
    assert callable(harm)
    harm(kept)
    assert kept.read() is None
    (said,) = kept.said
    assert str(kept.path) in said
    assert why in said.lower()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_refused(kept: Kept) -> None:
    """In a shared directory anybody could have put it there."""
    os.chown(kept.path, 4_242, -1)
    assert kept.read() is None
    assert "user 4242" in kept.said[0]


def test_another_clusters_file_is_refused(kept: Kept) -> None:
    """By both names."""
    assert kept.opened("ecs stage").read() is None
    assert "ecs prod" in kept.said[0]
    assert "ecs stage" in kept.said[0]


def test_times_of_another_process_make_nothing_newer(kept: Kept) -> None:
    """Two that share a file by mistake may have the same index for what is not the same."""
    kept.opened().keep(holding(service("web", 3, 4)))
    kept.clock.now += 3_600
    kept.disk.keep(replace(kept.snapshot, read_at={("demo", "web"): kept.clock.now}))
    found = kept.read()
    assert found is not None
    assert found.read_at == {("demo", "web"): NOW}
    assert [e.host for e in found.services["demo", "web"].endpoints] == ["10.0.0.3", "10.0.0.4"]


def test_a_disk_that_fails_is_said_once_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """What is known is served all the same."""
    (tmp_path / "cache").mkdir()  # a name that no file can take
    said: list[Event] = []
    disk = Disk(tmp_path / "cache", OURS, listeners=Listeners(said.append))
    for sequence in (1, 2):
        disk.keep(holding(service("web", 1), sequence=sequence))
    assert len(said) == 1
    assert os.listdir(tmp_path) == ["cache"]


def resolver(path: Path, source: Source, clock: FakeClock, *, whole: bool = True) -> Resolver:
    settings = Settings(clusters=(ClusterSettings("demo"),), cache=str(path))
    return Resolver(source=source, settings=settings, whole=whole, clock=clock)


def test_a_restart_in_an_outage_answers_from_disk_with_the_true_age(tmp_path: Path) -> None:
    """Stale, as old as it is, and by an index that is greater than any before."""
    clock = FakeClock()
    source = FixedSource(observed(reading(service("web", 1, 2))))
    with resolver(tmp_path / "cache", source, clock) as before:
        endpoints = before.endpoints("web")
        index = before.snapshot.index
    clock.now -= 3  # as after a correction of the clock, so that the epoch alone would not do
    with resolver(tmp_path / "cache", FixedSource(failed(DOWN)), clock) as after:
        assert after.endpoints("web") == endpoints
        assert after.snapshot.index > index
        clock.now = NOW + 3_600
        found = after.service("web")
        assert after.snapshot.age_s(found, clock.now) == 3_600
        assert after.snapshot.is_stale(found, clock.now)


def test_what_the_source_says_replaces_what_was_on_disk(tmp_path: Path) -> None:
    """At once, and what is gone meanwhile is gone."""
    clock = FakeClock()
    first = FixedSource(observed(reading(service("web", 1), service("old", 2))))
    with resolver(tmp_path / "cache", first, clock) as before:
        before.services()
    clock.now += 60
    second = FixedSource(observed(reading(service("web", 3)), at=clock.now))
    with resolver(tmp_path / "cache", second, clock) as after:
        assert after.endpoints("web")
        after.refresh()
        assert [s.name for s in after.services()] == ["web"]
        assert [e.host for e in after.endpoints("web")] == ["10.0.0.3"]


def test_a_failed_first_load_after_a_restart_keeps_what_is_on_disk(tmp_path: Path) -> None:
    """For the restart after this one."""
    clock = FakeClock()
    with resolver(
        tmp_path / "cache", FixedSource(observed(reading(service("web", 1)))), clock
    ) as r:
        r.services()
    for _ in range(2):
        with resolver(tmp_path / "cache", FixedSource(failed(DOWN)), clock) as r:
            assert [e.host for e in r.endpoints("web")] == ["10.0.0.1"]


def test_names_read_on_demand_are_not_kept(tmp_path: Path) -> None:
    """What one process asked for is not what there is."""
    source = FixedSource(observed(reading(service("web", 1))))
    with resolver(tmp_path / "cache", source, FakeClock(), whole=False) as asking:
        asking.endpoints("web")
    assert os.listdir(tmp_path) == []


def test_nothing_older_than_what_was_on_disk_is_taken_from_a_hub(tmp_path: Path) -> None:
    """A restart does not go back to before what was told already."""
    with Hub(service("old", 1), now=NOW - 8) as hub:
        hub.clock.now = NOW
        Disk(tmp_path / "cache", OURS, clock=FakeClock()).keep(holding(service("web", 1)))
        leader = FixedSource(observed(reading(service("web", 1))))
        followed = following(hub.url)
        for source in (followed, Fallback(followed, lambda: leader, chance=Random(1))):
            begun = Remembered(source, Disk(tmp_path / "cache", OURS, clock=FakeClock()))
            begun.load(None)
            with pytest.raises(SourceUnreachable, match="older"):
                begun.load(None)
        followed.close()

"""The file of overrides, and the resolver that goes by it."""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from discovery.catalog.catalog import Catalog
from discovery.client.resolver import Resolver
from discovery.errors import BadSetting, UnknownService
from discovery.events import Event, Listeners, Noticed
from discovery.model import Cluster
from discovery.overrides.watch import ByHand
from discovery.settings import Settings, merge
from discovery.sources.base import FixedSource, Source
from tests.client.test_fork import in_child
from tests.made import NOW, FailingSource, FakeClock, NamingSource, observed, reading, service

EXCLUDE = '[[exclude]]\nservice = "web"\nuntil = "forever"\n'
ALIAS = '[[alias]]\nname = "site"\nfailover = ["web"]\nuntil = "forever"\n'
WEB = observed(reading(service("web", 1, 2)))
PATIENCE_S = 30.0


@dataclass
class Desk:
    """Where a person writes, and what is said back."""

    path: Path
    clock: FakeClock = field(default_factory=FakeClock)
    heard: list[Event] = field(default_factory=list)
    _writes: int = 0

    def write(self, text: str) -> None:
        """Replace the file; its time differs from that of the last one for certain."""
        self.path.write_text(text)
        self._writes += 1
        os.utime(self.path, ns=(self._writes, self._writes))

    def by_hand(self) -> ByHand:
        return ByHand(
            str(self.path),
            "all",
            "ecs.internal",
            listeners=Listeners(self.heard.append),
            clock=self.clock,
        )

    @property
    def said(self) -> list[str]:
        return [event.message for event in self.heard if isinstance(event, Noticed)]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """One with an empty file."""
    it = Desk(tmp_path / "overrides.toml")
    it.write("")
    return it


@pytest.fixture
def resolvers(desk: Desk) -> Iterator[Any]:
    """Makes resolvers that go by the file, and closes them afterwards."""
    made: list[Resolver] = []

    def make(source: Source, **arguments: Any) -> Resolver:
        settings = Settings(overrides=str(desk.path), **arguments)
        made.append(Resolver(source=source, settings=settings, clock=desk.clock))
        return made[-1]

    yield make
    for resolver in made:
        resolver.close()


def looked(it: ByHand) -> bool:
    """Whether there was news by the time that a change counts as made."""
    return any([it.look(), it.look()])


class TestTheFile:
    """When it is read, and what if it cannot be."""

    def test_it_is_read_again_when_it_changes(self, desk: Desk) -> None:
        """And not otherwise."""
        it = desk.by_hand()
        assert not looked(it)
        desk.write(EXCLUDE)
        assert looked(it)
        assert not looked(it)
        assert desk.said == ["overrides: 1 in force"]

    def test_it_is_read_when_it_is_written(self, desk: Desk) -> None:
        """Not while it changes from look to look: it was emptied first, and filled then."""
        desk.write(EXCLUDE)
        it = desk.by_hand()
        looked(it)
        desk.write("")
        assert not it.look()
        desk.write(EXCLUDE + ALIAS)
        assert [it.look(), it.look()] == [False, True]
        assert desk.said == ["overrides: 2 in force"]

    def test_an_alias_in_a_cluster_that_there_is_not_is_refused(self, desk: Desk) -> None:
        """At the start where the clusters are known by then."""
        desk.write(ALIAS.replace("site", "site.prud"))
        with pytest.raises(BadSetting, match=r"alias\[0\].name: 'site.prud' .* there is no prud"):
            ByHand(str(desk.path), "all", "ecs.internal", labels=("prod", "test"), clock=desk.clock)

    def test_an_alias_in_a_cluster_that_turns_out_not_to_be_is_said(self, desk: Desk) -> None:
        """Once the clusters are known."""
        desk.write(ALIAS.replace("site", "site.prud"))
        it = desk.by_hand()
        catalog = Catalog(["demo"], adjustments=[it.adjusted], clock=desk.clock)
        it.look()
        assert desk.said == []
        catalog.publish(WEB)
        it.look()
        assert "of the clusters demo: there is no prud" in desk.said[0]

    @pytest.mark.parametrize(
        ("text", "told"),
        [("[[exclude]]\nzone = 'a'", "exclude[0].until"), ("[[ =\n", "line 1"), ("[[x]]", "x:")],
    )
    def test_a_bad_one_leaves_the_last_in_force(self, desk: Desk, text: str, told: str) -> None:
        """Which is said once for each mistake."""
        desk.write(EXCLUDE)
        it = desk.by_hand()
        looked(it)
        desk.write(text)
        assert not any(it.look() for _ in range(3))
        (said,) = desk.said
        assert told in said
        assert "overrides.toml" in said
        assert said.endswith("the last good file stays in force")
        assert not it.adjusted(_read(), NOW).services["demo", "web"].endpoints

    def test_one_that_vanished_leaves_the_last_in_force(self, desk: Desk) -> None:
        """Whoever wants to take all back empties it."""
        desk.write(EXCLUDE)
        it = desk.by_hand()
        desk.path.unlink()
        it.look()
        assert not it.adjusted(_read(), NOW).services["demo", "web"].endpoints
        assert "No such file" in desk.said[0]
        desk.write("")
        assert looked(it)
        assert it.adjusted(_read(), NOW).services["demo", "web"].endpoints

    def test_the_same_mistake_is_said_again_after_it_was_mended(self, desk: Desk) -> None:
        """It is news then."""
        it = desk.by_hand()
        for text in ("[[", "", "[["):
            desk.write(text)
            looked(it)
        assert len(desk.said) == 2

    @pytest.mark.parametrize("text", [None, "[[", EXCLUDE.replace("until", "on"), "#" * (2 << 20)])
    def test_at_the_start_it_has_to_be_right(self, desk: Desk, text: str | None) -> None:
        """A person is there to be told."""
        desk.path.unlink() if text is None else desk.write(text)
        with pytest.raises(BadSetting, match=r"^overrides.*overrides\.toml"):
            desk.by_hand()

    def test_what_ends_is_news(self, desk: Desk) -> None:
        """Though nobody wrote anything."""
        desk.write(f"[[exclude]]\nzone = 'a'\nuntil = {datetime.fromtimestamp(NOW + 5, UTC)}\n")
        it = desk.by_hand()
        it.look()
        assert not it.look()
        desk.clock.now += 5
        assert it.look()
        assert not it.look()

    def test_whatever_is_raised_it_goes_on(
        self, desk: Desk, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A thread that had ended would leave decisions unread, and nobody would know."""
        it, calls, twice = desk.by_hand(), list[None](), threading.Event()

        def changed() -> None:
            calls.append(None)
            desk.write(ALIAS)
            if len(calls) == 2:
                twice.set()
            raise RuntimeError("a mistake")

        desk.write(EXCLUDE)
        it.start(changed)
        try:
            assert twice.wait(PATIENCE_S)
        finally:
            it.close()
        assert "could not be taken up" in caplog.text

    def test_what_speaks_of_nothing_is_told_once(self, desk: Desk) -> None:
        """A typing error would go unnoticed else; before all is read nobody knows."""
        desk.write(EXCLUDE + EXCLUDE.replace("web", "wep") + ALIAS.replace('["web"]', '["wep"]'))
        it = desk.by_hand()
        it.look()
        unread = replace(_read(), clusters=(Cluster("demo"),))
        it.adjusted(unread, NOW)
        it.look()
        assert desk.said == []
        for _ in range(2):
            it.adjusted(_read(), NOW)
            it.look()
        (said,) = desk.said
        assert "nothing matches exclude[1], alias[0] of" in said


class TestResolver:
    """What users of the library see."""

    def test_it_goes_by_the_file_as_it_changes(self, desk: Desk, resolvers: Any) -> None:
        """Each way, and its names with it."""
        it = resolvers(FixedSource(WEB))
        assert len(it.endpoints("web")) == 2
        index = it.snapshot.index
        desk.write(EXCLUDE + ALIAS)
        index = it.wait(index, PATIENCE_S).index
        assert it.endpoints("web") == ()
        assert it.endpoints("site.demo") == ()
        assert it.explain("web")["tasks"][0]["reason"] == "excluded by hand for ever"
        desk.write(ALIAS)
        it.wait(index, PATIENCE_S)
        assert len(it.endpoints("site")) == 2
        assert "site" in [s.name for s in it.services()]

    def test_it_takes_effect_while_the_source_fails(self, desk: Desk, resolvers: Any) -> None:
        """An outage is when it is needed most."""
        source = OnceSource(service("web", 1, 2))
        it = resolvers(source)
        assert len(it.endpoints("web")) == 2
        desk.write(EXCLUDE)
        it.wait(it.snapshot.index, PATIENCE_S)
        assert it.endpoints("web") == ()

    def test_aliases_are_found_where_names_are_read_on_demand(
        self, desk: Desk, resolvers: Any
    ) -> None:
        """Whole clusters are read then, since an alias may stand for any service."""
        desk.write(ALIAS)
        it = resolvers(NamingSource(service("web", 1, 2)))
        assert len(it.endpoints("site")) == 2
        with pytest.raises(UnknownService):
            it.endpoints("sit")

    def test_a_bad_file_is_refused_at_once(self, desk: Desk, resolvers: Any) -> None:
        """Before anything is read."""
        desk.write("[[exclude]]")
        with pytest.raises(BadSetting, match=r"exclude\[0\]"):
            resolvers(FixedSource(WEB))

    def test_only_tagged_services_where_that_is_set(self, resolvers: Any) -> None:
        """They stay known, with the reason."""
        it = resolvers(FixedSource(WEB), enable="tagged")
        assert it.endpoints("web") == ()
        assert "ecs-discovery.enable" in it.explain("web")["tasks"][0]["reason"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_of_a_fork_goes_by_the_file_too(desk: Desk, resolvers: Any) -> None:
    """By a thread of its own, from its first call on."""
    it = resolvers(FixedSource(WEB))
    it.endpoints("web")

    def work() -> bool:
        it.endpoints("web")
        desk.write(EXCLUDE)
        it.wait(it.snapshot.index, 15.0)
        return not it.endpoints("web")

    assert in_child(work)
    it.close()
    assert "overrides" not in [thread.name for thread in threading.enumerate()]


class OnceSource(FailingSource):
    """Reads once, and fails from then on."""

    def __init__(self, *services: Any) -> None:
        super().__init__(OSError("no network"))
        self._first = NamingSource(*services)

    def load(self, wanted: Any) -> Any:
        """What there is the first time."""
        self.loads += 1
        return self._first.load(wanted) if self.loads == 1 else super().load(wanted)


def test_the_settings_are_declared() -> None:
    """From any layer; what can be written is checked."""
    settings, _ = merge(("flag", {"overrides": "o.toml", "enable": "tagged"}))
    assert (settings.overrides, settings.enable) == ("o.toml", "tagged")
    with pytest.raises(BadSetting, match=r"enable \(flag\): 'some' .*all or tagged"):
        merge(("flag", {"enable": "some"}))


def _read() -> Any:
    from discovery.catalog.catalog import Catalog

    catalog = Catalog(["demo"], clock=FakeClock())
    catalog.publish(WEB)
    return catalog.snapshot

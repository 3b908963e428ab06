"""Definitions on disk: a restart reads none again, and what is not ours or not whole is unused."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.ecs.conversation import Outcome
from discovery.ecs.definitions import ContainerDefinition, Definition, definition_of
from discovery.ecs.kept import MEANING, PAUSE_S, KeptDefinitions, decoded, encoded, version
from discovery.ecs.memory import DEFINITION_LIMIT
from discovery.ecs.source import EcsSource
from discovery.errors import SourceMalformed
from discovery.events import Event, Listeners, Noticed
from discovery.local.server import LocalECS
from discovery.model import ClusterReading, Port
from discovery.settings import Settings
from discovery.sources.sealed import Sealed
from discovery.written import ClusterSettings
from tests.ecs.documents import container_definition, definition, port
from tests.made import FakeClock
from tests.sources.harm import cut, turned

NAMES = st.text("abcXYZ-_09é", max_size=6)
PORT = st.builds(
    Port, st.integers(1, 65_535), st.sampled_from(["tcp", "udp"]), st.none() | NAMES, NAMES
)
CONTAINER = st.builds(
    ContainerDefinition,
    name=NAMES,
    ports=st.lists(PORT, max_size=3).map(tuple),
    labels=st.dictionaries(NAMES, NAMES, max_size=2),
)
DEFINITION = st.builds(
    Definition,
    arn=st.text("arn:aws/0123456789", min_size=1, max_size=20),
    network_mode=st.sampled_from(["bridge", "awsvpc", "host", "none"]),
    containers=st.dictionaries(NAMES, CONTAINER, max_size=2),
)
WEB, API = Definition("arn:web:1"), Definition("arn:api:7", "awsvpc")


def of(*definitions: Definition) -> dict[str, Definition]:
    """Definitions by ARN."""
    return {each.arn: each for each in definitions}


def read(*used: Definition, more: bool = False, complete: bool = True) -> Outcome:
    """What a read of a whole cluster came to that these are in use in."""
    reading = ClusterReading("prod", complete=complete)
    return Outcome(reading, None, pending=more, definitions=of(*used))


class Kept:
    """A file of definitions, a clock, and what was said."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "below" / "cache.definitions"
        self.clock = FakeClock()
        self.said: list[str] = []
        self.file = self.opened()

    def opened(self, endpoint: str = "AWS") -> KeptDefinitions:
        """The same file after a restart."""
        heard = Listeners(self._hear)
        return KeptDefinitions(self.path, endpoint, listeners=heard, monotonic=self.clock)

    @property
    def found(self) -> dict[str, Definition]:
        """What a restart finds."""
        return dict(self.opened().read())

    def _hear(self, event: Event) -> None:
        assert isinstance(event, Noticed)
        self.said.append(event.message)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    """Nothing is on disk yet."""
    return Kept(tmp_path)


class TestText:
    """How definitions are written."""

    @given(st.lists(DEFINITION, max_size=4))
    def test_what_is_read_is_what_was_written(self, several: list[Definition]) -> None:
        """Every field of it."""
        assert decoded(encoded(of(*several).values())) == of(*several)

    @given(st.binary() | st.text('[]{}",:arn0 ').map(str.encode))
    def test_whatever_else_is_there_is_malformed_or_definitions(self, content: bytes) -> None:
        """Nothing else is raised, and nothing that is no definition comes out."""
        try:
            found = decoded(content)
        except SourceMalformed:
            return
        assert all(isinstance(each, Definition) for each in found.values())

    @given(st.binary(min_size=1, max_size=3), st.integers(0, 200))
    def test_a_changed_text_is_malformed_or_definitions(self, octets: bytes, at: int) -> None:
        """As if the checksum were right all the same."""
        whole = encoded([Definition("a", "host", {"app": ContainerDefinition("app")}), WEB])
        try:
            found = decoded(whole[:at] + octets + whole[at + len(octets) :])
        except SourceMalformed:
            return
        assert all(isinstance(each, Definition) for each in found.values())

    @pytest.mark.parametrize("number", [0, -1, 65_536])
    def test_a_number_that_is_no_port_is_malformed(self, number: int) -> None:
        """No answer could be made of it."""
        app = ContainerDefinition("app", (Port(number),))
        with pytest.raises(SourceMalformed, match="no port"):
            decoded(encoded([Definition("a", "host", {"app": app})]))

    def test_what_a_definition_is_read_as_has_this_version(self) -> None:
        """Who changes what `definition_of` makes of an answer raises `MEANING`, too.

        Else facts as they were read before would be believed for ever.
        """
        app = container_definition(
            "app",
            port(80, "http"),
            {"containerPortRange": "90-91", "protocol": "udp"},
            healthCheck={"command": ["CMD", "check"]},
            restartPolicy={"enabled": True},
            essential=False,
            dockerLabels={"team": "a"},
        )
        read_as = ContainerDefinition(
            "app",
            (Port(80, "tcp", "http", "app"), *(Port(n, "udp", None, "app") for n in (90, 91))),
            has_health_check=True,
            restarts=True,
            essential=False,
            labels={"team": "a"},
        )
        found = definition_of(definition(app, arn="arn:1", networkMode="awsvpc"))
        assert (MEANING, found) == (1, Definition("arn:1", "awsvpc", {"app": read_as}))

    def test_the_version_names_the_meaning_and_the_fields(self) -> None:
        """And is the same each time."""
        assert version().startswith(f"{MEANING}-")
        assert version() == version()


class TestKeeping:
    """What is written, and when."""

    def test_a_restart_finds_what_is_in_use(self, kept: Kept) -> None:
        """In a file that only we can read."""
        kept.file.keep([read(WEB), read(API)])
        assert kept.found == of(WEB, API)
        assert kept.path.stat().st_mode & 0o777 == 0o600
        assert kept.said == []

    def test_the_first_start_of_all_has_nothing_to_say(self, kept: Kept) -> None:
        """There is no file, and that is no error."""
        assert kept.found == {}
        assert kept.said == []

    def test_nothing_new_is_not_written(self, kept: Kept) -> None:
        """Also where less is in use than before."""
        kept.file.keep([read(WEB, API)])
        before = kept.path.stat().st_ino
        kept.file.keep([read(API)])
        assert kept.path.stat().st_ino == before

    def test_what_is_not_in_use_goes_with_the_next_write(self, kept: Kept) -> None:
        """So that the file is as large as what runs."""
        kept.file.keep([read(WEB)])
        kept.file.keep([read(API)])
        assert kept.found == of(API)

    @pytest.mark.parametrize(
        "other",
        [None, read(complete=False), Outcome(ClusterReading("b"), frozenset({"web"}))],
    )
    def test_what_a_cluster_uses_stays_until_it_is_read_whole(
        self, kept: Kept, other: Outcome | None
    ) -> None:
        """Not read yet, in part, or by name: nobody knows what is in use there."""
        kept.file.keep([read(WEB)])
        kept.file.keep([read(API), other])
        assert kept.found == of(WEB, API)

    def test_names_read_on_demand_are_not_kept(self, kept: Kept) -> None:
        """What one process asked for is not what there is."""
        kept.file.keep([Outcome(ClusterReading("b"), frozenset({"web"}), definitions=of(WEB))])
        assert not kept.path.exists()

    def test_while_more_come_in_they_are_written_once_a_minute(self, kept: Kept) -> None:
        """A first read of a large cluster takes minutes; the last one does not wait."""
        third = Definition("arn:third:1")
        kept.file.keep([read(WEB, more=True)])
        kept.file.keep([read(WEB, API, more=True)])
        assert kept.found == of(WEB)
        kept.clock.now += PAUSE_S
        kept.file.keep([read(WEB, API, more=True)])
        assert kept.found == of(WEB, API)
        kept.file.keep([read(WEB, API, third)])
        assert kept.found == of(WEB, API, third)

    def test_what_is_not_known_to_be_in_use_is_bounded(self, kept: Kept) -> None:
        """What is in use is kept in any case."""
        many = [Definition(f"arn:{n}") for n in range(DEFINITION_LIMIT)]
        kept.file.keep([read(*many)])
        kept.file.keep([read(WEB), None])
        assert len(kept.found) == DEFINITION_LIMIT
        assert kept.found["arn:web:1"] == WEB

    def test_a_disk_that_fails_is_said_once(self, kept: Kept) -> None:
        """And tried again, once a minute: events may come in many times a second."""
        kept.path.mkdir(parents=True)  # a name that no file can take
        kept.file.keep([read(WEB)])
        kept.clock.now += PAUSE_S
        kept.file.keep([read(WEB)])
        (said,) = kept.said
        assert f"cache {kept.path} cannot be written" in said
        kept.path.rmdir()
        kept.file.keep([read(WEB)])
        assert not kept.path.exists()
        kept.clock.now += PAUSE_S
        kept.file.keep([read(WEB)])
        assert kept.found == of(WEB)

    def test_a_folder_that_takes_no_file_is_said_once(self) -> None:
        """As a container's read-only disk does; what was read is known all the same."""
        said: list[Event] = []
        file = KeptDefinitions(
            "/proc/self/cache.definitions", "AWS", listeners=Listeners(said.append)
        )
        assert file.read() == {}
        for _ in range(2):
            file.keep([read(WEB)])
        assert len(said) == 1

    def test_of_two_that_write_the_last_one_wins(self, kept: Kept) -> None:
        """Each file is whole, and all that is in it is right; the other's is read again, once."""
        kept.opened().keep([read(WEB)])
        kept.file.keep([read(API)])
        assert kept.found == of(API)


def _of_another_version(kept: Kept) -> None:
    content = kept.path.read_bytes()
    kept.path.write_bytes(content.replace(version().encode(), b"0-00000000"))


def _no_definitions(kept: Kept) -> None:
    Sealed(kept.path, f"task definitions {version()} of AWS").write([b'[{"arn": 1}]'])


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda kept: cut(kept.path), "cut off"),
        (lambda kept: turned(kept.path), "checksum"),
        (_of_another_version, "it is of task definitions 0-00000000"),
        (_no_definitions, "it has no task definitions"),
        (lambda kept: kept.path.write_bytes(b"x"), "does not begin"),
        (lambda kept: kept.path.chmod(0o620), "others may write"),
    ],
)
def test_what_cannot_be_trusted_is_refused_with_the_reason(
    kept: Kept, harm: Callable[[Kept], object], why: str
) -> None:
    """And replaced by what is read next."""
    kept.file.keep([read(WEB)])
    harm(kept)
    after = kept.opened()
    assert after.read() == {}
    (said,) = kept.said
    assert f"cache {kept.path} is not used" in said
    assert why in said
    kept.path.unlink()
    after.keep([read(API)])
    assert kept.found == of(API)


def test_another_endpoints_definitions_are_refused(kept: Kept) -> None:
    """A local ECS has others under the same names."""
    kept.file.keep([read(WEB)])
    assert kept.opened("http://127.0.0.1:8054").read() == {}


class Restarted:
    """A sidecar's source that ends and begins again beside its cache."""

    def __init__(self, ecs: LocalECS, folder: Path) -> None:
        self.ecs = ecs
        self.cache = folder / "cache"
        self.said: list[str] = []

    def opened(self, *clusters: str) -> EcsSource:
        """A source that has read nothing yet."""
        named = tuple(map(ClusterSettings, clusters or ("prod",)))
        settings = Settings(clusters=named, cache=str(self.cache), share=10.0)
        return EcsSource(settings, listeners=Listeners(self._hear))

    def lives(self, *clusters: str) -> None:
        """A source reads everything there is, and ends."""
        with closing(self.opened(*clusters)) as source:
            observation = source.load(None)
            while observation.pending:
                observation = source.load_pending()

    @property
    def definitions_read(self) -> int:
        """Calls so far."""
        return self.ecs.calls["DescribeTaskDefinition"]

    def _hear(self, event: Event) -> None:
        if isinstance(event, Noticed):
            self.said.append(event.message)


@pytest.fixture
def restarted(ecs: LocalECS, tmp_path: Path) -> Iterator[Restarted]:
    """A local ECS with five services, which were read once."""
    ecs.populate("prod", services=5, tasks=10, instances=2, mode="awsvpc")
    made = Restarted(ecs, tmp_path)
    made.lives()
    assert made.definitions_read == 5
    yield made
    assert made.said == []


class TestRestart:
    """The source with a cache."""

    def test_no_definition_is_read_again(self, restarted: Restarted) -> None:
        """In awsvpc mode ports depend on them: the first load knows everything."""
        with closing(restarted.opened()) as source:
            observation = source.load(None)
        assert not observation.pending
        assert [len(s.endpoints) for s in observation.clusters[0].services] == [2] * 5
        restarted.lives()
        assert restarted.definitions_read == 5

    def test_what_is_new_is_read_and_kept_too(self, restarted: Restarted) -> None:
        """By the restart after it, as well."""
        restarted.ecs.populate("prod", services=2, tasks=2, instances=2, prefix="new")
        restarted.lives()
        restarted.lives()
        assert restarted.definitions_read == 7

    def test_a_cluster_that_is_added_costs_its_own_definitions_only(
        self, restarted: Restarted
    ) -> None:
        """One file is for all clusters of a process."""
        restarted.ecs.add_cluster("stage")
        restarted.ecs.populate("stage", services=2, tasks=2, instances=2, prefix="stage")
        for clusters in (("prod", "stage"), ("stage",), ("prod",)):
            restarted.lives(*clusters)
        assert restarted.definitions_read == 7

    def test_names_read_on_demand_need_none_either(self, restarted: Restarted) -> None:
        """Who reads whole clusters has kept them."""
        with closing(restarted.opened()) as source:
            (reading,) = source.load({"prod": frozenset({"svc-3"})}).clusters
        assert [len(s.endpoints) for s in reading.services] == [2]
        assert restarted.definitions_read == 5

    def test_a_child_of_a_fork_needs_none_either(self, restarted: Restarted) -> None:
        """Its memory is its own, the disk is not."""
        with closing(restarted.opened()) as source:
            source.load(None)
            source.renew_after_fork()
            source.load(None)
        assert restarted.definitions_read == 5

    def test_without_a_disk_everything_is_read_all_the_same(self, restarted: Restarted) -> None:
        """At the cost of the calls."""
        kept = restarted.cache.with_name("cache.definitions")
        kept.unlink()
        kept.mkdir()
        restarted.lives()
        assert restarted.definitions_read == 10
        assert len(restarted.said) == 2  # it cannot be used, and cannot be written
        restarted.said.clear()

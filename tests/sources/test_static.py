"""Services from a file."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from discovery import documents
from discovery.client.resolver import Resolver
from discovery.errors import SourceMalformed, SourceUnreachable
from discovery.model import ClusterReading, Port, Service
from discovery.sources.static import StaticSource, services_in
from tests.made import NOW, FakeClock

TOML = """
[services.web]
endpoints = [{host = "10.0.0.1", port = 8080}, {host = "10.0.0.2", port = 8080}]

[services."db.main"]
cluster = "office"
endpoints = [{host = "2001:DB8::1", port = 5432, port_name = "psql", weight = 2.5}]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with two services in two clusters."""
    file = tmp_path / "services.toml"
    file.write_text(TOML)
    return file


def source(path: Path) -> StaticSource:
    return StaticSource(path, clock=FakeClock())


def rewrite(path: Path, content: str) -> None:
    """Replace the file as editors do: a new file under the old name."""
    other = path.with_name("new")
    other.write_text(content)
    os.replace(other, path)


def first(static: StaticSource) -> ClusterReading:
    return static.load(None).clusters[0]


def one(content: str, filename: str = "x.toml") -> Service:
    (service,) = services_in(content.encode(), filename, "demo")
    return service


def test_a_file_is_read_whole(path: Path) -> None:
    """One complete reading for each cluster in it."""
    observation = source(path).load({"default": frozenset({"web"})})
    assert observation.observed_at == NOW
    assert [(r.label, r.complete) for r in observation.clusters] == [
        ("default", True),
        ("office", True),
    ]
    web, db = (r.services[0] for r in observation.clusters)
    assert [e.authority for e in web.endpoints] == ["10.0.0.1:8080", "10.0.0.2:8080"]
    assert (db.name, db.endpoints[0].authority) == ("db.main", "[2001:db8::1]:5432")
    assert db.ports == (Port(5432, name="psql"),)


def test_clusters_are_known_before_any_load(path: Path) -> None:
    """Names need them; the default comes first where a service is in it."""
    assert source(path).labels == ("default", "office")
    path.write_text('services.a = {cluster = "z", endpoints = []}')
    assert source(path).labels == ("z",)
    path.unlink()
    assert source(path).labels == ("default",)


def test_the_clusters_are_those_that_the_file_names_now(path: Path) -> None:
    """A file that comes after the first look replaces the label that stood in for its own."""
    content = path.read_text()
    path.unlink()
    late = source(path)
    assert late.load(None).labels == ("default",)
    path.write_text('services.a = {cluster = "z", endpoints = []}')
    assert late.load(None).labels == ("z",)
    path.write_text(content)
    assert late.load(None).labels[:2] == ("default", "office")


def test_a_weight_of_nothing_excludes() -> None:
    """As the tag does, with the reason."""
    service = one(endpoints('{host="10.0.0.1", port=80, weight=0}', '{host="10.0.0.2", port=80}'))
    assert [e.host for e in service.endpoints] == ["10.0.0.2"]
    (excluded,) = service.exclusions
    assert (excluded.task_arn, excluded.reason) == ("10.0.0.1:80", "its weight is 0")


@pytest.mark.parametrize("weight", ["inf", "nan", "-1", "1e9"])
def test_weights_are_numbers_that_can_be_balanced_by(weight: str) -> None:
    """What no policy could use is a mistake in the file."""
    with pytest.raises(SourceMalformed, match="weight"):
        one(endpoints(f'{{host="10.0.0.1", port=80, weight={weight}}}'))


@pytest.mark.parametrize("filename", ["x.json", "x.JSON"])
def test_json_says_the_same(filename: str) -> None:
    """By the file's suffix."""
    content = {"services": {"web": {"endpoints": [{"host": "10.0.0.1", "port": 80}]}}}
    assert one(json.dumps(content), filename) == one(
        'services.web.endpoints = [{host = "10.0.0.1", port = 80}]'
    )


def test_an_answer_can_be_pasted_in() -> None:
    """Every member that `resolve --json` prints is taken, nulls too."""
    kept = one('services.web.endpoints = [{host = "10.0.0.1", port = 80, zone = "a"}]')
    pasted = {"services": {"web": {"endpoints": [documents.endpoint(kept.endpoints[0])]}}}
    assert one(json.dumps(pasted), "x.json") == kept


def endpoints(*tables: str) -> str:
    return f"services.web.endpoints = [{', '.join(tables)}]"


@pytest.mark.parametrize(
    ("tables", "ports"),
    [
        (['{host="10.0.0.1", port=80}', '{host="10.0.0.2", port=80}'], (Port(80),)),
        (['{host="10.0.0.1", port=80}', '{host="10.0.0.2", port=81}'], ()),
        (['{host="10.0.0.1", port=80, container_port=8080}'], (Port(8080),)),
        (
            [
                '{host="10.0.0.1", port=80, port_name="http"}',
                '{host="10.0.0.1", port=81, port_name="admin"}',
            ],
            (Port(80, name="http"), Port(81, name="admin")),
        ),
        (['{host="10.0.0.1", port=53, protocol="udp"}'], (Port(53, "udp"),)),
        ([], ()),
    ],
)
def test_ports_are_those_that_a_caller_can_know(tables: list[str], ports: tuple[Port]) -> None:
    """A port that differs from place to place is nothing to ask by."""
    service = one(endpoints(*tables))
    assert service.ports == ports
    assert service.default_port == (ports[0] if len(ports) == 1 else None)


def test_endpoints_on_ports_of_their_own_are_one_pool(path: Path) -> None:
    """Nobody has to say which port, where each place has another."""
    rewrite(path, endpoints('{host="10.0.0.1", port=80}', '{host="10.0.0.2", port=81}'))
    with Resolver(source=f"file:{path}") as resolver:
        assert [e.port for e in resolver.endpoints("web")] == [80, 81]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("services.web.endpoints = [\n{host=}]", r"line 2, column 7: Invalid value"),
        ("x = 1", r"want a table called services"),
        ("services = []", r"want a table called services"),
        ("services = {}\nother = 1", r"other: unknown key"),
        ("services.web = 1", r"services\.web: 1 cannot be used, want object"),
        ("services.web.cluster = 'a'", r"services\.web: missing key 'endpoints'"),
        ("services.web.endpoint = []", r"services\.web: .*'endpoints?'"),
        (
            "services.web = {endpoints = [], cluster = 'a.b'}",
            r"services\.web\.cluster: 'a\.b' cannot be used, want str matching regex",
        ),
        (
            endpoints('{host="10.0.0.1", port=80}', '{host="10.0.0.1", port=99999}'),
            r"services\.web\.endpoints\[1\]\.port: 99999 cannot be used, want int <= 65535",
        ),
        (
            endpoints('{host="10.0.0.1", port="80"}'),
            r"services\.web\.endpoints\[0\]\.port: '80' cannot be used, want int",
        ),
        (
            endpoints('{host="db.local", port=80}'),
            r"endpoints\[0\]\.host: 'db\.local' cannot be used, want an IP address; host names",
        ),
        (
            endpoints('{host="10.0.0.1", port=80, health="fine"}'),
            r"endpoints\[0\]\.health: 'fine' cannot be used, want one of healthy, unknown",
        ),
        (
            endpoints('{host="10.0.0.1", port=80, weight=-1}'),
            r"endpoints\[0\]\.weight: -1 cannot be used, want float >= 0",
        ),
        (
            endpoints('{host="10.0.0.1", prt=80}'),
            r"services\.web\.endpoints\[0\]: .*'(prt|port)'",
        ),
        (endpoints("{port=80}"), r"services\.web\.endpoints\[0\]: missing key 'host'"),
        ('services."a b".endpoints = []', r"services\.a b: 'a b' cannot be a service's name"),
    ],
)
def test_a_mistake_is_named_with_line_or_path_value_and_want(content: str, message: str) -> None:
    """Whoever wrote the file knows what to change."""
    with pytest.raises(SourceMalformed, match=message):
        one(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"services": \n{]}', r"line 2, column 2: "),
        (b'{"services": {}}\xff', r"line 1: not UTF-8"),
        (b"[" * 100_000, r"nested too deeply"),
        (b"[]", r"want a table called services"),
        (rb'{"services": {"\ud800": {"endpoints": []}}}', r"'\\ud800' is no character"),
        (b'{"services": {"web": null}}', r"services\.web: None cannot be used, want object"),
    ],
)
def test_mistakes_in_json_are_named_too(content: bytes, message: str) -> None:
    """With line and column where it is not JSON at all."""
    with pytest.raises(SourceMalformed, match=message):
        services_in(content, "x.json", "demo")


def test_an_unchanged_file_is_not_read_again(path: Path) -> None:
    """Only its time, size and inode are looked at; the reading is fresh all the same."""
    static = source(path)
    before = first(static)
    path.chmod(0o000)  # nobody but root could read it now
    after = first(static)
    assert after.services[0] is before.services[0]
    assert after.error is None


def test_a_changed_file_is_read_again(path: Path) -> None:
    """Also one of the same size, by its inode or time."""
    static = source(path)
    first(static)
    rewrite(path, TOML.replace("10.0.0.1", "10.0.0.9"))
    assert first(static).services[0].endpoints[0].host == "10.0.0.9"


def test_a_mistake_leaves_the_last_good_file_in_force(path: Path) -> None:
    """The error says file and line; the next good file is taken."""
    static = source(path)
    first(static)
    rewrite(path, "services = [")
    broken = first(static)
    assert not broken.complete
    assert isinstance(broken.error, SourceMalformed)
    assert str(broken.error).startswith(f"{path}: line 1: ")
    rewrite(path, endpoints('{host="10.0.0.3", port=80}'))
    assert first(static).services[0].endpoints[0].host == "10.0.0.3"


def test_what_is_no_file_is_refused_without_waiting_for_it(path: Path) -> None:
    """A pipe that nobody writes to, or one that never ends."""
    static = source(path)
    first(static)
    path.unlink()
    os.mkfifo(path)
    assert str(first(static).error) == f"{path}: it is no file"


def test_a_file_that_vanishes_leaves_what_was_known(path: Path) -> None:
    """And is taken again when it comes back."""
    static = source(path)
    first(static)
    path.unlink()
    gone = first(static)
    assert isinstance(gone.error, SourceUnreachable)
    assert str(gone.error) == f"{path}: No such file or directory"
    path.write_text(TOML)
    assert first(static).services


def test_a_cluster_that_leaves_the_file_is_read_as_empty(path: Path) -> None:
    """Its services are gone, and known to be."""
    static = source(path)
    static.load(None)
    rewrite(path, endpoints('{host="10.0.0.1", port=80}'))
    readings: dict[str, Any] = {r.label: r for r in static.load(None).clusters}
    assert readings["office"].services == ()
    assert readings["office"].complete


def test_a_resolver_follows_the_file(path: Path) -> None:
    """What is taken out is gone with the next look, and a mistake changes nothing."""
    with Resolver(source=f"file:{path}") as resolver:
        assert [e.port for e in resolver.endpoints("web")] == [8080, 8080]
        assert resolver.endpoints("db.main.office")[0].port == 5432
        rewrite(path, "services = {}")
        resolver.refresh()
        assert resolver.services() == ()
        rewrite(path, "services = [")
        with pytest.raises(SourceMalformed):
            resolver.refresh()


def test_the_resolvers_cluster_is_the_default_one(path: Path) -> None:
    """Services that name none are in it."""
    with Resolver("prod", source=f"file:{path}") as resolver:
        assert resolver.service("web").full_name == "web.prod"


def test_a_file_that_is_not_there_is_said_plainly(tmp_path: Path) -> None:
    """One sentence with its path."""
    missing = tmp_path / "missing.toml"
    with (
        Resolver(source=f"file:{missing}") as resolver,
        pytest.raises(SourceUnreachable, match=r"missing\.toml: No such file or directory"),
    ):
        resolver.endpoints("web")

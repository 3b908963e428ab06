"""`config`, and where settings come from, the task's metadata included."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from discovery.cli.layers import METADATA_VARIABLE, given
from discovery.errors import SourceUnreachable
from discovery.settings import declared
from discovery.written import ClusterSettings
from tests.cli.programs import run, said_in_one_sentence

TASK = {
    "Cluster": "arn:aws:ecs:eu-west-1:123456789012:cluster/prod",
    "TaskARN": "arn:aws:ecs:eu-west-1:123456789012:task/prod/0123456789abcdef0123456789abcdef",
    "Family": "discovery",
    "AvailabilityZone": "eu-west-1b",
}


class Metadata:
    """A task metadata endpoint that says a document."""

    def __init__(self) -> None:
        self.document: dict[str, Any] = {}
        says = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(says.document).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)

    def environment(self, network_mode: str) -> dict[str, str]:
        """The environment of a task with that network mode."""
        networks = [{"NetworkMode": network_mode, "IPv4Addresses": ["10.0.0.5"]}]
        self.document = TASK | {"Containers": [{"Name": "discovery", "Networks": networks}]}
        return {METADATA_VARIABLE: f"http://127.0.0.1:{self.server.server_port}/v4/id"}


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    """A metadata endpoint on loopback."""
    metadata = Metadata()
    thread = threading.Thread(target=metadata.server.serve_forever, args=(0.01,))
    thread.start()
    yield metadata
    metadata.server.shutdown()
    thread.join()
    metadata.server.server_close()


def test_every_setting_is_printed_with_its_origin(tmp_path: Path) -> None:
    """A flag wins over the environment, that over the file, that over the default."""
    path = tmp_path / "discovery.toml"
    path.write_text('ttl = "7s"\ninterval = "8s"\nzone = "file.example"\n')
    document = run(
        "config", "--json", "--ttl", "9s", "--config", str(path),
        env={"ECS_DISCOVERY_INTERVAL": "20s", "ECS_DISCOVERY_TTL": "6s"},
    ).document  # fmt: skip
    rows = {row["key"]: (row["value"], row["origin"]) for row in document["settings"]}
    assert list(rows) == [declaration.metadata["key"] for declaration in declared()]
    assert rows["ttl"] == (9, "flag")
    assert rows["interval"] == (20.0, "environment")
    assert rows["zone"] == ("file.example", f"file {path}")
    assert rows["dns"] == ("127.0.0.1:1053", "default")


def test_the_table_has_the_same(tmp_path: Path) -> None:
    """A person sees key, value, origin and variable."""
    path = tmp_path / "discovery.toml"
    path.write_text('[[clusters]]\nname = "prod"\nregion = "eu-west-1"\nalias = "eu"\n')
    done = run("config", env={"ECS_DISCOVERY_CONFIG": str(path)})
    line = next(line for line in done.out.splitlines() if line.startswith("clusters"))
    assert line.split("  ")[1:] != []
    assert "eu-west-1/prod as eu" in line
    assert f"file {path}" in line
    assert line.endswith("ECS_DISCOVERY_CLUSTER")


def test_clusters_are_given_more_than_once() -> None:
    """By flag, with region, or as ARN."""
    document = run("config", "--json", "--cluster", "prod", "--cluster", "eu-west-1/stage").document
    clusters = next(r["value"] for r in document["settings"] if r["key"] == "clusters")
    assert [(c["name"], c["region"]) for c in clusters] == [
        ("prod", None),
        ("stage", "eu-west-1"),
    ]


def test_a_task_needs_no_setting(metadata: Metadata) -> None:
    """Cluster, region and addresses come from the metadata, and the origin says so."""
    found = given({}, None, metadata.environment("awsvpc"))
    assert found.settings.clusters == (ClusterSettings("prod", "eu-west-1"),)
    assert (str(found.settings.dns), str(found.settings.http)) == (
        "127.0.0.1:53",
        "127.0.0.1:8053",
    )
    assert found.settings.availability_zone == "eu-west-1b"
    assert found.origins["clusters"] == found.origins["dns"] == "task metadata"
    assert found.origins["availability_zone"] == "task metadata"
    assert found.origins["http"] == "default"


def test_a_host_task_listens_where_containers_look(metadata: Metadata) -> None:
    """On docker's own address of the host."""
    found = given({}, None, metadata.environment("host"))
    assert (str(found.settings.dns), str(found.settings.http)) == (
        "172.17.0.1:53",
        "172.17.0.1:8053",
    )


def test_a_bridge_task_listens_where_it_can(metadata: Metadata) -> None:
    """On docker's address where that is ours, else on its own, whichever docker gave it."""
    found = given({}, None, metadata.environment("bridge"))
    assert found.settings.dns.host in ("172.17.0.1", "0.0.0.0")
    assert found.settings.http.host == found.settings.dns.host
    assert (found.settings.dns.port, found.settings.http.port) == (53, 8053)


def test_settings_win_over_metadata(metadata: Metadata) -> None:
    """What a person wrote counts."""
    environment = metadata.environment("awsvpc") | {"ECS_DISCOVERY_CLUSTER": "other"}
    found = given({"dns": "127.0.0.1:1053"}, None, environment)
    assert found.settings.clusters == (ClusterSettings("other"),)
    assert str(found.settings.dns) == "127.0.0.1:1053"


SILENT = {METADATA_VARIABLE: "http://127.0.0.1:1/v4/id"}


def test_silent_metadata_is_the_error_only_where_it_is_needed() -> None:
    """With a cluster named elsewhere, or another source, nothing is missing."""
    with pytest.raises(SourceUnreachable):
        given({}, None, SILENT).need_cluster()
    given({"clusters": ("prod",)}, None, SILENT).need_cluster()
    given({"source": "file:services.toml"}, None, SILENT).need_cluster()


def test_silent_metadata_does_not_stop_what_reads_no_cluster(static: Path) -> None:
    """Settings are printed and a file is read; what would read ECS says what is silent."""
    assert run("config", env=SILENT).code == 0
    assert run("resolve", "web", "--source", f"file:{static}", env=SILENT).code == 0
    done = run("ls", env=SILENT)
    assert done.code == 3
    assert "metadata" in said_in_one_sentence(done)

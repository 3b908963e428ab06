"""The task metadata endpoint: what it says, and what it may fail to say."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest

from discovery.ecs.clients import Access, Clients
from discovery.ecs.metadata import TaskIdentity, identity
from discovery.errors import SourceMalformed, SourceUnreachable

TASK = {
    "Cluster": "arn:aws:ecs:eu-west-1:123456789012:cluster/prod",
    "TaskARN": "arn:aws:ecs:eu-west-1:123456789012:task/prod/1",
    "Family": "orders",
    "AvailabilityZone": "eu-west-1a",
    "LaunchType": "EC2",
    "Containers": [{"Name": "app", "Networks": [{"NetworkMode": "bridge"}]}],
}


class Metadata(BaseHTTPRequestHandler):
    """Answers `/v4/x/task` with what the test says."""

    answer: ClassVar[tuple[int, bytes]] = (200, b"")

    def do_GET(self) -> None:
        status, body = self.answer if self.path == "/v4/x/task" else (404, b"")
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    """The address of a metadata endpoint, as the variable has it."""
    server = HTTPServer(("127.0.0.1", 0), Metadata)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v4/x"
    server.shutdown()
    thread.join()
    server.server_close()


def says(endpoint: str, body: bytes, status: int = 200) -> dict[str, str]:
    """An environment in which the endpoint answers so."""
    Metadata.answer = (status, body)
    return {"ECS_CONTAINER_METADATA_URI_V4": endpoint}


def test_a_task_knows_who_it_is(endpoint: str) -> None:
    """Cluster, region, family, zone and network."""
    assert identity(says(endpoint, json.dumps(TASK).encode())) == TaskIdentity(
        cluster="prod",
        region="eu-west-1",
        task_arn="arn:aws:ecs:eu-west-1:123456789012:task/prod/1",
        family="orders",
        zone="eu-west-1a",
        launch_type="EC2",
        network_mode="bridge",
        cluster_arn="arn:aws:ecs:eu-west-1:123456789012:cluster/prod",
    )


def test_outside_of_ecs_there_is_no_identity() -> None:
    """And nobody is asked."""
    assert identity({}) is None


@pytest.mark.parametrize("body", [b"{", b"[]", b"", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_document_is_malformed(endpoint: str, body: bytes) -> None:
    """It names the endpoint."""
    with pytest.raises(SourceMalformed, match=r"127\.0\.0\.1"):
        identity(says(endpoint, body))


def test_an_error_answer_is_no_identity(endpoint: str) -> None:
    """The agent answers 4xx and 5xx while it starts."""
    with pytest.raises(SourceUnreachable, match="does not answer"):
        identity(says(endpoint, b"{}", status=500))


def test_an_endpoint_that_is_not_there_is_unreachable(endpoint: str) -> None:
    """Within its timeout."""
    port = endpoint.split(":")[2].split("/")[0]
    nobody = endpoint.replace(f":{port}/", ":1/")
    with pytest.raises(SourceUnreachable, match="does not answer"):
        identity({"ECS_CONTAINER_METADATA_URI_V4": nobody})


def test_an_endpoint_that_is_no_address_is_malformed() -> None:
    """It is said, as whatever else is wrong with it."""
    with pytest.raises(SourceMalformed, match="cannot be read"):
        identity({"ECS_CONTAINER_METADATA_URI_V4": "http://[::1"})


def test_the_region_of_our_task_stands_in(endpoint: str, bare: pytest.MonkeyPatch) -> None:
    """Where neither settings nor environment name one."""
    bare.setenv("AWS_ACCESS_KEY_ID", "x")
    bare.setenv("AWS_SECRET_ACCESS_KEY", "x")
    clients = Clients(says(endpoint, json.dumps(TASK).encode()))
    assert clients.client("ecs", Access()).meta.region_name == "eu-west-1"
    clients.close()

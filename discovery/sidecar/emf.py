"""CloudWatch's embedded metric format: a line of JSON a minute, which CloudWatch Logs reads.

For tasks with the `awslogs` driver and no Prometheus. Each line stands by itself: gauges as they
are, counters as what came since the line before.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from prometheus_client import CollectorRegistry
from prometheus_client.samples import Sample

from discovery.sidecar.levels import PREFIX

NAMESPACE = "ecs-discovery"
EVERY_S = 60.0
MOST_CHARACTERS = 1_024

Unit = Literal["Count", "Seconds", "None"]


@dataclass(frozen=True, slots=True)
class Told:
    """A metric of CloudWatch, and the samples that it sums, or the largest of which it is."""

    name: str
    unit: Unit
    sample: str
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    but: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    largest: bool = False

    def value(self, samples: Iterable[Sample]) -> float:
        """What it is in these; 0 where nothing was counted."""
        name = f"{PREFIX}_{self.sample}"
        found = [s.value for s in samples if s.name == name and self._takes(s.labels)]
        return max(found, default=0.0) if self.largest else sum(found)

    def _takes(self, labels: Mapping[str, str]) -> bool:
        wanted = all(labels.get(name) in values for name, values in self.only.items())
        return wanted and not any(labels.get(name) in values for name, values in self.but.items())


TOLD = (
    Told("Ready", "None", "ready"),
    Told("SnapshotAge", "Seconds", "snapshot_age_seconds", largest=True),
    Told("ClustersFailing", "Count", "cluster_failing"),
    Told("Services", "Count", "services"),
    Told("Endpoints", "Count", "endpoints"),
    Told("Excluded", "Count", "service_excluded"),
    Told("Ejected", "Count", "ejected_endpoints"),
    Told("AwsCalls", "Count", "aws_calls_total"),
    Told("AwsErrors", "Count", "aws_calls_total", but={"result": ("ok",)}),
    Told("AwsThrottles", "Count", "aws_throttles_total"),
    Told("DnsQueries", "Count", "dns_queries_total"),
    Told("DnsFailures", "Count", "dns_queries_total", only={"rcode": ("SERVFAIL",)}),
    Told("HttpRequests", "Count", "http_requests_total"),
    Told("Retries", "Count", "retries_total"),
)


class Emf:
    """Writes from `start` to `close`; the clusters' `labels` are the dimension of its metrics."""

    def __init__(
        self,
        registry: CollectorRegistry,
        labels: Callable[[], Sequence[str]],
        write: Callable[[str], object] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._registry = registry
        self._labels = labels
        self._write = write or _print
        self._clock = clock
        self._before: dict[str, float] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="emf", daemon=True)

    def start(self) -> None:
        """Begin; the first line comes after a minute."""
        self._thread.start()

    def close(self) -> None:
        """Write what came since the last line, and stop; safe to call twice."""
        if self._thread.is_alive():
            self._closed.set()
            self._thread.join(5.0)

    def tell(self) -> None:
        """Write a line."""
        samples = [s for family in self._registry.collect() for s in family.samples]
        now = {told.name: told.value(samples) for told in TOLD}
        since = {t.name: self._since(t, now[t.name]) for t in TOLD}
        self._before = now
        # No dimension may be empty, nor longer.
        cluster = ",".join(self._labels())[:MOST_CHARACTERS] or "none"
        self._write(line(cluster, since, self._clock()))

    def _since(self, told: Told, value: float) -> float:
        if not told.sample.endswith("_total"):
            return value
        return max(0.0, value - self._before.get(told.name, 0.0))

    def _run(self) -> None:
        while not self._closed.wait(EVERY_S):
            self.tell()
        self.tell()


def line(cluster: str, values: Mapping[str, float], at: float) -> str:
    """One line; `at` is seconds since the epoch."""
    told = {
        "Namespace": NAMESPACE,
        "Dimensions": [["Cluster"]],
        "Metrics": [{"Name": each.name, "Unit": each.unit} for each in TOLD],
    }
    about = {"Timestamp": int(at * 1000), "CloudWatchMetrics": [told]}
    return json.dumps({"_aws": about, "Cluster": cluster, **values}, separators=(",", ":"))


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()

"""What proxies and monitors are told of a fixed fleet, and how the paths for them behave.

The documents are checked in beside this file, in `golden`.
"""

import asyncio
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from discovery.errors import NotReady, SourceUnreachable
from discovery.model import Endpoint, Exclusion, Port, Service
from discovery.sidecar.adapters.offers import integer_weight
from discovery.sidecar.adapters.routes import Made
from discovery.sidecar.adapters.told import PATIENCE_S, Told
from discovery.sources.base import FixedSource
from tests.sidecar.asking import Asked
from tests.sidecar.fleet import NOW, WEB, endpoint, observed

GOLDEN = Path(__file__).parent / "golden"
CLUSTERS, ENDPOINTS = "/v3/discovery:clusters", "/v3/discovery:endpoints"
ALL = ["/sd/prometheus", "/sd/traefik", CLUSTERS, ENDPOINTS]
TASK = "arn:aws:ecs:eu-west-1:123456789012:task"


def task(number: int, service: str, host: str, port: Port, **more: Any) -> Endpoint:
    """An endpoint whose task and definition have the ARNs of today."""
    return Endpoint(
        host,
        *(port.container_port, port.protocol, port.container_port, port.name, service),
        task_arn=f"{TASK}/prod/{service}{number}",
        task_definition=f"arn:aws:ecs:eu-west-1:123456789012:task-definition/{service}:7",
        cluster="prod",
        service=service,
        zone=f"eu-west-1{'abc'[number % 3]}",
        **more,
    )


GRPC = Port(50_051, "tcp", "grpc", "api")
ADMIN = Port(9_000, "tcp", None, "api")
STATS = Port(8_125, "udp", "stats", "api")
SECURE = Port(8_443, "tcp", "https", "shop")
API = Service(
    *("api", "prod", "service"),
    endpoints=(
        *(task(0, "api", "10.0.0.1", port, health="healthy") for port in (GRPC, ADMIN, STATS)),
        task(1, "api", "2001:db8::1", GRPC, weight=0.25, labels={"com.example/team": "core"}),
        task(2, "api", "10.0.0.2", GRPC, weight=0.0),
    ),
    ports=(GRPC, ADMIN, STATS),
    default_port=GRPC,
    task_addresses=frozenset({"10.0.0.1", "2001:db8::1", "10.0.0.2"}),
)
LAST = Service(
    *("shop", "prod", "family"),
    endpoints=(
        task(0, "shop", "10.0.0.3", SECURE, health="starting"),
        task(3, "shop", "10.0.0.4", SECURE, health="unhealthy"),
    ),
    ports=(SECURE,),
    default_port=SECURE,
)
TWO = Service(
    *("two", "prod"),
    endpoints=(task(0, "two", "10.0.0.5", Port(80)), task(0, "two", "10.0.0.5", Port(81))),
    ports=(Port(80), Port(81)),
)
EMPTY = Service("void", "prod", exclusions=(Exclusion(f"{TASK}/prod/e1", "it is stopping"),))
SPACED = Service("a group", "prod", "family", endpoints=(task(0, "spaced", "10.0.0.6", Port(80)),))
DATAGRAMS = Service("log", "prod", endpoints=(task(0, "log", "10.0.0.7", STATS),), ports=(STATS,))
FLEET = (API, LAST, TWO, EMPTY, SPACED, DATAGRAMS)


@pytest.fixture
def asked() -> Iterator[Asked]:
    """An application that knows the fleet."""
    asked = Asked(FixedSource(observed(*FLEET)))
    with asked.resolver as resolver:
        assert resolver.wait_ready(5)
        yield asked


@pytest.mark.parametrize(
    ("name", "path", "body"),
    [
        ("prometheus", "/sd/prometheus", None),
        ("traefik", "/sd/traefik", None),
        ("envoy_clusters", CLUSTERS, {}),
        ("envoy_endpoints", ENDPOINTS, {}),
    ],
)
def test_a_fixed_fleet_is_told_in_fixed_words(
    asked: Asked, name: str, path: str, body: object
) -> None:
    """Every shape of service that there is: see the documents."""
    answer = asked(path, "GET" if body is None else "POST", body=body)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == json.loads((GOLDEN / f"{name}.json").read_text())


@pytest.mark.parametrize("path", [CLUSTERS, ENDPOINTS])
def test_a_version_that_envoy_has_is_not_sent_again(asked: Asked, path: str) -> None:
    """By its own name for it; another one, and one of other names, is."""
    version = asked(path, "POST", body={}).json()["version_info"]
    again = asked(path, "POST", body={"version_info": version})
    assert (again.status_code, again.content) == (304, b"")
    assert asked(path, "POST", body={"versionInfo": version}).status_code == 304
    assert asked(path, "POST", body={"version_info": "x"}).status_code == 200
    other = {"version_info": version, "resource_names": ["api.prod"]}
    assert asked(path, "POST", body=other).status_code == 200


def test_a_change_elsewhere_is_no_new_version(asked: Asked) -> None:
    """A cluster's version is that of its own endpoints."""
    body = {"resource_names": ["api.prod"]}
    before = asked(ENDPOINTS, "POST", body=body).json()["version_info"]
    asked.source.say(observed(*FLEET, WEB))
    asked.resolver.refresh()
    same = asked(ENDPOINTS, "POST", body={**body, "version_info": before})
    assert same.status_code == 304
    asked.source.say(observed(replace(API, endpoints=API.endpoints[:1]), *FLEET[1:], WEB))
    asked.resolver.refresh()
    assert asked(ENDPOINTS, "POST", body={**body, "version_info": before}).status_code == 200


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        ("api", ["10.0.0.1", "2001:db8::1", "10.0.0.2"]),
        ("_9000._tcp.api.prod.ecs.internal", ["10.0.0.1"]),
        ("_stats._udp.api", []),
        ("void.prod", []),
    ],
)
def test_envoy_may_ask_by_any_name(asked: Asked, name: str, addresses: list[str]) -> None:
    """What it calls a cluster is what the cluster is called in the answer."""
    (found,) = asked(ENDPOINTS, "POST", body={"resource_names": [name]}).json()["resources"]
    assert found["cluster_name"] == name
    several = [e for locality in found["endpoints"] for e in locality["lb_endpoints"]]
    hosts = {e["endpoint"]["address"]["socket_address"]["address"] for e in several}
    assert hosts == set(addresses)


def test_what_is_not_known_is_left_out(asked: Asked) -> None:
    """Envoy then keeps what it has."""
    names = ["nope.prod", "api.prod", "_nope._tcp.api.prod", "", "a b"]
    found = asked(ENDPOINTS, "POST", body={"resource_names": names}).json()["resources"]
    assert [resource["cluster_name"] for resource in found] == ["api.prod"]


def test_clusters_can_be_named(asked: Asked) -> None:
    """Only those are told."""
    found = asked(CLUSTERS, "POST", body={"resource_names": ["void.prod"]}).json()["resources"]
    assert [resource["name"] for resource in found] == ["void.prod"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'"\xff"', 400),
        (b'{"resource_names": "api"}', 400),
        (b'{"resource_names": [1]}', 400),
        (b'{"version_info": 1}', 400),
        (b'{"resource_names": ["two"]}', 400),
        (b"[" * 100_000, 400),
        (b" " * 2_000_000, 413),
        (json.dumps({"resource_names": ["a"] * 1_001}).encode(), 413),
    ],
)
def test_what_is_no_request_is_an_error(asked: Asked, body: bytes, status: int) -> None:
    """With a sentence, like every other; what is ambiguous is one, too."""
    answer = asked(ENDPOINTS, "POST", body=body)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("path", [CLUSTERS, ENDPOINTS])
def test_xds_is_posted(asked: Asked, path: str) -> None:
    """As Envoy does."""
    answer = asked(path)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize("path", ["/sd/prometheus", "/sd/traefik"])
def test_what_is_known_by_its_tag_is_not_sent_again(asked: Asked, path: str) -> None:
    """Until it changes."""
    tag = asked(path).headers["ETag"]
    known = {"If-None-Match": f'"other", {tag}'}
    again = asked(path, headers=known)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == tag
    asked.source.say(observed(*FLEET, WEB))
    asked.resolver.refresh()
    assert asked(path, headers=known).status_code == 200


@pytest.mark.parametrize("path", ["/sd/prometheus", "/sd/traefik"])
def test_one_cluster_can_be_asked_for(asked: Asked, path: str) -> None:
    """By its label; one that is not there is an error, not an empty answer."""
    assert asked(f"{path}?cluster=PROD").json() == asked(path).json()
    missing = asked(f"{path}?cluster=stage")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "unknown_cluster")


@pytest.mark.parametrize("path", ALL)
def test_nothing_is_told_before_everything_is_known(path: str) -> None:
    """Who replaces all it has by the answer keeps it."""
    asked = Asked(FixedSource(observed(error=SourceUnreachable("nobody answers"))))
    with asked.resolver as resolver:
        resolver.start()
        answer = asked(path, "POST" if path.startswith("/v3") else "GET", body={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")


NAMELESS = replace(
    TWO,
    endpoints=tuple(replace(e, port_name=None) for e in TWO.endpoints),
    definitions_pending=True,
)
NAMED = replace(TWO, ports=(Port(80, "tcp", "http"), Port(81, "tcp", "admin")))


def told(asked: Asked, path: str) -> int:
    """The status of what is said there."""
    return asked(path, "POST" if path.startswith("/v3") else "GET", body={}).status_code


def say(asked: Asked, *services: Service) -> None:
    """Have these be all that there is."""
    asked.source.say(observed(*services))
    asked.resolver.refresh()


@pytest.mark.parametrize("path", ALL)
def test_nothing_is_told_before_ports_have_their_names(path: str) -> None:
    """After a cold start a service is known before the definition that names its ports."""
    asked = Asked(FixedSource(observed(WEB, NAMELESS)))
    with asked.resolver as resolver:
        assert resolver.wait_ready(5)
        assert told(asked, path) == 503
        say(asked, WEB, NAMED)
        assert told(asked, path) == 200


@pytest.mark.parametrize("path", ALL)
def test_names_of_ports_are_not_lost_for_a_moment(asked: Asked, path: str) -> None:
    """While the definition of tasks that replace all others is not read yet; what is new, and
    what keeps its names, holds up nobody."""
    say(asked, NAMED)
    assert told(asked, path) == 200
    say(asked, NAMELESS)
    assert told(asked, path) == 503
    say(asked, replace(NAMED, definitions_pending=True), replace(NAMELESS, name="new"))
    assert told(asked, path) == 200


def test_names_of_ports_are_not_waited_for_for_ever() -> None:
    """What cannot be read does not hold up everything else."""
    told = Told()
    for now in (0.0, PATIENCE_S - 1):
        with pytest.raises(NotReady):
            told.check([NAMELESS], now)
    told.check([NAMELESS], PATIENCE_S)
    told.check([NAMELESS], PATIENCE_S + 1)


def test_who_asks_for_another_cluster_does_not_make_anybody_wait_longer() -> None:
    """Each cluster has its own time."""
    told, elsewhere = Told(), replace(NAMED, cluster="staging")
    for now in (0.0, PATIENCE_S - 1):
        with pytest.raises(NotReady):
            told.check([NAMELESS, elsewhere], now)
        told.check([elsewhere], now)
    told.check([NAMELESS, elsewhere], PATIENCE_S)


@pytest.mark.parametrize(
    ("weight", "said"),
    [(0.0, 0), (1e-9, 1), (0.25, 25), (1.0, 100), (700.0, 65_535), (math.inf, 65_535)],
)
def test_weights_are_whole_numbers_that_proxies_take(weight: float, said: int) -> None:
    """A little is not nothing, and much has an end."""
    assert integer_weight(weight) == said


def test_many_ask_for_what_is_made_once(asked: Asked) -> None:
    """However many come before it is made."""
    made, count = Made(), 0

    def make() -> int:
        nonlocal count
        count += 1
        return count

    async def several() -> list[int]:
        return await asyncio.gather(*(made.at(1, "key", make) for _ in range(9)))

    assert set(asyncio.run(several())) == {1}


def test_labels_that_are_the_same_to_prometheus_are_one(asked: Asked) -> None:
    """Always the same of them, whatever the order; any character may be in them."""
    labels = {"a.b": "1", "a-b": "2", "a_b": "3", "größe": "ü", "": "none"}
    for order in (labels, dict(reversed(labels.items()))):
        say(asked, replace(WEB, endpoints=(replace(endpoint(2), labels=order),)))
        (target,) = asked("/sd/prometheus").json()
        found = {k: v for k, v in target["labels"].items() if "_label_" in k}
        assert found == {
            "__meta_ecs_label_a_b": "3",
            "__meta_ecs_label_gr__e": "ü",
            "__meta_ecs_label_": "none",
        }


@pytest.mark.parametrize("path", ALL)
def test_what_is_too_old_is_not_told(path: str) -> None:
    """As everywhere."""
    asked = Asked(FixedSource(observed(WEB)), now=NOW + 90_000)
    with asked.resolver as resolver:
        assert resolver.wait_ready(5)
        answer = asked(path, "POST" if path.startswith("/v3") else "GET", body={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "expired")


def test_a_new_endpoint_is_in_the_next_answer(asked: Asked) -> None:
    """What is kept is kept for one index only."""
    asked("/sd/prometheus")
    asked.source.say(observed(replace(WEB, endpoints=(endpoint(9),))))
    asked.resolver.refresh()
    (target,) = asked("/sd/prometheus").json()
    assert target["targets"] == ["127.0.0.9:49161"]

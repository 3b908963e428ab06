"""Documents: the members that the HTTP API and the command line promise."""

from dataclasses import replace

from discovery import documents
from discovery.errors import NoEndpoints, UnknownService
from discovery.model import Cluster, Endpoint, Exclusion, Port, Service, Snapshot
from tests.made import NOW, service

ENDPOINT = Endpoint(
    "10.0.0.1",
    32_768,
    "tcp",
    80,
    "http",
    "web",
    "arn:task/1",
    "web:3",
    "prod",
    "orders",
    "eu-west-1a",
    "healthy",
    2.0,
    {"team": "a"},
)
EXCLUSION = Exclusion("arn:task/2", "it is being stopped", "web", 80)
ORDERS = Service(
    "orders",
    "prod",
    endpoints=(ENDPOINT,),
    exclusions=(EXCLUSION,),
    ports=(Port(80, "tcp", "http", "web"),),
    observed_at=1_000.0,
)
SNAPSHOT = Snapshot(
    epoch=2,
    sequence=3,
    observed_at=1_000.0,
    clusters=(Cluster("prod", 1_000.0),),
    services={ORDERS.key: ORDERS},
)


def test_an_endpoint_has_exactly_the_promised_members() -> None:
    """The members, in the promised order, with the values of the endpoint."""
    promised = (
        *("host", "port", "protocol", "url", "container_port", "port_name", "container"),
        *("task_arn", "task_definition", "cluster", "service", "zone", "health", "weight"),
        "labels",
    )
    assert tuple(documents.endpoint(ENDPOINT)) == promised
    assert documents.endpoint(ENDPOINT)["url"] == "http://10.0.0.1:32768"


def test_unknown_members_are_null_not_absent() -> None:
    """An endpoint of which little is known has every member."""
    bare = documents.endpoint(Endpoint("10.0.0.1", 53, "udp"))
    assert bare.keys() == documents.endpoint(ENDPOINT).keys()
    assert bare["task_arn"] is None
    assert bare["url"] is None


def test_endpoints_carry_index_age_and_exclusions() -> None:
    """The body of `/v1/endpoints`."""
    assert documents.endpoints(ORDERS, SNAPSHOT, now=1_040.0, name="orders.prod") == {
        "name": "orders.prod",
        "cluster": "prod",
        "service": "orders",
        "index": 2 * 2**20 + 3,
        "age_s": 40.0,
        "stale": True,
        "endpoints": [documents.endpoint(ENDPOINT)],
        "excluded": [
            {"task_arn": "arn:task/2", "container": "web", "reason": "it is being stopped"}
        ],
    }


def test_services_count_endpoints_and_exclusions() -> None:
    """The body of `/v1/services`."""
    assert documents.services(SNAPSHOT, now=1_001.0) == {
        "index": 2 * 2**20 + 3,
        "age_s": 1.0,
        "services": [
            {
                "name": "orders",
                "cluster": "prod",
                "kind": "service",
                "endpoints": 1,
                "excluded": 1,
                "ports": [{"name": "http", "container_port": 80, "protocol": "tcp"}],
            }
        ],
    }


def test_an_explanation_has_every_task_with_verdict_and_reason() -> None:
    """Kept and dropped tasks stand side by side."""
    tasks = documents.explanation(ORDERS)["tasks"]
    assert [(t["task_arn"], t["verdict"]) for t in tasks] == [
        ("arn:task/1", "kept"),
        ("arn:task/2", "excluded"),
    ]
    assert all(t["reason"] for t in tasks)


def test_the_last_resort_is_flagged() -> None:
    """Endpoints that are served for want of better ones say so."""
    weak = replace(ENDPOINT, health="draining", container_port=9000)
    last = Service("orders", "prod", endpoints=(ENDPOINT, weak))
    tasks = documents.explanation(last)["tasks"]
    assert [t["verdict"] for t in tasks] == ["kept", "last resort"]
    assert "nothing better runs" in tasks[1]["reason"]


def test_errors_have_code_message_and_name() -> None:
    """A machine reads the code, a person the message."""
    body = documents.error(UnknownService("oders", ["orders.prod"]))["error"]
    assert (body["code"], body["name"]) == ("unknown_service", "oders")
    assert "orders.prod" in body["message"]
    assert documents.error(NoEndpoints("orders"))["error"]["code"] == "no_endpoints"


def test_https_is_told_by_port_or_name() -> None:
    """Container port 443 and the name https make the URL https; IPv6 gets brackets."""
    assert Endpoint("10.0.0.1", 8443, container_port=443).url == "https://10.0.0.1:8443"
    assert Endpoint("::1", 8443, port_name="HTTPS").url == "https://[::1]:8443"
    assert Endpoint("::1", 8080).url == "http://[::1]:8080"


def test_a_service_shows_the_use_of_each_endpoint() -> None:
    """What this process's requests know of it; nothing but nulls where there were none."""
    web = service("web", 1, 2)
    used = {web.endpoints[0].identity: documents.usage(3, 0.0123, ("failing", "why", 4.5))}
    body = documents.service(web, Snapshot(services={web.key: web}), NOW, used)
    first, second = body["endpoints"]
    assert (first["in_flight"], first["latency_s"]) == (3, 0.0123)
    assert first["ejected"] == {"cause": "failing", "why": "why", "for_s": 4.5}
    assert (second["in_flight"], second["latency_s"], second["ejected"]) == (0, None, None)

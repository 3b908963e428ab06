"""Names: how they are parsed, what they find, and what is said when they find nothing."""

from dataclasses import replace

import pytest

from discovery import names
from discovery.errors import AmbiguousPort, BadName, NotReady, UnknownPort, UnknownService
from discovery.model import Cluster, Endpoint, Port, Service, Snapshot
from discovery.names import Name

HTTP = Port(80, "tcp", "http", "web")
ADMIN = Port(9000, "tcp", "admin", "web")
STATS = Port(80, "udp", "stats", "web")


def service(
    name: str, cluster: str = "prod", ports: tuple[Port, ...] = (HTTP,), default: Port | None = None
) -> Service:
    """A service with one endpoint a port."""
    endpoints = tuple(
        Endpoint(
            "10.0.0.1",
            32_768 + n,
            port.protocol,
            port.container_port,
            port.name,
            port.container,
            "arn:task/1",
            cluster=cluster,
            service=name,
        )
        for n, port in enumerate(ports)
    )
    return Service(name, cluster, endpoints=endpoints, ports=ports, default_port=default)


def snapshot(*services: Service) -> Snapshot:
    """A snapshot of these services in the clusters prod (the default) and staging."""
    return Snapshot(
        clusters=(Cluster("prod"), Cluster("staging")),
        services={s.key: s for s in services},
    )


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("orders", Name("orders", "prod")),
        ("orders.staging", Name("orders", "staging")),
        ("Orders.STAGING.ECS.Internal.", Name("Orders", "staging")),
        ("orders.ecs.internal", Name("orders", "prod")),
        ("_http._tcp.orders", Name("orders", "prod", "http", "tcp")),
        ("_8080._UDP.orders.staging", Name("orders", "staging", "8080", "udp")),
        ("_odd.name", Name("_odd.name", "prod")),
        ("with.dots", Name("with.dots", "prod")),
    ],
)
def test_names_have_a_port_a_service_and_a_cluster(text: str, want: Name) -> None:
    """Every part but the service may be left out."""
    assert names.parse(text, ("prod", "staging")) == want


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a b",
        "a/b",
        "x" * 1_025,
        "_._tcp.orders",
        ".prod",
        "_http._tcp..prod",
        "_http._tcp.",
    ],
)
def test_what_no_service_can_be_called_is_refused(text: str) -> None:
    """A name that cannot be is told from one that does not exist."""
    with pytest.raises(BadName):
        names.parse(text, ("prod",))


def test_a_name_without_any_cluster_is_refused() -> None:
    """Where no cluster is configured no name can mean anything."""
    with pytest.raises(BadName, match="no cluster"):
        names.parse("orders", ())


def test_exact_case_wins() -> None:
    """Of names that differ in case only the exact one is found."""
    both = snapshot(service("Orders"), service("orders"))
    assert names.find(both, "Orders")[1].name == "Orders"
    assert names.find(both, "orders")[1].name == "orders"


def test_names_that_differ_in_case_only_are_listed() -> None:
    """Without an exact match both are named in the error."""
    both = snapshot(service("Orders"), service("orders"))
    with pytest.raises(BadName, match="Orders and orders"):
        names.find(both, "ORDERS")


def test_an_unknown_name_suggests_close_ones() -> None:
    """A slip of the pen, a missing cluster and one that is not read are all helped."""
    known = snapshot(service("orders"), service("web"), service("billing", "staging"))
    with pytest.raises(UnknownService) as slip:
        names.find(known, "oders")
    with pytest.raises(UnknownService) as elsewhere:
        names.find(known, "billing")
    with pytest.raises(UnknownService) as unread:
        names.find(known, "web.nightly")
    assert unread.value.suggestions == ("web.prod",)
    assert slip.value.suggestions == ("orders.prod",)
    assert elsewhere.value.suggestions == ("billing.staging",)


def test_the_closest_of_many_that_are_alike_is_suggested() -> None:
    """Though not all of them are compared in full."""
    known = snapshot(*(service(f"service-{n:04}-api") for n in range(2_000)))
    with pytest.raises(UnknownService) as caught:
        names.find(known, "service-1234-pai")
    assert caught.value.suggestions[0] == "service-1234-api.prod"


def test_suggestions_include_names_that_were_only_heard_of() -> None:
    """Where names are read on demand, those that a listing mentioned help all the same."""
    known = Snapshot(clusters=(Cluster("prod", heard=frozenset({"orders", "billing"})),))
    with pytest.raises(UnknownService) as caught:
        names.find(known, "oders")
    assert caught.value.suggestions == ("orders.prod",)


@pytest.mark.parametrize("port", ["http", "HTTP", "80"])
def test_a_port_is_asked_for_by_name_or_number(port: str) -> None:
    """Port names are compared without case; the protocol keeps apart what shares a number."""
    orders = service("orders", ports=(HTTP, ADMIN, STATS))
    (endpoint,) = names.endpoints_at(orders, Name("orders", "prod", port, "tcp"))
    assert endpoint.port == 32_768


def test_an_unknown_port_lists_those_there_are() -> None:
    """The error has the ports in the form in which names ask for them."""
    orders = service("orders", ports=(HTTP, STATS))
    with pytest.raises(UnknownPort) as caught:
        names.endpoints_at(orders, Name("orders", "prod", "grpc", "tcp"))
    assert caught.value.suggestions == ("http._tcp", "stats._udp")


def test_a_port_that_may_still_be_named_is_not_unknown() -> None:
    """Endpoints are known before the task definitions that name their ports."""
    orders = replace(service("orders", ports=(STATS,)), definitions_pending=True)
    with pytest.raises(NotReady, match=r"orders\.prod: the task definition"):
        names.endpoints_at(orders, Name("orders", "prod", "http", "tcp"))


def test_a_service_of_which_nothing_runs_is_empty_at_every_port() -> None:
    """Known but empty is not unknown, and what does not run names no ports."""
    assert names.endpoints_at(Service("idle", "prod"), Name("idle", "prod", "http", "tcp")) == ()


def test_the_default_port_is_taken() -> None:
    """Without a port in the name the default one is meant."""
    orders = service("orders", ports=(HTTP, ADMIN), default=ADMIN)
    (endpoint,) = names.endpoints_at(orders, Name("orders", "prod"))
    assert endpoint.container_port == 9000


def test_tasks_of_another_definition_have_their_own_default() -> None:
    """While a rollout moves the port, each task serves at the one that it has."""
    old = replace(service("orders", ports=(HTTP, ADMIN)).endpoints[0], task_definition="old")
    new = replace(service("orders", ports=(ADMIN,)).endpoints[0], task_definition="new")
    orders = Service(
        "orders",
        "prod",
        endpoints=(old, new),
        ports=(ADMIN, HTTP),
        default_port=ADMIN,
        other_default_ports={"old": HTTP},
    )
    found = names.endpoints_at(orders, Name("orders", "prod"))
    assert [e.container_port for e in found] == [80, 9000]


def test_several_equal_ports_are_an_error_that_lists_them() -> None:
    """Where no rule prefers one, none is guessed."""
    orders = service("orders", ports=(HTTP, ADMIN))
    with pytest.raises(AmbiguousPort) as caught:
        names.endpoints_at(orders, Name("orders", "prod"))
    assert caught.value.ports == ("http._tcp", "admin._tcp")
    assert "_http._tcp.orders.prod" in caught.value.message


def test_a_service_with_one_port_needs_no_default() -> None:
    """What cannot be mistaken is not an error."""
    assert len(names.endpoints_at(service("orders"), Name("orders", "prod"))) == 1


@pytest.mark.parametrize(
    ("label", "fits"),
    [("orders", True), ("x" * 63, True), ("x" * 64, False), ("a.b", False), ("", False)],
)
def test_labels_that_dns_can_carry(label: str, fits: bool) -> None:
    """63 octets is the most, and a dot splits."""
    assert names.fits_dns(label) is fits

"""The OpenAPI document is true: of every path, every answer and every member."""

import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case, CheckFunction, SerializationContext
from schemathesis.specs.openapi.checks import positive_data_acceptance

import discovery
from discovery.settings import Settings
from discovery.sidecar.openapi import document
from discovery.sidecar.openapi_schemas import SCHEMAS
from discovery.sidecar.page import PATHS
from discovery.sidecar.supervisor import Sidecar
from discovery.sources.base import FixedSource
from discovery.written import Address, ClusterSettings
from tests.peers.programs import until
from tests.sidecar.fleet import EMPTY, TWO, WEB, observed

ANY = Address("127.0.0.1", 0)
SETTINGS = Settings(clusters=(ClusterSettings("prod"),), dns=ANY, http=ANY)
PATIENCE_S = 30.0
BYTES = ("/dns-query",)  # no schema says which octets are a message
STREAM = "/v1/watch/{name}"  # never ends


@pytest.fixture(scope="module")
def sidecar() -> Iterator[Sidecar]:
    """A sidecar that knows a small fleet and is ready."""
    before = sys.getswitchinterval()
    try:
        source = FixedSource(observed(WEB, TWO, EMPTY, at=time.time()))
        with Sidecar(SETTINGS, source=source) as sidecar:
            assert until(lambda: not sidecar.missing())
            yield sidecar
    finally:
        sys.setswitchinterval(before)


@pytest.fixture(scope="module")
def client(sidecar: Sidecar) -> Iterator[httpx.Client]:
    """A client of it."""
    url = f"http://{sidecar.http_address}"
    with httpx.Client(base_url=url, timeout=PATIENCE_S, trust_env=False) as client:
        yield client


@schemathesis.serializer("application/dns-message")
def octets(context: SerializationContext, value: Any) -> bytes:
    """Whatever is generated, as a body."""
    return value if isinstance(value, bytes) else repr(value).encode(errors="replace")


schema = schemathesis.openapi.from_dict(document(discovery.__version__))


@schema.exclude(path=STREAM).parametrize()
@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_in_the_document(case: Case[Any], client: httpx.Client) -> None:
    """Whatever is asked: its status, media type, headers and members; and it is no 5xx."""
    unfit: list[CheckFunction] = [positive_data_acceptance] if case.path in BYTES else []
    case.call_and_validate(base_url=str(client.base_url), timeout=PATIENCE_S, excluded_checks=unfit)


def test_the_document_is_served(client: httpx.Client) -> None:
    """As JSON, with this version."""
    assert client.get("/openapi.json").json() == document(discovery.__version__)


def test_every_path_is_in_the_document(client: httpx.Client) -> None:
    """But for the page and its files; and nothing is in it that is not there."""
    unlike_any = "/" + "~" * 100  # so that all paths are suggested
    paths = set(client.get(unlike_any).json()["error"]["suggestions"]) - PATHS
    assert paths == set(document(discovery.__version__)["paths"])


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("/v1/services", "Services"),
        ("/v1/services/web", "Service"),
        ("/v1/endpoints/web", "Endpoints"),
        ("/v1/pick/web", "Endpoint"),
        ("/v1/explain/web", "Explanation"),
        ("/v1/history/web", "History"),
        ("/v1/status", "Status"),
        ("/health", "Alive"),
        ("/ready", "Readiness"),
    ],
)
def test_every_member_is_in_the_document(client: httpx.Client, path: str, schema: str) -> None:
    """Those that are said are those that are described."""
    assert set(client.get(path).json()) == set(SCHEMAS[schema]["properties"])


def test_a_stream_has_the_media_type_of_the_document(client: httpx.Client) -> None:
    """The one path that the generated requests leave out, as it never ends."""
    with client.stream("GET", "/v1/watch/web") as answer:
        first = next(answer.iter_lines())
    said = document(discovery.__version__)["paths"][STREAM]["get"]["responses"]["200"]["content"]
    assert (answer.status_code, first) == (200, "event: endpoints")
    assert answer.headers["Content-Type"].partition(";")[0] in said

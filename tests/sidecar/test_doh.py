"""DNS over HTTP: what RFC 8484 asks for, on the sidecar's own port."""

import base64
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import httpx
import pytest

from discovery.model import Service
from discovery.settings import Settings
from discovery.sidecar.doh import MEDIA_TYPE, PATH
from discovery.sidecar.supervisor import Sidecar
from discovery.sources.base import FixedSource
from discovery.written import Address, ClusterSettings, Forward
from tests.dns.resolvers import resolving, until
from tests.sidecar.fleet import EMPTY, WEB, endpoint, observed

ANY = Address("127.0.0.1", 0)
SETTINGS = Settings(
    clusters=(ClusterSettings("prod"),), dns=ANY, http=ANY, ttl_s=7, negative_ttl_s=3
)
WEB_A = dns.message.make_query("web.prod.ecs.internal", "A", id=0)
PATIENCE_S = 30.0


@contextmanager
def serving(settings: Settings, *services: Service) -> Iterator[httpx.Client]:
    """A client of a sidecar that is ready."""
    source = FixedSource(observed(*services, at=time.time()))
    with Sidecar(settings, source=source) as sidecar:
        url = f"http://{sidecar.http_address}"
        with httpx.Client(base_url=url, timeout=PATIENCE_S, trust_env=False) as client:
            until(lambda: not sidecar.missing())
            yield client


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    """A client of a sidecar that knows a small fleet."""
    with serving(SETTINGS, WEB, EMPTY) as client:
        yield client


def posted(
    client: httpx.Client, octets: bytes, media_type: str | None = MEDIA_TYPE
) -> httpx.Response:
    """The answer to a body."""
    headers = {"Content-Type": media_type} if media_type else {}
    return client.post(PATH, content=octets, headers=headers)


def got(client: httpx.Client, octets: bytes) -> httpx.Response:
    """The answer to the same in the URL."""
    text = base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
    return client.get(PATH, params={"dns": text})


@pytest.mark.parametrize("ask", [posted, got])
def test_a_query_is_answered_by_both_methods(
    client: httpx.Client, ask: Callable[[httpx.Client, bytes], httpx.Response]
) -> None:
    """With the media type, and for as long as the records live."""
    answer = ask(client, WEB_A.to_wire())
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == MEDIA_TYPE
    assert answer.headers["Cache-Control"] == "max-age=7"
    assert "X-Discovery-Age" in answer.headers
    message = dns.message.from_wire(answer.content)
    assert WEB_A.is_response(message)
    assert {str(record) for record in message.answer[0]} == {"127.0.0.2", "127.0.0.3"}


@pytest.mark.parametrize(
    ("name", "kind", "rcode", "max_age_s"),
    [
        ("nope.prod.ecs.internal", "A", dns.rcode.NXDOMAIN, 3),
        ("empty.prod.ecs.internal", "A", dns.rcode.NOERROR, 3),
        ("www.example.org", "A", dns.rcode.REFUSED, 0),
    ],
)
def test_dns_errors_are_answers(
    client: httpx.Client, name: str, kind: str, rcode: int, max_age_s: int
) -> None:
    """HTTP succeeds where DNS says no; what is not there lives as long as the SOA says."""
    answer = posted(client, dns.message.make_query(name, kind).to_wire())
    assert answer.status_code == 200
    assert dns.message.from_wire(answer.content).rcode() == rcode
    assert answer.headers["Cache-Control"] == f"max-age={max_age_s}"


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?dns=",
        "?dns=AA%3D%3D",
        "?dns=A",
        "?dns=!!!!",
        "?dns=A+AA",
        "?dns=%C3%A9AAA",
        "?dns=AAAA",
    ],
)
def test_what_is_no_query_in_the_url_is_a_bad_request(client: httpx.Client, query: str) -> None:
    """Padding is one of the things that do not belong there (RFC 8484 §6)."""
    answer = client.get(PATH + query)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


def test_a_message_that_is_no_query_is_a_bad_request(client: httpx.Client) -> None:
    """It gets no DNS answer over any transport."""
    assert posted(client, b"short").status_code == 400
    response = dns.message.make_response(WEB_A).to_wire()
    assert posted(client, response).status_code == 400
    assert got(client, response).status_code == 400


@pytest.mark.parametrize("media_type", [None, "application/json", "text/plain"])
def test_another_media_type_is_refused(client: httpx.Client, media_type: str | None) -> None:
    """415, as RFC 8484 §4.1 has only one for now."""
    assert posted(client, WEB_A.to_wire(), media_type).status_code == 415


def test_what_no_dns_message_can_be_is_too_large(client: httpx.Client) -> None:
    """413 from one octet too many on; the greatest message is read."""
    assert posted(client, bytes(65_536)).status_code == 413
    greatest = WEB_A.to_wire()
    answer = posted(client, greatest + bytes(65_535 - len(greatest)))
    assert answer.status_code == 200
    assert dns.message.from_wire(answer.content).rcode() == dns.rcode.FORMERR


def test_other_methods_are_refused_with_those_that_are_not(client: httpx.Client) -> None:
    """And nothing else than this path takes POST."""
    answer = client.put(PATH, content=WEB_A.to_wire())
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD, POST")
    assert "use GET or POST" in answer.json()["error"]["message"]
    assert client.post("/v1/services").headers["Allow"] == "GET, HEAD"


def test_another_host_may_not_ask(client: httpx.Client) -> None:
    """As everywhere: a web page could read our names by DNS rebinding."""
    headers = {"Content-Type": MEDIA_TYPE, "Host": "evil.example"}
    assert client.post(PATH, content=WEB_A.to_wire(), headers=headers).status_code == 403


def test_an_answer_may_be_as_long_as_over_tcp() -> None:
    """Past 512 and 1,232 octets, whatever size the query names."""
    several = tuple(replace(endpoint(2), host=f"10.0.{n >> 8}.{n & 255}") for n in range(1_000))
    with serving(SETTINGS, replace(WEB, endpoints=several)) as client:
        answer = posted(client, WEB_A.to_wire())
    message = dns.message.from_wire(answer.content)
    assert len(message.answer[0]) == 1_000
    assert not message.flags & dns.flags.TC


def test_strangers_are_refused_in_dns() -> None:
    """The networks that may ask over UDP and TCP are those that may ask here."""
    with serving(replace(SETTINGS, dns_clients=("10.0.0.0/8",)), WEB) as client:
        answer = posted(client, WEB_A.to_wire())
    assert dns.message.from_wire(answer.content).rcode() == dns.rcode.REFUSED


def test_names_of_others_are_forwarded() -> None:
    """The reply comes from another thread; its records' time to live counts."""

    def says(query: dns.message.Message, stream: bool) -> list[bytes]:
        reply = dns.message.make_response(query)
        reply.answer = [dns.rrset.from_text(query.question[0].name, 60, "IN", "A", "192.0.2.1")]
        return [reply.to_wire()]

    with resolving(says) as resolver:
        forward = (Forward("", Address(*resolver.address)),)
        with serving(replace(SETTINGS, forward=forward), WEB) as client:
            answer = posted(client, dns.message.make_query("www.example.org", "A").to_wire())
    message = dns.message.from_wire(answer.content)
    assert str(message.answer[0][0]) == "192.0.2.1"
    assert answer.headers["Cache-Control"] == f"max-age={message.answer[0].ttl}"
    assert 0 < message.answer[0].ttl <= 60

"""The HTTP interface over a fixed source: bodies, headers, errors, waiting."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import msgspec
import pytest

from discovery.balancing.member import Member
from discovery.errors import NotReady, SourceUnreachable
from discovery.model import Endpoint, Service
from discovery.names import Name
from discovery.sidecar.encoded import OVERHEAD, Encoded
from discovery.sidecar.waits import Waits
from discovery.sources.base import FixedSource
from tests.sidecar.asking import Asked
from tests.sidecar.fleet import AGE_S, EMPTY, NOW, TWO, WEB, endpoint, observed

XDS = "/v3/discovery:endpoints"
ALL_PATHS = (
    "/v1/services",
    "/v1/services/web",
    "/v1/endpoints/web",
    "/v1/pick/web",
    "/v1/explain/web",
    "/v1/history/web",
    "/v1/snapshot",
    "/health",
    "/ready",
    "/v1/endpoints/nope",
    "/nowhere",
)


@pytest.fixture
def asked() -> Iterator[Asked]:
    """An application that knows the fleet."""
    asked = Asked(FixedSource(observed(WEB, TWO, EMPTY)))
    with asked.resolver as resolver:
        assert resolver.wait_ready(5)
        yield asked


@pytest.fixture
def failing() -> Iterator[Asked]:
    """An application whose source has failed from the start."""
    asked = Asked(FixedSource(observed(error=SourceUnreachable("nobody answers"))))
    with asked.resolver as resolver:
        resolver.start()
        while resolver.snapshot.clusters[0].error is None:
            resolver.wait_ready(0.01)
        yield asked


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The error in a body."""
    error: dict[str, Any] = answer.json()["error"]
    return error


def test_endpoints_are_said_with_all_their_members(asked: Asked) -> None:
    """The body is the contract's, with every member present."""
    body = asked("/v1/endpoints/web").json()
    assert list(body) == [
        "name", "cluster", "service", "index", "age_s", "stale", "endpoints", "excluded",
    ]  # fmt: skip
    assert [(e["host"], e["port"]) for e in body["endpoints"]] == [
        ("127.0.0.2", 49_154),
        ("127.0.0.3", 49_155),
    ]
    assert body["endpoints"][0]["url"] == "http://127.0.0.2:49154"
    assert body["endpoints"][0]["task_definition"] is None


@pytest.mark.parametrize(
    ("name", "ports"),
    [
        ("web", [49_154, 49_155]),
        ("WEB.PROD", [49_154, 49_155]),
        ("web.prod.ecs.internal", [49_154, 49_155]),
        ("_http._tcp.web", [49_154, 49_155]),
        ("_80._tcp.two", [49_156]),
        ("_admin._tcp.two.prod", [49_156]),
        ("empty", []),
    ],
)
def test_names_narrow_the_endpoints(asked: Asked, name: str, ports: list[int]) -> None:
    """A name means here what it means everywhere; a known empty service is an answer."""
    answer = asked(f"/v1/endpoints/{name}")
    assert answer.status_code == 200
    assert [e["port"] for e in answer.json()["endpoints"]] == ports
    assert answer.json()["name"] == name


def test_services_are_listed_with_counts(asked: Asked) -> None:
    """Every service is there, empty ones too."""
    listed = asked("/v1/services").json()["services"]
    assert [(s["name"], s["endpoints"], s["excluded"]) for s in listed] == [
        ("empty", 0, 1),
        ("two", 2, 0),
        ("web", 2, 0),
    ]


def test_a_service_says_its_exclusions_ports_and_age(asked: Asked) -> None:
    """The page of one service has what its endpoints do not say."""
    body = asked("/v1/services/empty").json()
    assert [e["reason"] for e in body["excluded"]] == ["it is stopping"]
    assert (body["age_s"], body["stale"], body["ports"]) == (AGE_S, False, [])


def test_pick_gives_endpoints_in_turn(asked: Asked) -> None:
    """One endpoint at a time, and all of them in turn."""
    picked = {asked("/v1/pick/web").json()["port"] for _ in range(4)}
    assert picked == {49_154, 49_155}


def test_explain_says_why_of_every_task(asked: Asked) -> None:
    """What is dropped is there with its reason."""
    tasks = asked("/v1/explain/empty").json()["tasks"]
    assert [(t["verdict"], t["reason"]) for t in tasks] == [("excluded", "it is stopping")]


def test_the_snapshot_has_every_service(asked: Asked) -> None:
    """A follower learns everything from one body."""
    body = asked("/v1/snapshot").json()
    assert body["format"] == 1
    assert [s["service"] for s in body["services"]] == ["empty", "two", "web"]


@pytest.mark.parametrize("path", ALL_PATHS)
def test_every_answer_has_age_and_index(asked: Asked, path: str) -> None:
    """Errors and health included."""
    answer = asked(path)
    assert float(answer.headers["X-Discovery-Age"]) == AGE_S
    assert int(answer.headers["X-Discovery-Index"]) == asked.resolver.snapshot.index


@pytest.mark.parametrize("path", ALL_PATHS)
def test_every_body_is_json(asked: Asked, path: str) -> None:
    """No path answers with a page."""
    answer = asked(path)
    assert answer.headers["Content-Type"] == "application/json"
    assert isinstance(answer.json(), dict)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/endpoints/wbe", 404, "unknown_service"),
        ("/v1/endpoints/web.stage", 404, "unknown_service"),
        ("/v1/endpoints/_grpc._tcp.web", 404, "unknown_port"),
        ("/v1/endpoints/two", 400, "ambiguous_port"),
        ("/v1/pick/two", 400, "ambiguous_port"),
        ("/v1/endpoints/_http._sctp.web", 404, "unknown_service"),
        ("/v1/endpoints/_http.web", 404, "unknown_service"),
        ("/v1/endpoints/a%20b", 400, "bad_name"),
        ("/v1/endpoints/a/b", 400, "bad_name"),
        ("/v1/endpoints/a%2Fb", 400, "bad_name"),
        ("/v1/endpoints/", 400, "bad_name"),
        ("/v1/endpoints/" + "a" * 2_000, 400, "bad_name"),
        ("/v1/watch/wbe", 404, "unknown_service"),
        ("/v1/watch/two", 400, "ambiguous_port"),
        ("/v1/watch/_nope._tcp.two", 404, "unknown_port"),
        ("/v1/explain/_nope._tcp.two", 404, "unknown_port"),
        ("/v1/services/_nope._tcp.two", 404, "unknown_port"),
        ("/v1/pick/empty", 503, "no_endpoints"),
        ("/v1/services/", 400, "bad_name"),
        ("/v1/endpoint/web", 404, "unknown_path"),
        ("/", 404, "unknown_path"),
        ("/v1/endpoints/web?index=x", 400, "bad_input"),
        ("/v1/endpoints/web?index=-1", 400, "bad_input"),
        ("/v1/endpoints/web?index=" + "9" * 5_000, 400, "bad_input"),
        ("/v1/endpoints/web?index=9223372036854775808", 400, "bad_input"),
        ("/v1/snapshot?index=1&wait=soon", 400, "bad_input"),
        ("/v1/snapshot?known=x.1&index=x", 400, "bad_input"),
    ],
)
def test_errors_are_said_with_status_and_code(
    asked: Asked, path: str, status: int, code: str
) -> None:
    """Each mistake has its own answer."""
    answer = asked(path)
    assert (answer.status_code, error_of(answer)["code"]) == (status, code)


def test_unknown_names_come_with_close_matches(asked: Asked) -> None:
    """A typing mistake is answered with what was meant."""
    error = error_of(asked("/v1/endpoints/wbe"))
    assert "web.prod" in error["suggestions"]
    assert error["name"] == "wbe"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed(asked: Asked, method: str) -> None:
    """Every method but GET and HEAD is refused."""
    answer = asked("/v1/services", method)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_no_other_origin_is_let_in(asked: Asked) -> None:
    """There is no CORS header, whoever asks."""
    answer = asked("/v1/services", headers={"Origin": "http://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LocalHost:8053", 200),
        ("127.0.0.1:8053", 200),
        ("127.9.9.9", 200),
        ("[::1]:8053", 200),
        ("discovery.example:80", 200),
        ("discovery.example.", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("172.17.0.1:8053", 200),
        ("[2001:db8::1]:8053", 200),
        ("10.0.0.1.evil.example", 403),
        ("2886795265", 403),
        ("[evil.example]", 403),
        ("", 403),
        ("[::1].evil.example", 403),
        ("[::1]evil.example", 403),
        ("127.0.0.1:80@evil.example", 403),
        ("localhost:evil", 403),
        ("localhost:80:evil.example", 403),
        ("localhost@evil.example", 403),
        ("evil.example#localhost", 403),
        ("evil.example, localhost", 403),
        ("[fe80::1%25eth0]", 200),
        ("localhost..", 403),
    ],
)
def test_only_our_own_hosts_are_answered(asked: Asked, host: str, status: int) -> None:
    """A name that was rebound to our address is refused; an address cannot be rebound."""
    answer = asked("/v1/services", headers={"Host": host})
    assert answer.status_code == status
    if status == 403:
        assert error_of(answer)["code"] == "foreign_host"


HERE = "http://localhost:8053"
FOREIGN = [
    f"{prefix}{host}{suffix}"
    for host in ("evil.example", "localhost.evil.example", "notlocalhost", "10.0.0.1.nip.example")
    for prefix in ("", "www.", "xn--")
    for suffix in ("", ".", ":80", ":8053")
] + ["2130706433", "0x7f.1"]


def test_there_are_fifty_foreign_names() -> None:
    """Of every form that a name can have."""
    assert len(set(FOREIGN)) == 50


@pytest.mark.parametrize("host", FOREIGN)
def test_a_foreign_host_is_refused(asked: Asked, host: str) -> None:
    """On a path for people, one for programs, and one that takes a body."""
    for path, method in (("/v1/services", "GET"), ("/ready", "GET"), (XDS, "POST")):
        answer = asked(path, method, {"Host": host}, {})
        assert (answer.status_code, error_of(answer)["code"]) == (403, "foreign_host")


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_foreign_origin_is_refused(asked: Asked, origin: str) -> None:
    """A page of another host, port or scheme makes its reader's browser ask in vain."""
    headers = {"Host": "localhost:8053", "Origin": f"http://{origin}"}
    for path, method in (("/v1/services", "GET"), ("/ready", "GET"), (XDS, "POST")):
        answer = asked(path, method, headers, {})
        assert (answer.status_code, error_of(answer)["code"]) == (403, "foreign_origin")


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (HERE, 200),
        ("HTTP://LocalHost:8053".replace("HTTP", "http"), 200),
        ("https://localhost:8053", 200),
        ("null", 403),
        ("", 403),
        ("http://", 403),
        ("http://localhost", 403),
        ("http://localhost:80", 403),
        ("http://127.0.0.1:8053", 403),
        ("http://203.0.113.5:8053", 403),
        ("file://localhost:8053", 403),
        ("chrome-extension://localhost:8053", 403),
        (f"{HERE}/", 403),
        (f"{HERE} http://evil.example", 403),
    ],
)
def test_only_our_own_page_may_ask(asked: Asked, origin: str, status: int) -> None:
    """Its origin is the host that is asked; behind whatever ends TLS, too."""
    headers = {"Host": "localhost:8053", "Origin": origin}
    assert asked("/v1/services", headers=headers).status_code == status


TAGGED = [
    "/v1/services",
    "/v1/services/web",
    "/v1/endpoints/web",
    "/v1/explain/web",
    "/v1/history/web",
]


@pytest.mark.parametrize("path", TAGGED)
def test_what_a_client_has_is_not_sent_again(asked: Asked, path: str) -> None:
    """Until the content changes; age and index are said all the same."""
    tag = asked(path).headers["ETag"]
    again = asked(path, headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    assert (again.headers["ETag"], float(again.headers["X-Discovery-Age"])) == (tag, AGE_S)
    asked.source.say(observed(replace(WEB, endpoints=(endpoint(9),))))
    asked.resolver.refresh()
    assert asked(path, headers={"If-None-Match": tag}).status_code == 200


@pytest.mark.parametrize("known", ["*", '"x", {tag}', "{strong}"])
def test_tags_are_compared_as_caches_send_them(asked: Asked, known: str) -> None:
    """Several of them, any at all, and whether weak or strong."""
    tag = asked("/v1/services").headers["ETag"]
    header = known.format(tag=tag, strong=tag.removeprefix("W/"))
    assert asked("/v1/services", headers={"If-None-Match": header}).status_code == 304


@pytest.mark.parametrize(
    ("path", "said"),
    [
        *((path, "no-cache") for path in ALL_PATHS if "pick" not in path),
        *(("/v1/pick/web", "no-store"), ("/v1/watch/web", "no-store")),
    ],
)
def test_no_cache_answers_for_us(asked: Asked, path: str, said: str) -> None:
    """What it has is asked for again; endpoints in turn are nothing to keep. Errors alike."""
    answer = asked(path, "HEAD" if "watch" in path else "GET")
    assert answer.headers["Cache-Control"] == said
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_service_that_is_used_differently_is_sent_again(asked: Asked) -> None:
    """Requests of this process change what is said of it, and no index."""
    tag = asked("/v1/services/web").headers["ETag"]
    route = asked.resolver.route("web")
    flight = route.board(asked.resolver.endpoints("web"), (), True)
    changed = asked("/v1/services/web", headers={"If-None-Match": tag})
    flight.close()
    assert changed.status_code == 200
    assert asked("/v1/services/web", headers={"If-None-Match": tag}).status_code == 304


def test_what_is_encoded_once_is_that_of_now(asked: Asked) -> None:
    """A service that changed is said as it is, at each of its ports."""
    for names in (("two", "admin"), ("two", "http")):
        path = f"/v1/endpoints/_{names[1]}._tcp.{names[0]}"
        assert [e["port_name"] for e in asked(path).json()["endpoints"]] == [names[1]]
    before = asked("/v1/endpoints/web").json()["endpoints"]
    assert asked("/v1/endpoints/web").json()["endpoints"] == before
    asked.source.say(observed(replace(WEB, endpoints=WEB.endpoints[:1]), TWO))
    asked.resolver.refresh()
    assert asked("/v1/endpoints/web").json()["endpoints"] == before[:1]


def test_what_is_too_large_to_be_kept_is_answered() -> None:
    """A bound on what is kept is none on what is said."""
    encoded = Encoded(most_octets=10)
    members = encoded.members(WEB, Name("web", "prod"))
    assert [e["host"] for e in msgspec.json.decode(members["endpoints"])] == [
        e.host for e in WEB.endpoints
    ]


def test_what_is_encoded_once_is_bounded_however_little_it_is() -> None:
    """A service of which nothing runs has no endpoints at any port, of which there are many."""
    encoded, idle = Encoded(most_octets=10 * OVERHEAD), Service("idle", "prod")
    for n in range(20):
        encoded.members(idle, Name("idle", "prod", str(n), "tcp"))
    assert 0 < len(encoded._kept) < 10


def test_data_that_became_stale_is_sent_again() -> None:
    """It has the same index and says something else."""
    tags = []
    for now in (NOW, NOW + 60):
        asked = Asked(FixedSource(observed(WEB)), now=now)
        with asked.resolver as resolver:
            assert resolver.wait_ready(5)
            tags.append(asked("/v1/endpoints/web").headers["ETag"].removesuffix('"'))
    assert not tags[0].endswith("-stale")
    assert tags[1].endswith("-stale-gzip")


def test_long_answers_are_compressed_where_that_is_taken(asked: Asked) -> None:
    """The compressed answer has a tag of its own; short ones stay as they are."""
    plain = asked("/v1/services/web", headers={"Accept-Encoding": "identity"})
    packed = asked("/v1/services/web", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.json() == plain.json()
    assert "Content-Encoding" not in asked("/health").headers
    tags = {
        asked("/v1/services", headers={"Accept-Encoding": coding}).headers["ETag"]
        for coding in ("identity", "gzip")
    }
    assert len(tags) == 2


def test_health_needs_no_snapshot(failing: Asked) -> None:
    """Whoever answers is alive."""
    assert failing("/health").status_code == 200


def test_readiness_names_what_is_missing(asked: Asked) -> None:
    """The body says what is not ready, until nothing is missing."""
    asked.missing = ("dns: not bound",)
    answer = asked("/ready")
    assert (answer.status_code, answer.json()) == (
        503,
        {"ready": False, "waiting_for": ["dns: not bound"]},
    )
    asked.missing = ()
    assert asked("/ready").json() == {"ready": True, "waiting_for": []}


def test_a_mistake_of_ours_is_json_with_headers(asked: Asked) -> None:
    """What nobody foresaw is an error like the others, and tells nothing of the inside."""
    asked.missing = None  # type: ignore[assignment]  # a mistake
    answer = asked("/ready")
    assert (answer.status_code, error_of(answer)["code"]) == (500, "error")
    assert "NoneType" not in answer.text
    assert float(answer.headers["X-Discovery-Age"]) == AGE_S


@pytest.mark.parametrize("path", ["/v1/services", "/v1/snapshot", "/v1/endpoints/web"])
def test_what_was_never_read_is_not_ready(failing: Asked, path: str) -> None:
    """Before the first snapshot no name is unknown; the reason is said."""
    answer = failing(path)
    assert (answer.status_code, error_of(answer)["code"]) == (503, "not_ready")
    assert "nobody answers" in error_of(answer)["message"]


def test_data_beyond_the_stale_limit_is_not_served() -> None:
    """Too old is an error of its own."""
    asked = Asked(FixedSource(observed(WEB)), now=NOW + 90_000)
    with asked.resolver as resolver:
        assert resolver.wait_ready(5)
        answer = asked("/v1/endpoints/web")
    assert (answer.status_code, error_of(answer)["code"]) == (503, "expired")


@pytest.mark.parametrize("away", [-1, 1])
@pytest.mark.parametrize("path", ["/v1/endpoints/web", "/v1/snapshot"])
def test_another_index_is_answered_at_once(asked: Asked, path: str, away: int) -> None:
    """An index of the past, or of the future, is not waited on."""
    index = asked.resolver.snapshot.index + away
    answer = asked(f"{path}?index={index}&wait=5m")
    assert answer.json()["index"] == asked.resolver.snapshot.index


@pytest.mark.parametrize(
    ("name", "status"), [("wbe", 404), ("_nope._tcp.web", 404), ("two", 400), ("a%20b", 400)]
)
def test_a_wrong_name_is_not_waited_on(asked: Asked, name: str, status: int) -> None:
    """What is wrong is said at once; time for it would be lost."""
    index = asked.resolver.snapshot.index

    async def soon() -> httpx.Response:
        path = f"/v1/endpoints/{name}?index={index}&wait=5m"
        return await asyncio.wait_for(asked.answer(path), 20)

    assert asyncio.run(soon()).status_code == status


def test_a_service_that_goes_away_meanwhile_is_unknown(asked: Asked) -> None:
    """The name is looked up again after the wait."""
    index = asked.resolver.snapshot.index

    async def waited() -> httpx.Response:
        path = f"/v1/endpoints/web?index={index}&wait=20s"
        waiting = asyncio.create_task(asked.answer(path))
        while not asked.waits.waiting:
            await asyncio.sleep(0)
        asked.source.say(observed(TWO, at=NOW - 1))
        await asked.resolver.arefresh()
        return await waiting

    assert asyncio.run(waited()).status_code == 404


def test_a_blocking_query_ends_with_its_time(asked: Asked) -> None:
    """Without a change the answer comes after the wait, with the same index."""
    index = asked.resolver.snapshot.index
    answer = asked(f"/v1/endpoints/web?index={index}&wait=10ms")
    assert (answer.status_code, answer.json()["index"]) == (200, index)


def test_a_blocking_query_returns_with_the_change(asked: Asked) -> None:
    """Whoever waits on the current index gets the next one as soon as it is there."""
    index = asked.resolver.snapshot.index

    async def waited() -> httpx.Response:
        waiting = asyncio.create_task(asked.answer(f"/v1/snapshot?index={index}&wait=20s"))
        asked.source.say(observed(TWO, at=NOW - 1))
        await asked.resolver.arefresh()
        return await waiting

    assert asyncio.run(waited()).json()["index"] > index


def test_waits_end_with_the_server(asked: Asked) -> None:
    """Nobody holds up the end of the process."""
    index = asked.resolver.snapshot.index
    asked.waits.end()
    assert asked(f"/v1/snapshot?index={index}&wait=5m").status_code == 200


def test_the_number_of_waits_is_bounded() -> None:
    """One more than the bound is told to come back later."""
    asked = Asked(FixedSource(observed(WEB)), most_waits=0)
    with asked.resolver as resolver:
        assert resolver.wait_ready(5)
        for path in (f"/v1/snapshot?index={resolver.snapshot.index}", "/v1/watch/web"):
            assert asked(path).status_code == 503


def test_a_stream_has_its_place_before_it_begins(asked: Asked) -> None:
    """A stream that is accepted is never refused; one that breaks off gives its place back."""
    waits = Waits(asked.resolver, 2)
    streams = [waits.events(dict) for _ in range(2)]
    with pytest.raises(NotReady):
        waits.events(dict)

    async def disconnected() -> Any:
        return {"type": "http.disconnect"}

    async def unheard(message: object) -> None:
        pass

    for stream in streams:
        asyncio.run(stream({"type": "http", "method": "GET", "asgi": {}}, disconnected, unheard))
    assert waits.waiting == 0


def test_the_head_of_a_stream_ends(asked: Asked) -> None:
    """HEAD has the headers of GET and no stream to wait for."""
    answer = asked("/v1/watch/web", "HEAD")
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert asked.waits.waiting == 0


def test_a_new_endpoint_is_seen_by_the_next_question(asked: Asked) -> None:
    """The application has no memory of its own."""
    changed = replace(WEB, endpoints=(endpoint(9),))
    asked.source.say(observed(changed, at=NOW - 1))
    asked.resolver.refresh()
    assert [e["port"] for e in asked("/v1/endpoints/web").json()["endpoints"]] == [49_161]


def test_history_tells_the_last_changes(asked: Asked) -> None:
    """The oldest first, with time, reason and index."""
    first = asked("/v1/history/web").json()
    assert first["name"] == "web"
    assert [c["kind"] for c in first["changes"]] == ["appeared"]
    asked.source.say(observed(replace(WEB, endpoints=()), TWO, EMPTY))
    asked.resolver.refresh()
    answer = asked("/v1/history/web.prod")
    last = answer.json()["changes"][-1]
    assert (last["kind"], last["at"]) == ("left", NOW)
    assert answer.headers["X-Discovery-Index"] == str(last["index"])


def test_history_of_an_unknown_service_is_404(asked: Asked) -> None:
    """With close matches, as everywhere."""
    answer = asked("/v1/history/wep")
    assert answer.status_code == 404
    assert error_of(answer)["suggestions"]


def test_a_service_shows_what_requests_of_this_process_met(asked: Asked) -> None:
    """Per endpoint: in flight, latency, ejection and why."""
    first, second = asked.resolver.endpoints("web")[:2]
    route = asked.resolver.route("web")
    members: dict[Endpoint, Member] = {}
    while {first, second} - members.keys():
        member = route.board((first, second), (), False).member
        members[member.endpoint] = member
    for _ in range(2):
        route.pool.board(members[second], route.clock()).end("refused", route.clock())
    shown = {e["task_arn"]: e for e in asked("/v1/services/web").json()["endpoints"]}
    one, other = shown[first.task_arn], shown[second.task_arn]
    assert one["in_flight"] == members[first].in_flight > 0
    assert (one["latency_s"], one["ejected"]) == (None, None)
    assert other["latency_s"] > 0
    assert other["ejected"]["cause"] == "unreachable"
    assert other["ejected"]["why"] == "2 refusals in a row"


def test_a_follower_that_knows_another_content_does_not_wait(asked: Asked) -> None:
    """Two hubs may have the same index by chance."""
    index = asked.resolver.snapshot.index
    answer = asked(f"/v1/snapshot?index={index}&wait=5m&known=other.{index}")
    assert len(answer.json()["services"]) == 3


def test_a_follower_that_knows_the_content_is_told_times_only(asked: Asked) -> None:
    """After waiting for a change that did not come."""
    whole = asked("/v1/snapshot").json()
    token = f"{whole['publisher']}.{whole['index']}"
    told = asked(f"/v1/snapshot?index={whole['index']}&wait=10ms&known={token}").json()
    assert (told["since"], told["services"], told["read_at"]) == (
        whole["index"],
        [],
        whole["read_at"],
    )


def test_a_snapshot_that_is_known_by_its_tag_is_not_sent_again(asked: Asked) -> None:
    """For caches and scripts."""
    tag = asked("/v1/snapshot").headers["ETag"]
    answer = asked("/v1/snapshot", headers={"If-None-Match": tag})
    assert (answer.status_code, answer.content) == (304, b"")
    assert asked("/v1/snapshot", headers={"If-None-Match": '"x"'}).status_code == 200


def test_followers_are_counted_by_the_name_they_give(asked: Asked) -> None:
    """They are told how many they are."""
    for name in ("a", "b", "b"):
        asked("/v1/snapshot", headers={"X-Discovery-Follower": name})
    asked.source.say(observed(WEB))
    asked.resolver.refresh()
    assert asked("/v1/snapshot").json()["followers"] == 2

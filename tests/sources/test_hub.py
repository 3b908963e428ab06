"""Following hubs: what is taken over, what is refused, and how long anything may take."""

import gzip
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from uvicorn import Config

from discovery.errors import (
    AccessDenied,
    BadSetting,
    CredentialsMissing,
    SourceError,
    SourceMalformed,
    SourceUnreachable,
)
from discovery.events import Event, Listeners, Noticed
from discovery.model import Observation
from discovery.secret import Secret
from discovery.snapshots import MAX_BYTES
from discovery.sources.hub import KEPT_S, LEAST_PERIOD_S, Following, HubSource, hubs
from tests.made import NOW, FakeClock, service
from tests.sources.hubs import TIMEOUT_S, Hub, asking_first, following, liar, until

WEB, API = service("web", 1, 2), service("api", 3)


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub that knows `web`."""
    with Hub(WEB) as hub:
        yield hub


@pytest.fixture
def follower(hub: Hub) -> Iterator[HubSource]:
    """Who follows it, and waits for a moment only."""
    source = following(hub.url)
    yield source
    source.close()


def names(observation: Observation) -> list[str]:
    return sorted(s.name for reading in observation.clusters for s in reading.services)


def test_a_follower_knows_what_its_hub_knows(hub: Hub, follower: HubSource) -> None:
    """Services, clusters, and that nothing else is there."""
    observation = follower.load(None)
    (found,) = observation.clusters
    assert found.services == (WEB,)
    assert (found.label, found.complete, found.explained, found.error) == ("demo", True, True, None)
    assert observation.labels == follower.labels == ("demo",)


def test_a_change_is_told_while_it_is_waited_for(hub: Hub) -> None:
    """Without waiting for the end of the interval."""
    source = following(hub.url, interval_s=60)
    source.load(None)
    found: list[Observation] = []
    waiting = threading.Thread(target=lambda: found.append(source.load(None)))
    waiting.start()
    until(lambda: hub.waits.waiting, "a blocking query")
    hub.say(WEB, API)
    waiting.join(TIMEOUT_S)
    source.close()
    assert names(found[0]) == ["api", "web"]


def test_a_hub_with_no_place_to_wait_is_asked_at_our_own_pace(hub: Hub) -> None:
    """It answers at once, and is not asked again at once where nothing changed."""
    hub.waits.most = 0
    source = following(hub.url, interval_s=60)
    paces = [source.load(None).again_s for _ in range(2)]
    hub.say(WEB, API)
    paces.append(source.load(None).again_s)
    source.close()
    first, unchanged, changed = (pace_s or 0.0 for pace_s in paces)
    assert max(first, changed) <= LEAST_PERIOD_S
    assert LEAST_PERIOD_S < unchanged <= 30


def test_what_did_not_change_stays_the_same_object(hub: Hub, follower: HubSource) -> None:
    """Only what changed is sent, and what is derived from the rest may be kept."""
    before = follower.load(None).clusters[0].services[0]
    hub.say(WEB, API)
    after = {s.name: s for s in follower.load(None).clusters[0].services}
    assert after["web"].endpoints is before.endpoints


def test_a_follower_does_not_load_the_aws_sdk(hub: Hub) -> None:
    """It has no use for it, and it is most of what a process of ours weighs."""
    program = (
        "import sys; from discovery import Resolver\n"
        f"with Resolver(source={hub.url!r}) as r: print(len(r.endpoints('web')))\n"
        "print([m for m in ('boto3', 'botocore', 'starlette', 'uvicorn') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout.split("\n")[:2] == ["2", "[]"], done.stderr


def test_ages_are_the_hubs_whatever_clocks_say(hub: Hub) -> None:
    """The hub's clock is an hour ahead of ours, and its data was 20 s old when it answered."""
    hub.clock.now = NOW + 20
    clock = FakeClock(NOW + 20 - 3_600)
    source = following(hub.url, clock=clock)
    observation = source.load(None)
    source.close()
    assert clock.now - observation.observed_at == pytest.approx(20, abs=0.002)
    (service,) = observation.clusters[0].services
    assert clock.now - service.observed_at == pytest.approx(20, abs=0.002)


def test_ages_move_on_while_nothing_changes(hub: Hub) -> None:
    """The hub reads again, and finds the same."""
    follower = following(hub.url, clock=(clock := FakeClock()))
    assert follower.load(None).observed_at == pytest.approx(NOW, abs=0.002)
    hub.clock.now = clock.now = NOW + 10
    hub.say(WEB)
    assert follower.load(None).observed_at == pytest.approx(NOW + 10, abs=0.002)
    follower.close()


def test_what_the_hub_cannot_read_is_passed_on(hub: Hub, follower: HubSource) -> None:
    """With its reason; the services stay."""
    follower.load(None)
    with pytest.raises(SourceUnreachable):
        hub.say(complete=False, error=SourceUnreachable("ECS is down"))
    (found,) = follower.load(None).clusters
    assert (found.services, found.complete, str(found.error)) == ((WEB,), True, "ECS is down")


def test_a_hub_that_is_gone_is_an_error_with_its_name(hub: Hub, follower: HubSource) -> None:
    """Not an empty answer."""
    follower.load(None)
    hub.close()
    with pytest.raises(SourceUnreachable, match=hub.url):
        follower.load(None)


def test_a_hub_that_came_back_is_followed_again() -> None:
    """Its epoch is another one, and so is the order of its indices."""
    with Hub(WEB, now=NOW + 5) as before:
        port = before.port
        follower = following(before.url)
        follower.load(None)
    with Hub(API, port=port, now=NOW + 9):
        assert names(follower.load(None)) == ["api"]
    follower.close()


def test_what_is_older_is_not_taken_after_what_is_newer() -> None:
    """Whichever hub says it, until it has read on."""
    clock = FakeClock()
    with Hub(WEB) as first, Hub(API, now=NOW - 8) as second:
        second.clock.now = NOW
        follower = following(first.url, second.url, clock=clock, seed=asking_first(0))
        assert names(follower.load(None)) == ["web"]
        first.close()
        with pytest.raises(SourceUnreachable, match="older"):
            follower.load(None)
        second.clock.now = clock.now = NOW + 1
        second.say(API)
        assert names(follower.load(None)) == ["api"]
        follower.close()


@pytest.mark.parametrize("is_followed_before", [False, True])
def test_nothing_older_is_taken_than_what_was_seen_elsewhere(
    hub: Hub, is_followed_before: bool
) -> None:
    """As by reading ECS directly meanwhile, while the hub could not be reached."""
    follower = following(hub.url, clock=(clock := FakeClock()))
    if is_followed_before:
        follower.load(None)
    hub.clock.now = clock.now = NOW + 20
    follower.seen(NOW + 20)
    with pytest.raises(SourceUnreachable, match="older"):
        follower.load(None)
    hub.say(WEB, API)
    assert names(follower.load(None)) == ["api", "web"]
    follower.close()


def test_a_clock_that_was_set_back_does_not_keep_another_hub_from_being_followed() -> None:
    """What is known from the future orders nothing."""
    clock = FakeClock(NOW + 3_600)
    with Hub(WEB) as first, Hub(API) as second:
        follower = following(first.url, second.url, clock=clock, seed=asking_first(0))
        follower.load(None)
        first.close()
        clock.now = NOW
        second.clock.now = NOW + 5
        assert names(follower.load(None)) == ["api"]
        follower.close()


def test_the_next_hub_is_asked_where_one_fails() -> None:
    """At once, and from then on."""
    with Hub(WEB) as first, Hub(API) as second:
        follower = following(first.url, second.url, seed=asking_first(0))
        assert names(follower.load(None)) == ["web"]
        first.close()
        assert names(follower.load(None)) == ["api"]
        assert names(follower.load(None)) == ["api"]
        follower.close()


def test_a_hub_with_fresh_data_goes_before_one_that_cannot_read() -> None:
    """An answer of old data is none to stay with where another hub has better."""
    with Hub(WEB) as first, Hub(API) as second:
        follower = following(
            first.url, second.url, clock=(clock := FakeClock()), seed=asking_first(0)
        )
        assert names(follower.load(None)) == ["web"]
        clock.now = first.clock.now = second.clock.now = NOW + 100
        second.say(API)
        assert names(follower.load(None)) == ["api"]
        second.close()
        with pytest.raises(SourceUnreachable, match="older"):
            follower.load(None)
        follower.close()


def test_a_hub_that_may_not_read_any_more_is_an_error_to_who_knows_what_it_has(hub: Hub) -> None:
    """So that a fallback reads, which may; whoever comes later is told what there is."""
    clock = FakeClock()
    known, late = following(hub.url, clock=clock), following(hub.url, clock=clock)
    known.load(None)
    with pytest.raises(AccessDenied):
        hub.say(complete=False, error=AccessDenied("ecs:ListTasks"))
    assert names(known.load(None)) == ["web"]  # which is fresh
    clock.now = hub.clock.now = NOW + 100
    with pytest.raises(SourceUnreachable, match=f"hub {hub.url}: it may not read: .*ListTasks"):
        known.load(None)
    assert names(late.load(None)) == ["web"]
    hub.say(WEB, API)
    assert names(known.load(None)) == ["api", "web"]
    known.close()
    late.close()


def test_followers_spread_over_the_hubs() -> None:
    """Each begins with one by chance."""
    urls = ("http://a:1", "http://b:1")
    firsts = {following(*urls, seed=seed)._urls[0] for seed in range(20)}
    assert firsts == set(urls)


def test_a_hub_without_tls_is_said() -> None:
    """Not only in OpenSSL's words."""
    with Hub(WEB) as hub:
        follower = following(hub.url.replace("http://", "https://"))
        with pytest.raises(SourceUnreachable, match="write http://"):
            follower.load(None)
        follower.close()


def test_a_token_is_wanted_and_given() -> None:
    """Who has none, or another, is told so."""
    with Hub(WEB, token="right") as hub:
        follower = following(hub.url, token="right")
        assert names(follower.load(None)) == ["web"]
        follower.close()
        for token in (None, "wrong"):
            refused = following(hub.url, token=token)
            with pytest.raises(CredentialsMissing, match="hub_token"):
                refused.load(None)
            refused.close()


def test_a_token_in_a_file_is_read_for_each_query(tmp_path: Path) -> None:
    """It may change while we run; a file that is gone is said."""
    path = tmp_path / "token"
    with Hub(WEB, token="right") as hub:
        follower = following(hub.url, token=f"file:{path}")
        with pytest.raises(SourceError, match=str(path)):
            follower.load(None)
        path.write_text("right\n")
        assert names(follower.load(None)) == ["web"]
        follower.close()


def test_a_token_in_the_open_is_warned_of() -> None:
    """It is said that anybody on the way can read it, and not what it is."""
    said: list[Event] = []
    how = Following(Random(1), token=Secret("hush"))
    HubSource(["http://a:1"], how, listeners=Listeners(said.append))
    HubSource(["https://a:1"], how, listeners=Listeners(said.append))
    (notice,) = said
    assert isinstance(notice, Noticed)
    assert "without encryption" in notice.message
    assert "hush" not in f"{notice.message} {how}"


def test_closing_ends_a_wait_that_is_under_way(hub: Hub) -> None:
    """A process that stops does not wait for its hub."""
    source = following(hub.url, interval_s=60)
    source.load(None)
    failed: list[SourceError] = []

    def load() -> None:
        try:
            source.load(None)
        except SourceError as error:
            failed.append(error)

    waiting = threading.Thread(target=load)
    waiting.start()
    until(lambda: hub.waits.waiting, "a blocking query")
    began = time.monotonic()
    source.close()
    waiting.join(TIMEOUT_S)
    assert failed
    assert time.monotonic() - began < 48  # the wait would have gone on for longer
    with pytest.raises(SourceUnreachable):
        source.load(None)


def _answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


AGE = "X-Discovery-Age: 1.0"
ZIPPED = "Content-Encoding: gzip"
EMPTY = b'{"format":1,"index":0,"observed_at":1,"services":[]}'
BOMB = gzip.compress(bytes(MAX_BYTES + 1))


@pytest.mark.parametrize(
    ("answer", "error", "why"),
    [
        (_answer(b"{}", AGE), SourceMalformed, "no snapshot document"),
        (_answer(b"<html>", AGE), SourceMalformed, "no snapshot document"),
        (_answer(EMPTY.replace(b"1", b"9", 1), AGE), SourceMalformed, "format 9"),
        (_answer(EMPTY), SourceMalformed, "X-Discovery-Age"),
        (_answer(EMPTY, "X-Discovery-Age: nan"), SourceMalformed, "X-Discovery-Age"),
        (_answer(EMPTY, "X-Discovery-Age: -3"), SourceMalformed, "X-Discovery-Age"),
        (_answer(gzip.compress(EMPTY)[:-9], AGE, ZIPPED), SourceMalformed, "cut off"),
        (_answer(b"no gzip", AGE, ZIPPED), SourceMalformed, "decompressed"),
        (_answer(BOMB, AGE, ZIPPED), SourceMalformed, "64 MiB"),
        (_answer(EMPTY, AGE)[:-5], SourceUnreachable, "no answer"),
        (_answer(b"", "Location: /", status="302 Found"), SourceUnreachable, "302"),
        (_answer(b"x" * 9_000, status="500 Oh"), SourceUnreachable, "500"),
        (b"", SourceUnreachable, "no answer"),
        (b"SSH-2.0-hello\r\n", SourceUnreachable, "no answer"),
    ],
)
def test_lies_are_refused_with_the_reason(
    answer: bytes, error: type[SourceError], why: str
) -> None:
    """In a sentence of bounded length that names the hub."""
    with liar(answer) as url:
        follower = following(url)
        with pytest.raises(error, match=why) as caught:
            follower.load(None)
        follower.close()
    assert url in str(caught.value)
    assert len(str(caught.value)) < 1_000


def test_whom_nothing_could_be_taken_from_is_connected_to_anew() -> None:
    """It would go on to answer so, and its name, or what is in between, leads elsewhere by now."""
    refusal = _answer(b"", status="503 Service Unavailable").replace(b"Connection: close\r\n", b"")
    with liar(refusal, _answer(EMPTY, AGE), is_kept=True) as url:
        follower = following(url)
        with pytest.raises(SourceUnreachable, match="503"):
            follower.load(None)
        assert names(follower.load(None)) == []
        follower.close()


def test_an_idle_connection_is_not_used_when_a_hub_may_be_closing_it() -> None:
    """As after the pause of who found no place to wait."""
    assert Config("any").timeout_keep_alive > KEPT_S
    follower = following("http://127.0.0.1:1")
    pool = follower._connected()._transport._pool  # type: ignore[attr-defined]  # of httpx
    assert pool._keepalive_expiry == KEPT_S
    follower.close()


def test_a_body_over_the_bound_is_not_read_on() -> None:
    """Whatever length it said."""
    body = bytes(MAX_BYTES + (1 << 20))
    with liar(_answer(body, AGE)) as url:
        follower = following(url)
        with pytest.raises(SourceMalformed, match="over 64 MiB"):
            follower.load(None)
        follower.close()


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nX-Padding: ", _answer(EMPTY + bytes(9_000), AGE)[:-9_000]]
)
def test_an_answer_that_never_ends_is_given_up(head: bytes) -> None:
    """Though a piece of it comes again and again, before any timeout for one."""
    with liar(head + b" " * 10_000, pause_s=0.002) as url:
        follower = following(url, whole_s=0.3)
        with pytest.raises(SourceUnreachable, match=r"over 0\.3 s"):
            follower.load(None)
        follower.close()


def test_a_hub_that_is_silent_is_passed_by_for_the_next_one(hub: Hub) -> None:
    """As one whose machine is gone without a word: a connection to it stays open for ever."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        follower = following(url, hub.url, whole_s=0.3, seed=asking_first(0))
        assert names(follower.load(None)) == ["web"]
        assert follower._urls[0] == hub.url
        follower.close()


@pytest.mark.parametrize("name", ["hub..local", "a" * 64, "xn--a", "999.1.1.1"])
def test_a_hub_whose_name_cannot_be_one_is_passed_by(hub: Hub, name: str) -> None:
    """It is a failure like any other, with its name."""
    wrong = f"http://{name}:80"
    follower = following(wrong, hub.url, seed=asking_first(0))
    assert follower.load(None).labels == ("demo",)
    follower.close()
    with pytest.raises(SourceUnreachable, match=re.escape(wrong)):
        following(wrong).load(None)


def test_a_hub_that_takes_no_connection_is_given_up() -> None:
    """As one that is gone."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    follower = following(url)
    with pytest.raises(SourceUnreachable, match="no answer"):
        follower.load(None)
    follower.close()


@pytest.mark.parametrize(
    "written",
    [
        "http://",
        "http:hub",
        "http://hub:x",
        "http://hub:0",
        "http://me:secret@hub",
        "http://a:1,https://me:a/secret@hub",
        "http://hub/?a=b",
        "http://a:1,",
        "http://a:1,ftp://b",
    ],
)
def test_what_is_no_hub_is_refused_at_once(written: str) -> None:
    """With what would be right, and without a password."""
    with pytest.raises(BadSetting, match="HUB:PORT") as caught:
        hubs(written)
    assert "secret" not in str(caught.value)


def test_hubs_are_written_with_commas() -> None:
    """A path before ours is kept."""
    assert hubs("http://a:1, https://b.example/x/") == ("http://a:1", "https://b.example/x")


def _signed(path: Path) -> Path:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=hub", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(path), "-out", str(path.with_name("out.pem"))),
        ],
        check=True,
        capture_output=True,
    )
    path.write_text(path.read_text() + path.with_name("out.pem").read_text())
    return path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of 127.0.0.1, signed by itself."""
    return _signed(tmp_path_factory.mktemp("tls") / "hub.pem")


def test_hubs_over_tls_are_believed_by_their_certificate(certificate: Path) -> None:
    """Signed by who we were told to trust; nobody else."""
    with liar(_answer(EMPTY, AGE), certificate=certificate) as url:
        trusting = following(url, ca=certificate)
        assert names(trusting.load(None)) == []
        trusting.close()
        doubting = following(url)
        with pytest.raises(SourceUnreachable, match="certificate"):
            doubting.load(None)
        doubting.close()


def test_who_is_believed_may_be_written_anew(certificate: Path, tmp_path: Path) -> None:
    """Authorities are renewed, and followers are not restarted for it."""
    ca = _signed(tmp_path / "ca.pem")
    with liar(_answer(EMPTY, AGE), certificate=certificate) as url:
        follower = following(url, ca=ca)
        with pytest.raises(SourceUnreachable, match="certificate"):
            follower.load(None)
        ca.write_bytes(certificate.read_bytes())
        assert names(follower.load(None)) == []
        follower.close()


def test_a_missing_authority_file_is_said(tmp_path: Path) -> None:
    """By the setting's name."""
    follower = following("https://127.0.0.1:1", ca=tmp_path / "no.pem")
    with pytest.raises(SourceError, match="hub_ca"):
        follower.load(None)
    follower.close()


def test_a_child_after_a_fork_asks_by_itself(hub: Hub) -> None:
    """Over a connection of its own, whatever the parent's was doing."""
    program = (
        "import os, random, sys; from discovery.sources.hub import Following, HubSource\n"
        f"source = HubSource([{hub.url!r}], Following(random.Random(1), interval_s=0.1))\n"
        "source.load(None)\n"
        "source._lock.acquire()  # as if the parent were loading\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    os._exit(len(source.load(None).clusters[0].services))\n"
        "status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])\n"
        "source._lock.release()\n"
        "print(status, len(source.load(None).clusters[0].services))\n"
        "source.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout == "1 1\n", done.stderr

"""The page at `/` in a real browser: what it shows, follows, and leaves alone."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from discovery.errors import SourceUnreachable
from discovery.model import Exclusion, Service
from discovery.secret import secret
from discovery.settings import Settings
from discovery.sidecar.access import OPEN
from discovery.sidecar.page import PATHS
from discovery.sidecar.supervisor import Sidecar
from discovery.sources.base import FixedSource
from discovery.written import Address, ClusterSettings
from tests.dns.resolvers import until
from tests.sidecar.browser import PROGRAM, Browser
from tests.sidecar.fleet import EMPTY, TWO, WEB, endpoint, observed

ANY = Address("127.0.0.1", 0)
SETTINGS = Settings(clusters=(ClusterSettings("prod"),), dns=ANY, http=ANY)
PATIENCE_S = 30.0
MARKUP = "<img src=x onerror=document.title='broken'><b>bold</b>"

needs_chromium = pytest.mark.skipif(PROGRAM is None, reason="chromium is not installed")


class Shown:
    """A sidecar whose page is open, and what it reads."""

    def __init__(self, sidecar: Sidecar, source: FixedSource, browser: Browser) -> None:
        self.sidecar = sidecar
        self.source = source
        self.browser = browser
        self.url = f"http://{sidecar.http_address}/"

    def open(self, service: str = "") -> Browser:
        """The browser, at the page, or at a service of it, once it shows what is known."""
        self.browser.open(f"{self.url}#/{service}")
        self.browser.until_seen("Ready", "#state")
        self.browser.until_seen("web", "#list")
        return self.browser

    def say(self, *services: Service) -> None:
        """Have these be all that there is."""
        self.source.say(observed(*services, at=time.time()))
        self.sidecar.resolver.refresh()


@contextmanager
def sidecar_of(source: FixedSource, settings: Settings = SETTINGS) -> Iterator[Sidecar]:
    """A sidecar that is ready."""
    with Sidecar(settings, source=source) as sidecar:
        until(lambda: not sidecar.missing())
        yield sidecar


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """A browser of its own."""
    with Browser(tmp_path) as browser:
        browser.looks()
        yield browser


@pytest.fixture
def shown(browser: Browser) -> Iterator[Shown]:
    """A sidecar of three services, and a browser."""
    source = FixedSource(observed(WEB, TWO, EMPTY, at=time.time()))
    with sidecar_of(source) as sidecar:
        yield Shown(sidecar, source, browser)


@needs_chromium
class TestInABrowser:
    """What a person sees and can do."""

    def test_clusters_services_and_age_are_there(self, shown: Shown) -> None:
        """At a glance, with counts and ports."""
        browser = shown.open()
        rows = browser.run("[...document.querySelectorAll('#list tbody tr')].map(r => r.innerText)")
        assert [row.split("\t")[:4] for row in rows] == [
            ["empty", "prod", "0", "1"],
            ["two", "prod", "2", "0"],
            ["web", "prod", "2", "0"],
        ]
        assert "http 80/tcp, admin 9000/tcp" in rows[1]
        assert "prod" in browser.run("document.getElementById('clusters').innerText")
        browser.until_seen("ago", "#age")
        # By this process, to which other tests belong as well.
        said = "document.getElementById('budget').innerText"
        browser.until(f"/None are made|share of the rate limits/.test({said})")

    def test_a_service_has_its_endpoints_and_their_use(self, shown: Shown) -> None:
        """Address, zone, port and health; in flight and ejection from our own requests."""
        resolver = shown.sidecar.resolver
        route = resolver.route("web")
        for member in (endpoint(2), endpoint(2)):
            flight = route.board(resolver.endpoints("web"), (), True)
            found = next(m for m in route.pool.members if m.endpoint.host == member.host)
            flight.close()
            route.pool.board(found, resolver.monotonic()).end("refused", resolver.monotonic())
        browser = shown.open("web.prod")
        browser.until_seen("127.0.0.2:49154", "#endpoints")
        browser.until_seen("us-east-1a", "#endpoints")
        browser.until_seen("http 80/tcp", "#endpoints")
        browser.until_seen("healthy", "#endpoints")
        browser.until_seen("unreachable: 2 refusals in a row", "#endpoints")
        cell = "[...document.querySelectorAll('#endpoints td[data-label=\"In flight\"]')]"
        assert set(browser.run(f"{cell}.map(c => c.innerText)")) == {"2", "0"}

    def test_excluded_tasks_have_reasons(self, shown: Shown) -> None:
        """Why something is missing is what a person comes for."""
        browser = shown.open("empty.prod")
        browser.until_seen("it is stopping", "#excluded")
        browser.until_seen("Nothing of it can be called", "#endpoints")

    def test_what_changes_is_seen_without_reloading(self, shown: Shown) -> None:
        """In the list, in the service that is open, and in its history."""
        browser = shown.open("web.prod")
        browser.run("window.still = 'here'")
        shown.say(replace(WEB, endpoints=(endpoint(9),)), TWO, replace(EMPTY, name="fresh"))
        browser.until_seen("127.0.0.9:49161", "#endpoints")
        browser.until_seen("fresh", "#list")
        browser.until_seen("left", "#history")
        assert browser.run("window.still") == "here"

    def test_nothing_from_ecs_is_taken_for_html(self, shown: Shown) -> None:
        """Names, reasons and labels are text, whoever wrote them."""
        odd = replace(
            WEB,
            endpoints=(
                replace(endpoint(2), zone=MARKUP, port_name=MARKUP),
                replace(endpoint(3), zone="a\u202eb\0"),
            ),
            exclusions=(Exclusion("arn:aws:ecs:::task/prod/" + MARKUP, MARKUP, MARKUP),),
        )
        shown.say(odd, replace(WEB, name=MARKUP))
        browser = shown.open("web.prod")
        browser.until_seen(MARKUP, "#list")
        browser.until_seen(MARKUP, "#excluded")
        browser.until_seen(MARKUP, "#endpoints")
        browser.until_seen("a\\u{202e}b\\u{0}", "#endpoints")
        assert browser.run("document.querySelectorAll('img, b').length") == 0
        assert browser.run("document.title") != "broken"

    def test_searching_narrows_the_list_and_says_so(self, shown: Shown) -> None:
        """By name, cluster and port, in any case; screen readers hear how many are left."""
        browser = shown.open()
        find = "document.getElementById('find')"
        for text, names in (("ADMIN", ["two"]), ("prod web", ["web"]), ("nope", [])):
            browser.run(f"{find}.value = '{text}'; {find}.dispatchEvent(new Event('input'))")
            listed = "[...document.querySelectorAll('#list a')].map(a => a.innerText)"
            assert browser.run(listed) == names
            assert f"{len(names)} of 3" in browser.run("document.getElementById('found').innerText")
        assert browser.run("document.getElementById('found').getAttribute('aria-live')") == "polite"

    def test_the_keyboard_is_enough(self, shown: Shown) -> None:
        """Skipping to the services, opening one, whose heading is read next; news moves nothing."""
        browser = shown.open()
        browser.press("Tab")
        assert browser.run("document.activeElement.className") == "skip"
        browser.press("Enter")
        browser.until("document.activeElement.id === 'services'")
        browser.press("Tab")
        assert browser.run("document.activeElement.id") == "find"
        browser.press("Tab")
        assert browser.run("document.activeElement.innerText") == "empty"
        shown.say(WEB, TWO, replace(EMPTY, exclusions=()))
        browser.until("document.querySelector('#list td[data-label=Excluded]').innerText === '0'")
        assert browser.run("document.activeElement.innerText") == "empty"
        browser.press("Enter")
        browser.until("document.activeElement.id === 'detail-title'")
        browser.until_seen("empty.prod", "#detail-title")

    def test_a_screen_reader_finds_its_way(self, shown: Shown) -> None:
        """Landmarks, one heading of the first order, named tables, and an input with a label."""
        browser = shown.open("web.prod")
        browser.until_seen("127.0.0.2", "#endpoints")
        roles = browser.roles()
        assert {"banner", "main", "search", "contentinfo", "status"} <= set(roles)
        assert {"Clusters", "Services", "Endpoints of web.prod"} <= set(roles["table"])
        assert roles["searchbox"] == ["Find a service"]
        assert {"Clusters", "Services", "web.prod"} <= set(roles["region"])
        assert browser.run("document.querySelectorAll('h1').length") == 1
        assert browser.run("document.documentElement.lang") == "en"

    @pytest.mark.parametrize("dark", [False, True])
    def test_it_can_be_read_in_both_colour_schemes(self, shown: Shown, dark: bool) -> None:
        """Every colour of text has a contrast of 4.5 to 1 (WCAG 2.2, 1.4.3)."""
        shown.browser.looks(dark=dark)
        browser = shown.open()
        back = browser.run("getComputedStyle(document.querySelector('section')).backgroundColor")
        assert (_luminance(back) < 0.1) is dark
        for kind in ("", "good", "warn", "bad", "dim"):
            color = browser.run(
                f"(() => {{ const e = document.getElementById('age'); e.className = '{kind}';"
                " return getComputedStyle(e).color })()"
            )
            assert _contrast(color, back) >= 4.5, kind

    def test_it_fits_on_a_phone(self, shown: Shown) -> None:
        """Nothing has to be moved sideways, and values keep their labels."""
        shown.browser.looks(width=360)
        browser = shown.open("web.prod")
        browser.until_seen("127.0.0.2", "#endpoints")
        assert browser.run("document.documentElement.scrollWidth") <= 360
        cell = "document.querySelector('#endpoints td[data-label=Zone]')"
        assert "Zone" in browser.run(f"getComputedStyle({cell}, '::before').content")

    def test_a_long_name_leaves_room_for_the_rest(self, shown: Shown) -> None:
        """No other word is broken for it, and nothing has to be moved sideways."""
        shown.say(WEB, replace(WEB, name="x" * 255))
        browser = shown.open()
        browser.until_seen("x" * 255, "#list")
        heights = "[...document.querySelectorAll('#list tr')].map(row => row.offsetHeight)"
        head, web, long = browser.run(heights)
        assert web - head <= 2 < long - head  # a line is drawn between rows
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")

    def test_it_asks_nobody_else_and_breaks_no_rule(self, shown: Shown) -> None:
        """No other host, no refused content, no error."""
        browser = shown.open("web.prod")
        browser.until_seen("127.0.0.2", "#endpoints")
        assert browser.requested
        assert {url[: len(shown.url)] for url in browser.requested} == {shown.url}
        assert browser.complaints == []

    def test_failing_and_gone_are_said(self, shown: Shown) -> None:
        """The source's error stands beside its cluster; a sidecar that stopped is no old news."""
        browser = shown.open()
        shown.source.say(observed(error=SourceUnreachable("nobody answers there")))
        with pytest.raises(SourceUnreachable):
            shown.sidecar.resolver.refresh()
        browser.until_seen("nobody answers there", "#clusters")
        shown.sidecar.drain()
        browser.until_seen("Not ready: it is stopping", "#state")
        shown.sidecar.close()
        browser.until_seen("The sidecar does not answer", "#state")

    def test_where_a_token_is_wanted_it_is_asked_for(
        self, browser: Browser, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """The page itself holds nothing; what it shows needs the token."""
        path = tmp_path_factory.mktemp("secret") / "token"
        path.write_text("open-sesame")
        settings = replace(SETTINGS, http_token=secret(f"file:{path}"))
        source = FixedSource(observed(WEB, at=time.time()))
        with sidecar_of(source, settings) as sidecar:
            browser.open(f"http://{sidecar.http_address}/")
            browser.until("document.getElementById('access')?.hidden === false")
            assert "web" not in browser.run("document.getElementById('list').innerText")
            browser.run(
                "document.getElementById('token').value = 'open-sesame';"
                "document.querySelector('#access button').click()"
            )
            browser.until_seen("web", "#list")
            assert browser.run("document.getElementById('access').hidden")


def test_status_has_ages_errors_and_budgets() -> None:
    """The one body that only the page asks for so far."""
    with sidecar_of(FixedSource(observed(WEB, EMPTY, at=time.time()))) as sidecar:
        body = httpx.get(f"http://{sidecar.http_address}/v1/status", trust_env=False).json()
    assert list(body) == [
        "index", "ready", "waiting_for", "stale_after_s", "clusters", "budgets",
    ]  # fmt: skip
    assert body["ready"] is True
    cluster = body["clusters"][0]
    assert 0 <= cluster.pop("age_s") < PATIENCE_S
    counts = {"services": 2, "endpoints": 2, "excluded": 1}
    assert cluster == {"name": "prod", "error": None} | counts


@pytest.mark.parametrize("path", sorted(PATHS))
def test_the_files_are_guarded_against_being_something_else(path: str) -> None:
    """Scripts, frames and guesses of a browser; and they need no token."""
    with sidecar_of(FixedSource(observed(WEB, at=time.time()))) as sidecar:
        answer = httpx.get(f"http://{sidecar.http_address}{path}", trust_env=False)
    assert answer.status_code == 200
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert path in OPEN


def test_the_files_have_no_inline_code() -> None:
    """The policy would refuse it; nothing is ever written as HTML."""
    ui = Path(__file__).parents[2] / "discovery" / "sidecar" / "ui"
    html, script = (ui / "index.html").read_text(), (ui / "page.js").read_text()
    assert " on" + "click" not in html
    assert "style=" not in html
    assert "<style" not in html
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert way not in script


def _luminance(color: str) -> float:
    """Of `rgb(r, g, b)`, as WCAG defines it."""
    octets = [int(n) / 255 for n in color[color.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in octets]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    dark, bright = sorted((_luminance(one), _luminance(other)))
    return (bright + 0.05) / (dark + 0.05)

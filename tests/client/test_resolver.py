"""What a resolver promises to whoever calls it, from threads and from coroutines alike."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from discovery.client.resolver import Resolver
from discovery.errors import (
    AccessDenied,
    AmbiguousPort,
    BadName,
    BadSetting,
    Expired,
    NoEndpoints,
    NotReady,
    SourceUnreachable,
    UnknownPort,
    UnknownService,
)
from discovery.model import Exclusion, Placement, Port, Service
from discovery.settings import Settings
from discovery.sources.base import FixedSource, Source
from tests.made import (
    NOW,
    FailingSource,
    FakeClock,
    HeldSource,
    NamingSource,
    endpoint,
    failed,
    observed,
    only,
    reading,
    service,
)

Make = Callable[..., Resolver]
Call = Callable[..., Any]
ERROR = SourceUnreachable("no answer from the API")


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes resolvers that are closed afterwards, on a clock that stands still."""
    made: list[Resolver] = []

    def make(source: Source | str, **arguments: Any) -> Resolver:
        given: dict[str, Any] = {"clock": FakeClock(), "timeout_s": 10.0}
        made.append(Resolver(source=source, **(given | arguments)))
        return made[-1]

    yield make
    for resolver in made:
        resolver.close()


def _sync(resolver: Resolver, method: str, *arguments: Any) -> Any:
    return getattr(resolver, method)(*arguments)


def _async(resolver: Resolver, method: str, *arguments: Any) -> Any:
    return asyncio.run(getattr(resolver, f"a{method}")(*arguments))


@pytest.fixture(params=[_sync, _async], ids=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Call:
    """Calls a method of the resolver in one of the two worlds."""
    asked: Call = request.param
    return asked


WEB = service("web", 1, 2)


class TestEitherWay:
    """What the plain and the `a…` methods promise alike."""

    def test_the_first_call_loads_and_later_ones_read_memory(self, make: Make, call: Call) -> None:
        """The source is asked once."""
        source = NamingSource(WEB)
        resolver = make(source)
        for _ in range(5):
            assert call(resolver, "endpoints", "web") == WEB.endpoints
        assert source.loads == [only("web")]

    @pytest.mark.parametrize(
        "name", ["web", "WEB", "web.demo", "web.demo.ecs.internal", "_80._tcp.web"]
    )
    def test_names_in_every_form_lead_to_the_service(
        self, make: Make, call: Call, name: str
    ) -> None:
        """Without case, with or without cluster, zone and port."""
        resolver = make(FixedSource(observed(reading(WEB))))
        assert call(resolver, "endpoints", name) == WEB.endpoints
        assert call(resolver, "service", name) == WEB

    def test_picks_take_turns(self, make: Make, call: Call) -> None:
        """Round robin over what can be called."""
        resolver = make(FixedSource(observed(reading(WEB))))
        assert {call(resolver, "pick", "web") for _ in range(2)} == set(WEB.endpoints)

    def test_however_a_name_is_written_it_has_one_pool(self, make: Make, call: Call) -> None:
        """Of one tuple of endpoints, so that asking in turns is no change to the pool."""
        resolver = make(FixedSource(observed(reading(service("web", 1, 2)))))
        routes = [
            call(resolver, "route", n) for n in ("web", "web.demo", "WEB", "web.ecs.internal")
        ]
        assert len({id(route.pool) for route in routes}) == 1
        assert len({id(route.endpoints()) for route in routes}) == 1

    def test_nothing_to_pick_says_why(self, make: Make, call: Call) -> None:
        """The reasons of the exclusions, the most frequent first, with counts."""
        reasons = ["health check fails", "being placed", "health check fails"]
        empty = Service(
            "web", "demo", exclusions=tuple(Exclusion(f"t{n}", r) for n, r in enumerate(reasons))
        )
        resolver = make(FixedSource(observed(reading(empty))))
        assert call(resolver, "endpoints", "web") == ()
        want = r"web\.demo has no endpoint: 2 × health check fails; being placed"
        with pytest.raises(NoEndpoints, match=want):
            call(resolver, "pick", "web")

    def test_an_unknown_name_suggests_close_ones(self, make: Make, call: Call) -> None:
        """People mistype."""
        resolver = make(FixedSource(observed(reading(WEB))), whole=True)
        with pytest.raises(UnknownService, match=r"no service 'wbe' in demo; .*web\.demo"):
            call(resolver, "endpoints", "wbe")

    def test_an_unknown_name_is_remembered_for_a_short_time(self, make: Make, call: Call) -> None:
        """Asking again and again costs the API nothing."""
        source, monotonic = NamingSource(WEB), FakeClock(0.0)
        resolver = make(source, monotonic=monotonic)
        for _ in range(3):
            with pytest.raises(UnknownService):
                call(resolver, "endpoints", "nope")
        assert len(source.loads) == 1
        monotonic.now = 3.0
        with pytest.raises(UnknownService):
            call(resolver, "endpoints", "nope")
        assert len(source.loads) == 2

    @pytest.mark.parametrize("whole", [False, True])
    def test_a_failing_source_is_never_not_found(self, make: Make, call: Call, whole: bool) -> None:
        """Its own error is raised, each time."""
        denied = AccessDenied("ecs:ListTasks")
        resolver = make(FailingSource(denied), whole=whole)
        for _ in range(2):
            with pytest.raises(AccessDenied, match="ecs:ListTasks"):
                call(resolver, "endpoints", "web")

    def test_an_error_later_on_leaves_what_is_known(self, make: Make, call: Call) -> None:
        """The refresh raises; answers go on."""
        source = FixedSource(observed(reading(WEB)))
        resolver = make(source)
        call(resolver, "endpoints", "web")
        source.say(failed(ERROR))
        with pytest.raises(SourceUnreachable, match="no answer"):
            call(resolver, "refresh")
        assert call(resolver, "endpoints", "web") == WEB.endpoints

    def test_what_is_too_old_is_not_served(self, make: Make, call: Call) -> None:
        """Beyond the stale limit, with the reason why there is nothing newer."""
        source, clock = FixedSource(observed(reading(WEB))), FakeClock()
        resolver = make(source, clock=clock, settings=Settings(stale_limit_s=60))
        call(resolver, "endpoints", "web")
        source.say(failed(ERROR))
        clock.now = NOW + 60.5
        with pytest.raises(Expired, match=r"web\.demo was read too long ago: no answer"):
            call(resolver, "endpoints", "web")

    def test_what_is_too_old_is_read_again_first(self, make: Make, call: Call) -> None:
        """A machine that slept for a day answers with what is true now."""
        clock = FakeClock()
        source = FixedSource(observed(reading(WEB)))
        resolver = make(source, clock=clock, settings=Settings(stale_limit_s=60))
        call(resolver, "endpoints", "web")
        clock.now = NOW + 3_600
        source.say(observed(reading(service("web", 9)), at=clock.now))
        assert [e.host for e in call(resolver, "endpoints", "web")] == ["10.0.0.9"]

    def test_a_source_that_has_only_old_data_is_not_asked_for_ever(
        self, make: Make, call: Call
    ) -> None:
        """One load that brings nothing newer is enough to say so."""
        old = replace(WEB, observed_at=NOW - 3_600)
        source = FixedSource(observed(reading(old)))
        resolver = make(source, settings=Settings(stale_limit_s=60))
        with pytest.raises(Expired, match="the source has nothing newer"):
            call(resolver, "endpoints", "web")
        assert len(source.loads) == 1

    def test_a_port_that_may_still_be_named_is_waited_for(self, make: Make, call: Call) -> None:
        """Endpoints are known before the task definition that names their ports."""
        bare = replace(WEB, definitions_pending=True)
        named = replace(WEB, ports=(Port(80, name="http"),), default_port=None)
        named = replace(named, endpoints=tuple(replace(e, port_name="http") for e in WEB.endpoints))
        source = FixedSource(
            observed(reading(bare), again_s=0.0), observed(reading(named), again_s=0.0)
        )
        resolver = make(source)
        assert call(resolver, "endpoints", "_http._tcp.web") == named.endpoints

    def test_a_port_that_is_never_named_is_not_ready(self, make: Make, call: Call) -> None:
        """Neither unknown nor empty; the service itself is there at once."""
        source = FixedSource(observed(reading(replace(WEB, definitions_pending=True))))
        resolver = make(source)
        assert call(resolver, "endpoints", "web") == WEB.endpoints
        resolver = make(source, timeout_s=0.05)
        call(resolver, "endpoints", "web")
        with pytest.raises(NotReady, match="the task definition that names ports"):
            call(resolver, "endpoints", "_http._tcp.web")

    def test_a_load_that_takes_too_long_is_not_ready(self, make: Make, call: Call) -> None:
        """A bounded wait, and never "not found"."""
        resolver = make(HeldSource(observed(reading(WEB))), timeout_s=0.0)
        with pytest.raises(NotReady, match=r"web: not read yet, the read has not ended in 0 s"):
            call(resolver, "endpoints", "web")

    def test_what_exists_and_could_not_be_read_is_its_error(self, make: Make, call: Call) -> None:
        """The list names it, so it is not unknown."""
        source = FixedSource(observed(reading(WEB, unread={"api"}, error=ERROR)))
        resolver = make(source, whole=True)
        assert call(resolver, "endpoints", "web")
        with pytest.raises(SourceUnreachable):
            call(resolver, "endpoints", "api")
        with pytest.raises(UnknownService):
            call(resolver, "endpoints", "nope")

    def test_a_name_that_was_absent_from_the_last_list_stays_unknown_while_reads_fail(
        self, make: Make, call: Call
    ) -> None:
        """Memory answers for what is not there, too."""
        source = FixedSource(observed(reading(WEB)))
        resolver = make(source, whole=True)
        call(resolver, "endpoints", "web")
        source.say(failed(ERROR))
        with pytest.raises(SourceUnreachable):
            call(resolver, "refresh")
        with pytest.raises(UnknownService):
            call(resolver, "endpoints", "nope")

    def test_listing_services_reads_whole_clusters_from_then_on(
        self, make: Make, call: Call
    ) -> None:
        """In the order of clusters and names."""
        prod = service("web", 3, cluster="prod")
        source = NamingSource(service("zoo", 1), WEB, prod, labels=("prod", "demo"))
        resolver = make(source)
        call(resolver, "endpoints", "web.demo")
        listed = [s.full_name for s in call(resolver, "services")]
        assert listed == ["web.prod", "web.demo", "zoo.demo"]
        assert source.loads == [only("web"), None]

    def test_listing_gives_what_there_is_where_one_cluster_fails(
        self, make: Make, call: Call
    ) -> None:
        """The cluster that fails says so in the snapshot."""
        denied = reading(label="prod", complete=False, error=AccessDenied("ecs:ListTasks"))
        resolver = make(FixedSource(observed(reading(WEB), denied)))
        assert call(resolver, "services") == (WEB,)
        assert "ecs:ListTasks" in str(resolver.snapshot.clusters[1].error)
        assert resolver.unready == (f"prod: {denied.error}",)

    def test_listing_raises_where_no_cluster_can_be_read(self, make: Make, call: Call) -> None:
        """An empty list would be a lie."""
        resolver = make(FailingSource(ERROR))
        for _ in range(2):
            with pytest.raises(SourceUnreachable):
                call(resolver, "services")

    def test_explaining_lists_every_task(self, make: Make, call: Call) -> None:
        """Kept or dropped, and why."""
        resolver = make(FixedSource(observed(reading(service("web", 1, excluded=1)))))
        tasks = call(resolver, "explain", "web")["tasks"]
        assert [(t["task_arn"], t["verdict"]) for t in tasks] == [
            ("arn:task/1", "kept"),
            ("arn:task/x0", "excluded"),
        ]

    def test_a_refresh_brings_what_is_new(self, make: Make, call: Call) -> None:
        """And waits for it."""
        source = FixedSource(observed(reading(WEB)))
        resolver = make(source)
        call(resolver, "endpoints", "web")
        source.say(observed(reading(service("web", 9))))
        call(resolver, "refresh")
        assert [e.host for e in call(resolver, "endpoints", "web")] == ["10.0.0.9"]


TWO_PORTS = replace(
    WEB,
    endpoints=(endpoint(1), endpoint(1, port=40_000, container_port=9_000, port_name="admin")),
    ports=(Port(80), Port(9_000, name="admin")),
    default_port=None,
)


def test_one_of_several_ports_has_to_be_asked_for(make: Make) -> None:
    """The error lists them; the service as a whole needs no port."""
    resolver = make(FixedSource(observed(reading(TWO_PORTS))))
    with pytest.raises(AmbiguousPort, match=r"_admin\._tcp\.web"):
        resolver.endpoints("web")
    assert [e.port for e in resolver.endpoints("_admin._tcp.web")] == [40_000]
    assert [e.port for e in resolver.endpoints("_9000._tcp.web")] == [40_000]
    assert len(resolver.service("web").endpoints) == 2
    with pytest.raises(UnknownPort):
        resolver.endpoints("_nope._tcp.web")


def test_each_port_has_its_own_turns(make: Make) -> None:
    """Asking two pools in turn does not leave one endpoint of each without traffic."""
    api = service("api", 3, 4)
    resolver = make(FixedSource(observed(reading(WEB, api))))
    picked = {resolver.pick(name).host for _ in range(2) for name in ("web", "api")}
    assert picked == {"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"}


def test_a_bad_name_asks_nobody(make: Make) -> None:
    """It is the caller's mistake."""
    source = NamingSource(WEB)
    with pytest.raises(BadName):
        make(source).endpoints("not a name")
    assert source.loads == []


@pytest.mark.parametrize("source", ["ftp:x", "", "file:", "ecs:x"])
def test_a_source_that_there_is_not_is_a_bad_setting(source: str) -> None:
    """The message says which there are."""
    with pytest.raises(BadSetting, match=r"want ecs, file:PATH"):
        Resolver(source=source)


def test_a_cluster_that_cannot_be_one_is_a_bad_setting() -> None:
    """The message says what would be."""
    with pytest.raises(BadSetting, match=r"cluster: 'a b' cannot be used, want NAME"):
        Resolver("a b", source="file:nowhere.toml")


def test_nothing_runs_before_the_first_use(make: Make) -> None:
    """Making one, and looking at it, starts no thread and reads nothing."""
    before = threading.active_count()
    source = NamingSource(WEB)
    with make(source) as resolver:
        assert resolver.snapshot.services == {}
        assert not resolver.ready
        assert resolver.unready == ("demo: not read yet",)
        assert "nothing read yet" in repr(resolver)
    assert threading.active_count() == before
    assert source.loads == []


def test_fifty_first_calls_share_one_load(make: Make) -> None:
    """Threads and coroutines together; each gets the whole answer."""
    source = HeldSource(observed(reading(WEB)))
    resolver = make(source)
    answers: list[Any] = []
    ready = threading.Barrier(51)

    def ask(n: int) -> None:
        ready.wait(10)
        asked = _async if n % 2 else _sync
        answers.append(asked(resolver, "endpoints", "web"))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(50)]
    for thread in threads:
        thread.start()
    ready.wait(10)
    assert source.entered.acquire(timeout=10)
    source.let_go.release(1_000)
    for thread in threads:
        thread.join(10)
    assert answers == [WEB.endpoints] * 50
    assert len(source.loads) == 1


def test_a_name_asked_during_a_load_gets_the_next_one(make: Make) -> None:
    """It is not in what is being read, so it must not be judged by that."""
    source = HeldSource(
        observed(reading(WEB, complete=False)), observed(reading(service("api", 5), complete=False))
    )
    resolver = make(source)
    answers: dict[str, Any] = {}

    def ask(name: str) -> None:
        answers[name] = resolver.endpoints(name)

    first, second = (threading.Thread(target=ask, args=(name,)) for name in ("web", "api"))
    first.start()
    assert source.entered.acquire(timeout=10)
    second.start()
    source.let_go.release()
    assert source.entered.acquire(timeout=10)
    source.let_go.release()
    first.join(10)
    second.join(10)
    assert [e.host for e in answers["api"]] == ["10.0.0.5"]
    assert source.loads == [only("web"), only("api")]


def test_the_event_loop_goes_on_during_a_first_load(make: Make) -> None:
    """Other coroutines run while one waits."""
    source = HeldSource(observed(reading(WEB)))
    resolver = make(source)

    async def both() -> Any:
        asking = asyncio.create_task(resolver.aendpoints("web"))
        await asyncio.to_thread(source.entered.acquire, True, 10)
        source.let_go.release()  # only a loop that runs gets here
        return await asking

    assert asyncio.run(both()) == WEB.endpoints


def test_readers_never_see_an_older_index_after_a_newer(make: Make) -> None:
    """Whatever the thread, `(epoch, sequence)` only grows, and content goes with it."""
    source = FixedSource(observed(reading(service("web", 1))))
    resolver = make(source)
    resolver.endpoints("web")
    stop, wrong = threading.Event(), []

    def read() -> None:
        last = 0
        while not stop.is_set():
            snapshot = resolver.snapshot
            if snapshot.index < last:
                wrong.append((last, snapshot.index))
            last = snapshot.index

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(2, 30):
        source.say(observed(reading(service("web", number))))
        resolver.refresh()
        if resolver.endpoints("web")[0].host != f"10.0.0.{number}":
            wrong.append((number, number))
    stop.set()
    for thread in threads:
        thread.join(10)
    assert wrong == []


def test_waiting_returns_when_the_index_changes(make: Make) -> None:
    """With the snapshot then; any other index than the current one returns at once."""
    source = FixedSource(observed(reading(WEB)))
    resolver = make(source)
    resolver.endpoints("web")
    index = resolver.snapshot.index
    assert resolver.wait(index - 1).index == index
    assert resolver.wait(index + 1).index == index
    assert resolver.wait(index, timeout_s=0).index == index
    assert asyncio.run(resolver.await_change(index, 0)).index == index
    seen: list[int] = []
    waiting = [
        threading.Thread(target=lambda: seen.append(resolver.wait(index, 10).index)),
        threading.Thread(
            target=lambda: seen.append(asyncio.run(resolver.await_change(index, 10)).index)
        ),
    ]
    for thread in waiting:
        thread.start()
    source.say(observed(reading(service("web", 9))))
    resolver.refresh()
    for thread in waiting:
        thread.join(10)
    assert seen == [index + 1] * 2


def test_it_is_ready_once_every_cluster_was_read(make: Make) -> None:
    """And says so to those who wait."""
    resolver = make(FixedSource(observed(reading(WEB))), whole=True)
    assert resolver.wait_ready(10)
    assert resolver.ready
    assert asyncio.run(resolver.await_ready(0))


def test_it_is_not_ready_while_reading_fails(make: Make) -> None:
    """And says why."""
    resolver = make(FailingSource(ERROR), whole=True)
    with pytest.raises(SourceUnreachable):
        resolver.endpoints("web")
    assert not resolver.wait_ready(0)
    assert resolver.unready == ("demo: no answer from the API",)


def test_watching_gives_the_endpoints_now_and_at_each_change(make: Make) -> None:
    """What changes elsewhere is no news; a service that is gone has no endpoints."""
    source = FixedSource(observed(reading(WEB, service("api", 7))))
    resolver = make(source)
    watching = resolver.watch("web")
    assert next(watching) == WEB.endpoints
    source.say(observed(reading(WEB, service("api", 8))))
    resolver.refresh()
    source.say(observed(reading(service("web", 9), service("api", 8))))
    resolver.refresh()
    assert [e.host for e in next(watching)] == ["10.0.0.9"]
    source.say(observed(reading(service("api", 8))))
    resolver.refresh()
    assert next(watching) == ()


def test_watching_in_a_loop_gives_the_same(make: Make) -> None:
    """A slow reader gets the latest only."""
    source = FixedSource(observed(reading(WEB)))
    resolver = make(source)

    async def watch() -> list[Any]:
        seen = []
        watching = resolver.awatch("web")
        seen.append(await anext(watching))
        for number in (7, 8, 9):
            source.say(observed(reading(service("web", number))))
            await resolver.arefresh()
        seen.append(await anext(watching))
        await watching.aclose()  # type: ignore[attr-defined]  # it is an async generator
        return seen

    first, second = asyncio.run(watch())
    assert first == WEB.endpoints
    assert [e.host for e in second] == ["10.0.0.9"]


def test_watching_an_unknown_name_raises_at_once(make: Make) -> None:
    """As asking for its endpoints does."""
    with pytest.raises(UnknownService):
        next(make(NamingSource(WEB)).watch("nope"))


def test_watching_goes_on_through_errors_and_ends_with_the_resolver(make: Make) -> None:
    """Nothing new is nothing to yield."""
    source = FixedSource(observed(reading(WEB)))
    resolver = make(source)
    watching = resolver.watch("web")
    next(watching)
    source.say(failed(ERROR))
    with pytest.raises(SourceUnreachable):
        resolver.refresh()
    resolver.close()
    assert list(watching) == []


def test_watching_goes_on_when_data_becomes_too_old(make: Make) -> None:
    """What cannot be said any more is no news; the next good read is."""
    source, clock = FixedSource(observed(reading(WEB))), FakeClock()
    resolver = make(source, clock=clock, settings=Settings(stale_limit_s=60, interval_s=0.01))
    watching = resolver.watch("web")
    next(watching)
    clock.now = NOW + 3_600
    source.say(failed(ERROR))
    with pytest.raises(Expired):
        resolver.endpoints("web")
    healed = observed(reading(service("web", 9)), at=clock.now)
    healing = threading.Thread(target=source.say, args=(healed,))
    healing.start()
    assert [e.host for e in next(watching)] == ["10.0.0.9"]
    healing.join(10)


def test_a_watcher_that_blocks_does_not_hold_up_the_refresh(make: Make) -> None:
    """It finds the latest when it comes to look."""
    source = FixedSource(observed(reading(WEB)))
    resolver = make(source)
    began, blocked, seen = threading.Event(), threading.Event(), []

    def watch() -> None:
        for endpoints in resolver.watch("web"):
            seen.append([e.host for e in endpoints])
            began.set()
            assert blocked.wait(10)

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert began.wait(10)
    for number in range(3, 20):
        source.say(observed(reading(service("web", number))))
        resolver.refresh()
    blocked.set()
    resolver.close()
    watcher.join(10)
    assert seen[-1] == ["10.0.0.19"]
    assert len(seen) <= 3


def test_closing_ends_the_thread_and_keeps_what_is_known() -> None:
    """Memory answers still; what would need a load says that it is closed."""
    before = threading.active_count()
    source = HeldSource(observed(reading(WEB)))
    source.let_go.release(1_000)
    with Resolver(source=source, clock=FakeClock()) as resolver:
        resolver.endpoints("web")
    assert threading.active_count() == before
    assert source.closed
    assert resolver.endpoints("web") == WEB.endpoints
    assert repr(resolver) == "<Resolver HeldSource demo: closed>"
    resolver.close()


def test_closing_wakes_those_who_wait_for_a_load(make: Make) -> None:
    """They are told, and not left waiting."""
    source = HeldSource(observed(reading(WEB)))
    resolver = make(source)
    errors: list[NotReady] = []

    def ask() -> None:
        try:
            resolver.endpoints("web")
        except NotReady as error:
            errors.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    assert source.entered.acquire(timeout=10)
    resolver._refresher.abandon()
    resolver._bell.ring()
    asking.join(10)
    source.let_go.release()
    assert "closed" in str(errors[0])


def test_a_resolver_that_nobody_holds_any_more_ends_by_itself() -> None:
    """Forgetting to close one leaks no thread."""
    source = FixedSource(observed(reading(WEB)))
    resolver = Resolver(source=source, clock=FakeClock())
    resolver.endpoints("web")
    thread, gone = resolver._refresher._thread, weakref.ref(resolver)
    del resolver
    gc.collect()
    assert gone() is None
    assert thread is not None
    thread.join(10)
    assert not thread.is_alive()


def test_the_representation_tells_its_state(make: Make) -> None:
    """What a person would ask for first."""
    resolver = make(FixedSource(observed(reading(WEB), at=NOW - 1.5)))
    resolver.endpoints("web")
    assert repr(resolver) == "<Resolver FixedSource demo: 1 service, read 1.5 s ago>"


def test_it_works_as_an_asynchronous_context(make: Make) -> None:
    """`async with` closes it."""

    async def use() -> Resolver:
        async with make(FixedSource(observed(reading(WEB)))) as resolver:
            assert await resolver.aendpoints("web") == WEB.endpoints
            return resolver

    assert "closed" in repr(asyncio.run(use()))


def test_while_a_deployment_shifts_traffic_revisions_get_their_parts(make: Make) -> None:
    """However many tasks each has, and whatever the latency."""
    blue = tuple(endpoint(n, weight=10.0) for n in range(1, 9))
    green = endpoint(9, weight=20.0)
    placements = {str(e.task_arn): Placement(revision="1") for e in blue}
    placements[str(green.task_arn)] = Placement(revision="2")
    shifting = replace(WEB, endpoints=(*blue, green), placements=placements)
    resolver = make(FixedSource(observed(reading(shifting))))
    picked = []
    for _ in range(1_000):
        with resolver.lease("web") as leased:
            picked.append(leased.host)
        member = next(m for m in resolver.pools[0].members if m.endpoint == green)
        member.sample(1.0, resolver.monotonic())  # it is a slow one
    assert abs(picked.count(green.host) / len(picked) - 0.2) < 0.05

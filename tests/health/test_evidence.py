"""What follows from connecting to endpoints, and whom to connect to."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.health.assessment import SAMPLES, Assessment, assessed
from discovery.health.demotion import Demotions, adjusted
from discovery.health.evidence import (
    Evidence,
    Result,
    Rules,
    Seen,
    Sign,
    Subject,
    after_looks,
    seen_after,
    subject_of,
)
from discovery.model import (
    Cluster,
    Endpoint,
    Exclusion,
    Placement,
    Port,
    Service,
    Snapshot,
)
from tests.made import NOW, endpoint

RULES = Rules()
OLD = Placement(started_at=NOW - 3_600, agent_connected=True)
YOUNG = Placement(started_at=NOW - 5, agent_connected=True)
LOST = Placement(started_at=NOW - 3_600, agent_connected=False)
PLACED: dict[Sign, Placement] = {"young": YOUNG, "lost": LOST}


def at(number: int, machine: int | None = None, zone: str | None = None) -> Endpoint:
    """An endpoint on a host, by default of its own."""
    return endpoint(
        machine or number, port=32_768 + number, task_arn=f"arn:task/{number}", zone=zone
    )


def service(
    *endpoints: Endpoint, placed: Placement = OLD, name: str = "web", cluster: str = "demo"
) -> Service:
    """A service whose tasks are all placed so, each on the host that its address names."""
    placements = {str(e.task_arn): replace(placed, machine=e.host) for e in endpoints}
    port = Port(80)
    return Service(name, cluster, "service", endpoints, (), (port,), port, placements=placements)


def snapshot(
    *services: Service, read_at: float = NOW, denied_since: float | None = None
) -> Snapshot:
    """These services of one cluster, all read at that time."""
    return Snapshot(
        epoch=1,
        sequence=1,
        observed_at=read_at,
        clusters=(Cluster("demo", read_at, denied_since=denied_since),),
        services={s.key: s for s in services},
        read_at={s.key: read_at for s in services},
    )


def evidence(
    *seen: tuple[Endpoint, Result],
    doubted: tuple[Endpoint, ...] = (),
    times: int = 1,
    ago: float = 1,
) -> Evidence:
    """What connecting to endpoints showed, a second ago."""
    return Evidence(
        {subject_of(e): Seen(result, NOW - ago, times) for e, result in seen},
        {subject_of(e): NOW - ago for e in doubted},
    )


def offered(read: Snapshot, seen: Evidence, rules: Rules = RULES, key: str = "web") -> Service:
    """The service as it is offered."""
    found = assessed(read, seen, rules, NOW)
    return adjusted(read, found.verdicts).services["demo", key]


def looked_at(found: Assessment) -> list[str]:
    return [subject[0][0] for subject in (look.subject for look in found.looks)]


# sign, what was seen → whether another one of the service's endpoints serves alone, and the reason
VERDICTS: list[tuple[Sign, Result | None, bool, str]] = [
    ("young", None, True, "starting: it was not connected to yet"),
    ("young", "refused", True, "starting: it refuses connections"),
    ("young", "accepted", False, ""),
    ("young", "silent", False, "it is young and connecting to it fails: timed out"),
    ("doubted", None, False, ""),
    ("doubted", "refused", True, "it refuses connections"),
    ("doubted", "accepted", False, ""),
    ("doubted", "silent", False, ""),
    ("lost", None, False, "its host's agent is disconnected and it was not connected to yet"),
    ("lost", "refused", True, "its host's agent is disconnected and it refuses connections"),
    ("lost", "accepted", False, "its host's agent is disconnected and it accepts connections"),
    ("lost", "silent", True, "its host's agent is disconnected and connecting to it fails"),
    ("old", None, False, ""),
    ("old", "refused", True, "what is known of it is old and it refuses connections"),
    ("old", "accepted", False, ""),
    ("old", "silent", False, ""),
    ("denied", None, True, "reading it has not been permitted for too long"),
    ("denied", "refused", True, "reading it has not been permitted for too long"),
    ("denied", "accepted", False, ""),
    ("denied", "silent", True, "reading it has not been permitted for too long"),
]


@pytest.mark.parametrize(("sign", "result", "is_out", "reason"), VERDICTS)
def test_a_verdict_follows_from_the_reason_and_what_was_seen(
    sign: Sign, result: Result | None, is_out: bool, reason: str
) -> None:
    """Silence is weak, a refusal is strong, and nothing at all counts against the young only."""
    it, other = at(1), at(2)
    of = service(it, other)
    of = replace(of, placements={**of.placements, "arn:task/1": PLACED.get(sign, OLD)})
    read = snapshot(
        of,
        read_at=NOW - 100 if sign == "old" else NOW,
        denied_since=NOW - 4_000 if sign == "denied" else None,
    )
    seen: list[tuple[Endpoint, Result]] = [(other, "accepted")]
    if result is not None:
        seen.append((it, result))
    found = offered(read, evidence(*seen, doubted=(it,) if sign == "doubted" else ()))
    assert [e.task_arn for e in found.endpoints] == (
        ["arn:task/2"] if is_out else ["arn:task/1", "arn:task/2"]
    )
    said = [x.reason for x in found.exclusions] if is_out else [found.notes.get(it.identity, "")]
    assert said[0].startswith(reason)
    assert bool(said[0]) == bool(reason)


def test_without_the_boot_check_the_young_are_admitted_unseen() -> None:
    """And nobody connects to them."""
    read = snapshot(service(at(1), placed=YOUNG))
    rules = Rules(boot_check=False)
    assert not assessed(read, Evidence(), rules, NOW).looks
    assert offered(read, Evidence(), rules).endpoints[0].health == "unknown"


def test_a_health_check_that_passes_makes_connecting_needless() -> None:
    """It knows better than a connection does."""
    healthy = replace(at(1), health="healthy")
    assert not assessed(snapshot(service(healthy, placed=YOUNG)), Evidence(), RULES, NOW).looks


def test_udp_is_never_connected_to() -> None:
    """There is nothing to see."""
    udp = replace(at(1), protocol="udp")
    assert not assessed(snapshot(service(udp, placed=YOUNG)), Evidence(), RULES, NOW).looks


def test_one_that_refused_stays_out_until_it_accepts_however_old_it_gets() -> None:
    """A boot may take longer than youth lasts."""
    it, other = at(1), at(2)
    seen = evidence((it, "refused"), (other, "accepted"))
    assert [e.task_arn for e in offered(snapshot(service(it, other)), seen).endpoints] == [
        "arn:task/2"
    ]


def test_when_all_boot_one_that_drains_is_the_last_resort() -> None:
    """Who is being stopped still answers; who starts does not yet, and serves nobody so."""
    draining = replace(at(9), health="draining")
    of = replace(
        service(at(1), placed=YOUNG),
        spares=(draining,),
        exclusions=(Exclusion("arn:task/9", "it is being stopped", None, 80),),
    )
    found = offered(snapshot(of), evidence((at(1), "refused")))
    assert [(e.task_arn, e.health) for e in found.endpoints] == [("arn:task/9", "draining")]
    assert found.last_resort
    assert [x.reason for x in found.exclusions] == ["starting: it refuses connections"]


def test_when_all_boot_and_nobody_drains_they_are_the_last_resort() -> None:
    """By the time that somebody asks they may be up."""
    found = offered(snapshot(service(at(1), at(2), placed=YOUNG)), evidence((at(1), "refused")))
    assert [e.health for e in found.endpoints] == ["starting", "starting"]


def test_who_refuses_on_old_data_is_no_last_resort() -> None:
    """Somebody else may have the address by the next attempt."""
    read = snapshot(service(at(1)), read_at=NOW - 100)
    assert offered(read, evidence((at(1), "refused"))).endpoints == ()


def test_where_reading_is_denied_all_is_verified_at_once() -> None:
    """What is not permitted is not so by the next read either."""
    read = snapshot(service(at(1), at(2)), read_at=NOW - 5, denied_since=NOW - 1)
    assert looked_at(assessed(read, Evidence(), RULES, NOW)) == ["arn:task/1", "arn:task/2"]
    found = offered(read, evidence((at(1), "refused"), (at(2), "accepted")))
    assert [x.reason for x in found.exclusions] == [
        "reading it is not permitted and it refuses connections"
    ]


def refusal(of: Endpoint, *, ago: float, fell: bool = False) -> Evidence:
    """It refused so long ago, after it had accepted if it `fell`, and accepts by now."""
    seen = Seen("accepted", NOW, refused_at=NOW - ago, fell=fell)
    return Evidence({subject_of(of): seen, subject_of(at(2)): Seen("accepted", NOW)})


# how long ago it was read, when it refused, whether it had accepted before, when it was started
DOUBTFUL = [
    (3, 2, False, 3_600, True),
    (2, 3, False, 3_600, False),
    (3, 2, False, 10, False),  # it was booting
    (3, 2, True, 10, True),
]


@pytest.mark.parametrize(("read", "refused", "fell", "started", "is_out"), DOUBTFUL)
def test_who_accepts_after_a_refusal_may_be_another_one(
    read: float, refused: float, fell: bool, started: float, is_out: bool
) -> None:
    """Until it is read again, and but for a boot, which begins so."""
    of = service(at(1), at(2), placed=Placement(started_at=NOW - started, agent_connected=True))
    found = offered(snapshot(of, read_at=NOW - read), refusal(at(1), ago=refused, fell=fell))
    assert (
        [e.task_arn for e in found.endpoints] == ["arn:task/2"]
        if is_out
        else [
            "arn:task/1",
            "arn:task/2",
        ]
    )


@pytest.mark.parametrize("denied", [True, False])
def test_who_may_be_another_one_is_a_last_resort_unless_reading_is_denied(denied: bool) -> None:
    """An outage ends; without permission nobody may ever tell."""
    read = snapshot(service(at(1)), read_at=NOW - 300, denied_since=NOW - 200 if denied else None)
    found = offered(read, refusal(at(1), ago=100))
    assert [e.health for e in found.endpoints] == ([] if denied else ["unhealthy"])


def test_an_endpoint_without_its_address_leaves_its_port_to_the_spares() -> None:
    """The newer task's service keeps the address, and the other one is not empty."""
    draining = replace(at(9), health="draining")
    mine = replace(service(at(1)), spares=(draining,))
    theirs = service(replace(at(2), host=at(1).host, port=at(1).port), placed=YOUNG, name="api")
    found = adjusted(snapshot(mine, theirs), {}).services
    assert [e.task_arn for e in found["demo", "web"].endpoints] == ["arn:task/9"]
    assert [e.task_arn for e in found["demo", "api"].endpoints] == ["arn:task/2"]


def test_a_newer_task_has_the_address_though_it_does_not_serve_yet() -> None:
    """It is started there, so that nobody else is."""
    booting = replace(at(2), host=at(1).host, port=at(1).port, health="starting")
    theirs = service(booting, at(3), placed=YOUNG, name="api")
    theirs = replace(theirs, endpoints=(at(3),), spares=(booting,))
    found = adjusted(snapshot(service(at(1)), theirs), {}).services["demo", "web"]
    assert found.endpoints == ()
    assert [x.reason for x in found.exclusions] == [
        f"the newer task arn:task/2 has its address {at(1).authority}"
    ]


def test_spares_that_are_brought_back_keep_their_revision_s_share() -> None:
    """Three quarters for the one, though only spares are left."""
    blue, green = replace(at(1), weight=1.5), replace(at(2), weight=0.5)
    spares = tuple(replace(at(n), health="draining") for n in (3, 4, 5))
    of = replace(service(blue, green, placed=YOUNG), spares=spares)
    colours = ("blue", "green", "blue", "green", "green")
    revisions = {f"arn:task/{n}": colour for n, colour in enumerate(colours, 1)}
    of = replace(
        of,
        placements={arn: replace(YOUNG, machine=arn, revision=r) for arn, r in revisions.items()},
    )
    found = offered(snapshot(of), evidence((blue, "refused"), (green, "refused")))
    parts = {"blue": 0.0, "green": 0.0}
    for e in found.endpoints:
        parts[revisions[str(e.task_arn)]] += e.weight
    assert parts == pytest.approx({"blue": 1.5, "green": 0.5})


def test_a_reused_address_is_no_evidence_for_its_next_owner() -> None:
    """Nor is an old port for a task that was restarted in place."""
    seen = evidence((at(1), "accepted"))
    moved = replace(at(1), port=40_000)
    read = snapshot(service(moved, placed=YOUNG))
    assert looked_at(assessed(read, seen, RULES, NOW)) == ["arn:task/1"]
    assert offered(read, seen).endpoints[0].health == "starting"


# What a hundred tasks on one lost host cost.


def hundred(placed: Placement = OLD) -> tuple[list[Endpoint], Endpoint, Snapshot]:
    """A hundred tasks on one host, and one on another, which is well."""
    lost, other = [at(n, machine=200) for n in range(1, 101)], at(150, machine=201)
    others = [at(150 + n, machine=201) for n in range(30)]
    of = service(*lost, *others)
    well = {str(e.task_arn): replace(OLD, machine=e.host) for e in others}
    ill = {str(e.task_arn): replace(placed, machine=e.host) for e in lost}
    return lost, other, snapshot(replace(of, placements={**ill, **well}))


def test_of_a_host_whose_agent_is_gone_a_few_are_tried() -> None:
    """Not a hundred."""
    _, _, read = hundred(LOST)
    assert len(assessed(read, Evidence(), RULES, NOW).looks) == SAMPLES


def test_those_that_refuse_do_not_keep_others_of_their_host_from_being_verified() -> None:
    """Refusals are tried again every second; old data is verified beside them all the same."""
    gone = [at(n, machine=1) for n in range(SAMPLES)]
    other = at(9, machine=1)
    read = snapshot(service(*gone, other), read_at=NOW - 90)
    found = assessed(read, evidence(*((e, "refused") for e in gone)), RULES, NOW)
    assert other.task_arn in looked_at(found)


def test_a_few_silent_ones_condemn_their_host_and_one_is_tried_on() -> None:
    """A hundred tasks do not cost a hundred timeouts."""
    lost, other, read = hundred()
    seen = evidence(
        *[(e, "silent") for e in lost[:3]], (other, "accepted"), doubted=tuple(lost[:3])
    )
    found = offered(read, seen)
    assert {e.host for e in found.endpoints} == {"10.0.0.201"}
    assert {x.reason for x in found.exclusions} == {"its host does not answer from here"}
    looks = assessed(read, seen, RULES, NOW).looks
    assert sum(look.subject[1] == "10.0.0.200" for look in looks) == 1


def test_two_are_enough_where_the_agent_is_gone_too() -> None:
    """Two witnesses of different kinds."""
    lost, other, read = hundred(LOST)
    seen = evidence(*[(e, "silent") for e in lost[:2]], (other, "accepted"))
    assert {e.host for e in offered(read, seen).endpoints} == {"10.0.0.201"}


def test_one_answer_brings_a_host_back() -> None:
    """Whatever was silent before."""
    lost, other, read = hundred()
    doubted = tuple(lost[:3])
    seen = dict(evidence(*[(e, "silent") for e in lost[:3]], (other, "accepted")).seen)
    seen[subject_of(lost[0])] = seen_after(seen[subject_of(lost[0])], "accepted", NOW)
    found = offered(read, Evidence(seen, {subject_of(e): NOW for e in doubted}))
    assert len(found.endpoints) == 130


def test_silence_of_those_whom_nobody_missed_condemns_no_host() -> None:
    """A firewall is silent, too."""
    lost, other, _ = hundred()
    read = snapshot(service(*lost[:3], at(150, machine=201), placed=YOUNG))
    seen = evidence(*[(e, "silent") for e in lost[:3]], (other, "accepted"))
    assert len(offered(read, seen).endpoints) == 4


def test_silent_hosts_make_one_silence_enough_in_their_zone() -> None:
    """Then one endpoint a host is looked at, and one silence takes the host out."""
    inside = [at(n, machine=n % 10 + 1, zone="a") for n in range(100)]
    outside = [at(n + 100, machine=n % 10 + 20, zone="b") for n in range(100)]
    read = snapshot(service(*inside, *outside))
    first = [e for e in inside if e.host in ("10.0.0.1", "10.0.0.2")]
    doubted = tuple(first[:3] + first[-3:])
    doubted = tuple(
        e for h in ("10.0.0.1", "10.0.0.2") for e in [x for x in first if x.host == h][:3]
    )
    one = next(e for e in inside if e.host == "10.0.0.5")
    told: list[tuple[Endpoint, Result]] = [(e, "silent") for e in (*doubted, one)]
    seen = evidence(*told, (outside[0], "accepted"), doubted=doubted)
    found = offered(read, seen)
    assert {e.host for e in inside} - {e.host for e in found.endpoints} == {
        "10.0.0.1",
        "10.0.0.2",
        "10.0.0.5",
    }
    looks = assessed(read, seen, RULES, NOW).looks
    hosts = [look.subject[1] for look in looks]
    assert all(hosts.count(e.host) <= SAMPLES for e in inside)
    assert {e.host for e in inside} <= set(hosts)
    assert any("like others in a" in x.reason for x in found.exclusions)


def test_our_own_network_takes_nobody_out() -> None:
    """Where nothing of a service answers, all stay, and it is said."""
    all_of_it = [at(n) for n in range(1, 6)]
    read = snapshot(service(*all_of_it, placed=LOST))
    seen = evidence(*[(e, "silent") for e in all_of_it], times=5)
    found = offered(read, seen)
    assert len(found.endpoints) == 5
    assert all("kept, since hardly any" in note for note in found.notes.values())


def test_one_that_answers_beside_many_that_do_not_is_our_own_network_too() -> None:
    """It may be on this very host."""
    all_of_it = [at(n) for n in range(1, 11)]
    read = snapshot(service(*all_of_it, placed=LOST))
    seen = evidence(*[(e, "silent") for e in all_of_it[1:]], (all_of_it[0], "accepted"))
    assert len(offered(read, seen).endpoints) == 10


def test_others_of_the_service_are_asked_before_silence_counts() -> None:
    """As a proof that the network between is there."""
    lost, other = [at(n, machine=200) for n in range(1, 4)], at(9, machine=201)
    read = snapshot(service(*lost, other))
    seen = evidence(*[(e, "silent") for e in lost], doubted=tuple(lost))
    assert len(offered(read, seen).endpoints) == 4
    assert "arn:task/9" in looked_at(assessed(read, seen, RULES, NOW))


# Addresses that two tasks claim.


def claiming(number: int, started_at: float, name: str) -> Service:
    one = endpoint(1, name, task_arn=f"arn:task/{number}")
    placed = Placement(started_at=started_at)
    return replace(service(one, name=name), placements={f"arn:task/{number}": placed})


@pytest.mark.parametrize("order", [1, -1])
def test_the_task_that_started_later_has_the_address(order: int) -> None:
    """In whatever order and at whatever time the two services were read."""
    two = [claiming(1, NOW - 900, "old"), claiming(2, NOW - 800, "new")][::order]
    read = adjusted(snapshot(*two), {})
    assert read.services["demo", "old"].endpoints == ()
    assert [x.reason for x in read.services["demo", "old"].exclusions] == [
        "the newer task arn:task/2 has its address 10.0.0.1:32768"
    ]
    assert len(read.services["demo", "new"].endpoints) == 1


def test_clusters_may_have_the_same_addresses() -> None:
    """They may be in different networks."""
    there = replace(claiming(2, NOW, "new"), cluster="prod")
    read = adjusted(snapshot(claiming(1, NOW - 9, "old"), there), {})
    assert [len(s.endpoints) for s in read.services.values()] == [1, 1]


def test_services_that_nothing_is_said_of_stay_the_same_objects() -> None:
    """What is derived from them may be cached by identity."""
    read = snapshot(service(at(1)), service(at(2), name="api"))
    assert adjusted(read, {}).services["demo", "web"] is read.services["demo", "web"]


results = st.sampled_from(["accepted", "refused", "silent"])


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.booleans(), st.none() | results), min_size=1, max_size=30
    )
)
def test_nobody_is_lost_without_a_word(tasks: list[tuple[int, bool, Result | None]]) -> None:
    """Each endpoint that was read is offered, or excluded with a reason, never both."""
    endpoints = [at(n, machine=100 + machine) for n, (machine, _, _) in enumerate(tasks, 1)]
    of = service(*endpoints, placed=LOST)
    told = [(e, r) for e, (_, _, r) in zip(endpoints, tasks, strict=True) if r is not None]
    doubted = tuple(e for e, (_, d, _) in zip(endpoints, tasks, strict=True) if d)
    found = offered(snapshot(of), evidence(*told, doubted=doubted))
    inside = [e.task_arn for e in found.endpoints]
    outside = [x.task_arn for x in found.exclusions]
    assert sorted([*map(str, inside), *outside]) == sorted(of.placements)
    silent = [x for x in found.exclusions if "refuses" not in x.reason]
    assert not silent or any(not e.is_last_resort for e in found.endpoints)


STEPS = st.lists(
    st.tuples(st.integers(1, 6), results, st.booleans(), st.floats(0, 100)), min_size=1, max_size=12
)


@given(STEPS)
def test_to_judge_on_from_the_last_assessment_is_to_judge_anew(
    steps: list[tuple[int, Result, bool, float]],
) -> None:
    """Whatever is seen or doubted of whom, however time goes by."""
    young, old = service(at(1), at(2), at(3), placed=YOUNG), service(at(4), at(5), at(6), name="b")
    read, known, now, last = snapshot(young, old), Evidence(), NOW, Assessment()
    demotions = Demotions()
    for number, result, doubted, seconds in steps:
        now += seconds
        subject = subject_of(at(number))
        known = after_looks(known, {subject: (result, "")}, now)
        known = replace(known, doubted={**known.doubted, subject: now} if doubted else {})
        last, anew = assessed(read, known, RULES, now, last), assessed(read, known, RULES, now)
        assert (last.verdicts, last.looks) == (anew.verdicts, anew.looks)
        assert demotions.applied(read, last.verdicts) == adjusted(read, anew.verdicts)


def test_of_what_does_not_differ_nothing_is_judged_again() -> None:
    """So that news of one service cost what that one does."""
    one, other = service(at(1), placed=YOUNG), service(at(2), placed=YOUNG, name="api")
    read = snapshot(one, other)
    first = assessed(read, Evidence(), RULES, NOW)
    second = assessed(read, evidence((at(1), "accepted")), RULES, NOW, first)
    assert second.verdicts.keys() == {other.key}
    assert second.verdicts[other.key] is first.verdicts[other.key]


def test_subjects_are_hashable_and_small() -> None:
    """They are keys of all that is remembered."""
    subject: Subject = subject_of(at(1))
    assert subject == (("arn:task/1", None, 80, "tcp"), "10.0.0.1", 32_769)

"""What decisions by hand and tags make of what was read."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from discovery import documents
from discovery.model import Exclusion, Snapshot
from discovery.overrides.applied import TAG, Decisions, Enable
from discovery.overrides.rules import Overrides, Rule
from tests.made import NOW, endpoint
from tests.overrides.made import decided, hosts, reasons, service, snapshot

TASK = "arn:aws:ecs:eu-west-1:1:task/a/0f9d"
DEFINITION = "arn:aws:ecs:eu-west-1:1:task-definition/web:7"
FIRST = endpoint(1, zone="z1", task_arn=TASK, task_definition=DEFINITION)
SECOND = endpoint(2, zone="z2", task_definition=DEFINITION.replace(":7", ":8"))
WEB = service("web", FIRST, SECOND)
API = service("api", endpoint(1, "api", zone="z1"), endpoint(2, "api", zone="z2"))
READ = snapshot(WEB, API)


class TestWhom:
    """Which endpoints an entry speaks of."""

    @pytest.mark.parametrize(
        ("selecting", "left"),
        [
            (f'task = "{TASK}"', ["2"]),
            ('task = "0f9d"', ["2"]),
            ('task = "0f9"', ["1", "2"]),
            ('zone = "z2"', ["1"]),
            ('zone = "z3"', ["1", "2"]),
            (f'task_definition = "{DEFINITION}"', ["2"]),
            ('task_definition = "web:7"', ["2"]),
            ('task_definition = "web"', []),
            ('service = "web"', []),
            ('service = "WEB.A.ecs.internal"', []),
            ('service = "web.b"', ["1", "2"]),
            ('service = "web"\nzone = "z1"', ["2"]),
            ('service = "api"\nzone = "z1"', ["1", "2"]),
            ('zone = "z1"\ntask_definition = "web:8"', ["1", "2"]),
        ],
    )
    def test_all_that_is_said_has_to_be_true(self, selecting: str, left: list[str]) -> None:
        """Of a task, a zone, a service, a task definition, and of any of them together."""
        assert hosts(decided(READ, f"[[exclude]]\n{selecting}"), "web") == left

    def test_an_endpoint_without_a_task_goes_by_its_address(self) -> None:
        """As those of a static file."""
        read = snapshot(service("web", endpoint(1, task_arn=None), endpoint(2, task_arn=None)))
        it = decided(read, '[[exclude]]\ntask = "10.0.0.1:32768"')
        assert hosts(it, "web") == ["2"]
        assert reasons(it, "web")[0][0] == "10.0.0.1:32768"


class TestExclude:
    """Out by hand."""

    def test_the_reason_says_until_when_and_why(self) -> None:
        """In the words that `explain` shows."""
        text = '[[exclude]]\ntask = "0f9d"\nuntil = 2030-01-01T00:00:00Z\nreason = "leaks"'
        it = decided(READ, text)
        assert reasons(it, "web") == [
            (TASK, "excluded by hand until 2030-01-01T00:00:00Z: leaks"),
        ]
        tasks = documents.explanation(it.services["a", "web"])["tasks"]
        assert [t["verdict"] for t in tasks] == ["kept", "excluded"]

    def test_it_ends_by_itself(self) -> None:
        """At the second that was said."""
        end = datetime.fromtimestamp(NOW + 60, UTC).isoformat()
        text = f'[[exclude]]\ntask = "0f9d"\nuntil = {end}'
        assert hosts(decided(READ, text, now=NOW + 59.9), "web") == ["2"]
        assert decided(READ, text, now=NOW + 60) is READ

    def test_it_is_obeyed_to_the_last(self) -> None:
        """The service stays known, with nothing to call."""
        it = decided(READ, '[[exclude]]\nservice = "web"')
        assert hosts(it, "web") == []
        assert len(reasons(it, "web")) == 2

    def test_what_runs_and_does_not_serve_is_then_the_last_resort(self) -> None:
        """As wherever nothing serves; unless it is excluded, too."""
        spare = endpoint(3, zone="z3", health="unhealthy")
        unwell = Exclusion("arn:task/3", "unwell", None, 80)
        web = service("web", FIRST, SECOND, spares=(spare,), exclusions=(unwell,))
        both = '[[exclude]]\nzone = "z1"\n[[exclude]]\nzone = "z2"\n'
        it = decided(snapshot(web), both)
        assert hosts(it, "web") == ["3"]
        assert [task for task, _ in reasons(it, "web")] == [TASK, "arn:task/2"]
        assert hosts(decided(snapshot(web), both + '[[exclude]]\nzone = "z3"'), "web") == []
        assert hosts(decided(snapshot(web), '[[exclude]]\nzone = "z1"'), "web") == ["2"]

    def test_what_was_excluded_before_stays_so(self) -> None:
        """With the reason that it had."""
        web = service("web", FIRST, exclusions=(Exclusion("arn:task/9", "starting"),))
        it = decided(snapshot(web), '[[exclude]]\ntask = "0f9d"\nreason = "x"')
        assert reasons(it, "web")[0] == ("arn:task/9", "starting")


class TestEvacuate:
    """A zone that is in trouble."""

    def test_its_endpoints_leave(self) -> None:
        """Of every service, each with the reason."""
        it = decided(READ, '[[evacuate]]\nzone = "z1"\nreason = "power"')
        assert (hosts(it, "web"), hosts(it, "api")) == (["2"], ["2"])
        assert reasons(it, "web") == [(TASK, "zone z1 evacuated by hand for ever: power")]

    def test_one_service_may_be_meant(self) -> None:
        """The others stay."""
        it = decided(READ, '[[evacuate]]\nzone = "z1"\nservice = "api"')
        assert it.services["a", "web"] is WEB
        assert hosts(it, "api") == ["2"]

    def test_whoever_has_nothing_elsewhere_stays_and_it_is_said(self) -> None:
        """A zone's trouble is less than none at all."""
        alone = service("web", FIRST)
        it = decided(snapshot(alone), '[[evacuate]]\nzone = "z1"').services["a", "web"]
        assert it.endpoints == alone.endpoints
        assert "evacuated by hand for ever; kept" in it.notes[FIRST.identity]

    def test_each_port_is_looked_at_by_itself(self) -> None:
        """Another port in another zone is no replacement."""
        admin = endpoint(3, zone="z2", container_port=9_000, container="admin")
        it = decided(snapshot(service("web", FIRST, admin)), '[[evacuate]]\nzone = "z1"')
        assert hosts(it, "web") == ["1", "3"]

    def test_the_unwell_are_no_replacement(self) -> None:
        """Better in a zone in trouble than starting."""
        starting = endpoint(2, zone="z2", health="starting")
        it = decided(snapshot(service("web", FIRST, starting)), '[[evacuate]]\nzone = "z1"')
        assert hosts(it, "web") == ["1", "2"]

    def test_of_all_zones_the_last_stays(self) -> None:
        """In the order in which they were written."""
        it = decided(READ, '[[evacuate]]\nzone = "z1"\n[[evacuate]]\nzone = "z2"')
        assert hosts(it, "web") == ["2"]


class TestWeight:
    """More or less of the traffic."""

    def test_weights_are_multiplied(self) -> None:
        """What tags say still counts, and so does every entry that is true."""
        heavy = service("web", endpoint(1, zone="z1", weight=3.0), SECOND)
        text = '[[weight]]\nzone = "z1"\nweight = 0.5\n[[weight]]\nservice = "web"\nweight = 0.1'
        it = decided(snapshot(heavy), text).services["a", "web"]
        assert [e.weight for e in it.endpoints] == pytest.approx([0.15, 0.1])

    def test_a_weight_of_one_changes_nothing(self) -> None:
        """Not even the object."""
        assert decided(READ, '[[weight]]\nservice = "web"\nweight = 1') is READ


class TestTags:
    """Opting in and out."""

    @pytest.mark.parametrize(
        ("enable", "tag", "there"),
        [
            ("all", None, True),
            ("all", "true", True),
            ("all", "False", False),
            ("all", "no", False),
            ("all", "what", True),
            ("tagged", None, False),
            ("tagged", "TRUE", True),
            ("tagged", "1", True),
            ("tagged", "false", False),
            ("tagged", "what", False),
        ],
    )
    def test_who_is_there(self, enable: Enable, tag: str | None, there: bool) -> None:
        """By the tag of the service, as the labels of its endpoints have it."""
        labels = {} if tag is None else {TAG: tag}
        it = decided(snapshot(service("web", endpoint(1, labels=labels))), enable=enable)
        assert bool(hosts(it, "web")) == there
        assert all(TAG in reason for _, reason in reasons(it, "web"))
        assert bool(reasons(it, "web")) != there


def test_what_nothing_touches_stays_the_same_object() -> None:
    """The snapshot where nothing is decided, else the other services."""
    assert decided(READ) is READ
    assert decided(READ, '[[exclude]]\ntask = "nobody"') is READ
    assert decided(READ, '[[exclude]]\nservice = "web"').services["a", "api"] is API


def test_before_there_is_a_cluster_nothing_is_decided() -> None:
    """Names mean nothing yet."""
    empty = Snapshot()
    assert decided(empty, '[[exclude]]\nservice = "web"') is empty


def test_what_was_worked_out_is_kept_while_it_holds() -> None:
    """Per service, as long as it is read as the same object and the same rules are in force."""
    rules = (Rule("exclude", NOW + 60, zone="z1"),)
    it = Decisions(Overrides(rules), "all", "ecs.internal")
    first = it.applied(READ, NOW)
    changed = replace(READ, services={**READ.services, API.key: service("api", SECOND)})
    second = it.applied(changed, NOW)
    assert second.services["a", "web"] is first.services["a", "web"]
    assert hosts(second, "api") == ["2"]
    assert it.applied(changed, NOW + 60) is changed

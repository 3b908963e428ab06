"""Names that stand for other services."""

from dataclasses import replace

import pytest

from discovery import names
from discovery.model import Exclusion, Port
from tests.made import NOW, endpoint
from tests.overrides.made import decided, hosts, reasons, service, snapshot

HERE = service("pay", endpoint(1, "pay"), endpoint(2, "pay"))
THERE = service("pay", endpoint(3, "pay", cluster="b"), cluster="b")
NOBODY = service("pay", exclusions=(Exclusion("arn:task/9", "its health check fails"),))
UNWELL = service("pay", endpoint(4, "pay", health="unhealthy"))
FAILOVER = '[[alias]]\nname = "payments"\nfailover = ["pay.a", "pay.b"]'
PARTS = '[[alias]]\nname = "payments"\nweights = { "pay.a" = 3, "pay.b" = 1 }'


class TestFailover:
    """The first that can be called."""

    def test_the_first_is_used_while_it_serves(self) -> None:
        """All of it, and nothing of the second."""
        assert hosts(decided(snapshot(HERE, THERE), FAILOVER), "payments") == ["1", "2"]

    @pytest.mark.parametrize("first", [NOBODY, UNWELL])
    def test_the_second_is_used_where_the_first_does_not_serve(self, first: object) -> None:
        """It has nothing, or nothing that is well; why is told."""
        it = decided(snapshot(first, THERE), FAILOVER)  # type: ignore[arg-type]
        assert hosts(it, "payments") == ["3"]

    def test_why_it_failed_over_is_told(self) -> None:
        """The first one's exclusions are the alias' own."""
        it = decided(snapshot(NOBODY, THERE), FAILOVER)
        assert reasons(it, "payments") == [("arn:task/9", "its health check fails")]

    def test_unwell_is_better_than_nothing(self) -> None:
        """The first that has anything, where nobody is well."""
        empty = service("pay", cluster="b")
        assert hosts(decided(snapshot(UNWELL, empty), FAILOVER), "payments") == ["4"]
        assert hosts(decided(snapshot(NOBODY, empty), FAILOVER), "payments") == []

    def test_what_is_too_old_to_be_served_is_passed_over(self) -> None:
        """And the age of the alias is that of what it leads to."""
        read = snapshot(HERE, THERE)
        read = replace(read, read_at={**read.read_at, HERE.key: NOW - read.stale_limit_s - 1})
        it = decided(read, FAILOVER)
        assert hosts(it, "payments") == ["3"]
        assert not it.is_expired(it.services["a", "payments"], NOW)

    def test_deciding_by_hand_moves_it(self) -> None:
        """Aliases stand for services as the rules left them."""
        it = decided(snapshot(HERE, THERE), f'[[exclude]]\nservice = "pay.a"\n{FAILOVER}')
        assert hosts(it, "payments") == ["3"]

    def test_a_service_may_fail_over_under_its_own_name(self) -> None:
        """The alias wins, and leads to the service that it hides."""
        text = FAILOVER.replace("payments", "pay")
        assert hosts(decided(snapshot(HERE, THERE), text), "pay") == ["1", "2"]
        assert hosts(decided(snapshot(NOBODY, THERE), text), "pay") == ["3"]

    def test_in_a_cluster_that_there_is_not_it_is_not_made(self) -> None:
        """Least of all in another one."""
        text = FAILOVER.replace("payments", "payments.nowhere")
        assert decided(snapshot(HERE, THERE), text).services.keys() == {HERE.key, THERE.key}


class TestParts:
    """Several at once."""

    def test_each_gets_its_part_however_many_tasks_it_has(self) -> None:
        """Three quarters over two tasks, one quarter over one."""
        it = decided(snapshot(HERE, THERE), PARTS).services["a", "payments"]
        weights = [e.weight for e in it.endpoints]
        assert weights == pytest.approx([9 / 8, 9 / 8, 3 / 4])
        assert sum(weights) == pytest.approx(3)

    def test_a_task_with_two_ports_counts_once(self) -> None:
        """Or its service would get half of its part."""
        second = replace(THERE.endpoints[0], container_port=9_000, port=32_769)
        two = replace(THERE, endpoints=(*THERE.endpoints, second))
        it = decided(snapshot(HERE, two), PARTS).services["a", "payments"]
        assert [e.weight for e in it.endpoints] == pytest.approx([9 / 8, 9 / 8, 3 / 4, 3 / 4])

    def test_weights_within_a_service_still_count(self) -> None:
        """Twice as much for one of two."""
        heavy = replace(HERE, endpoints=(replace(HERE.endpoints[0], weight=2.0), HERE.endpoints[1]))
        first, second, _ = (
            decided(snapshot(heavy, THERE), PARTS).services["a", "payments"].endpoints
        )
        assert first.weight == pytest.approx(2 * second.weight)

    def test_what_has_nothing_leaves_its_part(self) -> None:
        """To the others."""
        it = decided(snapshot(NOBODY, THERE), PARTS)
        assert [e.weight for e in it.services["a", "payments"].endpoints] == [1.0]

    def test_each_keeps_its_own_default_port(self) -> None:
        """A plain name leads to what each one means by default."""
        other = replace(
            THERE,
            endpoints=tuple(
                replace(THERE.endpoints[0], container_port=p, port=p, task_definition="pay-b:1")
                for p in (8_080, 80)
            ),
            ports=(Port(8_080), Port(80)),
            default_port=Port(8_080),
        )
        it = decided(snapshot(HERE, other), PARTS)
        name, found = names.find(it, "payments")
        assert [e.container_port for e in names.endpoints_at(found, name)] == [80, 80, 8_080]


class TestWhatIsThere:
    """Targets that are not known."""

    def test_one_that_is_not_there_is_told(self) -> None:
        """The others serve."""
        it = decided(snapshot(HERE), FAILOVER.replace("pay.a", "gone").replace("pay.b", "pay"))
        assert hosts(it, "payments") == ["1", "2"]
        assert reasons(it, "payments") == [("gone", "a has no such service")]

    def test_one_that_could_not_be_read_is_told(self) -> None:
        """It may be there: that is another answer than that it is not."""
        it = decided(snapshot(HERE, error="no answer"), FAILOVER)
        assert reasons(it, "payments") == [("pay.b", "it could not be read: no answer")]

    def test_an_alias_for_nothing_known_is_no_name(self) -> None:
        """It is not known to be empty."""
        assert ("a", "payments") not in decided(snapshot(), FAILOVER).services

    def test_aliases_do_not_stand_for_aliases(self) -> None:
        """So that there is no circle."""
        text = f'{FAILOVER}\n[[alias]]\nname = "more"\nfailover = ["payments"]'
        it = decided(snapshot(HERE, THERE), text)
        assert ("a", "more") not in it.services

    def test_a_name_that_means_two_services_is_told(self) -> None:
        """Names that differ in case only."""
        twice = replace(HERE, name="Pay")
        it = decided(snapshot(HERE, twice, THERE), FAILOVER.replace("pay.a", "PAY"))
        assert hosts(it, "payments") == ["3"]
        assert "differ in case only" in reasons(it, "payments")[0][1]


def test_it_is_as_old_as_the_oldest_that_it_goes_by() -> None:
    """Stale as soon as one of them is."""
    old = replace(snapshot(HERE, THERE), read_at={HERE.key: NOW - 50, THERE.key: NOW})
    it = decided(old, FAILOVER)
    assert it.age_s(it.services["a", "payments"], NOW) == 50


def test_an_alias_may_be_a_name_of_another_cluster() -> None:
    """As any name is."""
    it = decided(snapshot(HERE, THERE), FAILOVER.replace('"payments"', '"payments.b"'))
    assert hosts(it, "payments", "b") == ["1", "2"]

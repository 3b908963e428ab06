"""The index of addresses follows snapshots."""

from discovery.dns.hosts import Hosts, addresses_of
from discovery.model import Endpoint, Service
from tests.dns.world import BILLING, COLD, ORDERS, PAY


def test_every_address_of_an_interface_counts() -> None:
    """IPv6 beside IPv4, in canonical text."""
    assert addresses_of(PAY) == {"10.0.5.1", "10.0.5.2", "2001:db8::2", "2001:db8::3"}
    mixed = Service("mixed", "prod", endpoints=(Endpoint("2001:DB8:0::1", 80),))
    assert addresses_of(mixed) == {"2001:db8::1"}


def test_services_come_go_and_move() -> None:
    """After each change an address has exactly the services that are there."""
    hosts = Hosts()
    hosts.follow((ORDERS, COLD, PAY))
    assert set(map(id, hosts.at("10.0.1.10"))) == {id(ORDERS), id(COLD)}
    moved = Service("orders", "prod", endpoints=BILLING.endpoints)
    hosts.follow((moved, PAY))
    assert hosts.at("10.0.1.10") == ()
    assert hosts.at("10.9.0.1") == (moved,)
    assert hosts.at("10.0.5.1") == (PAY,)
    hosts.follow(())
    assert not any(hosts.at(a) for a in ("10.0.1.10", "10.9.0.1", "10.0.5.1", "2001:db8::2"))


def test_following_is_the_same_as_starting_anew() -> None:
    """Whatever the order of snapshots."""
    worlds = [(ORDERS,), (ORDERS, COLD, BILLING), (PAY, COLD), (), (BILLING, PAY, ORDERS)]
    followed = Hosts()
    for services in worlds:
        followed.follow(services)
        fresh = Hosts()
        fresh.follow(services)
        for address in {a for s in (ORDERS, COLD, PAY, BILLING) for a in addresses_of(s)}:
            assert set(map(id, followed.at(address))) == set(map(id, fresh.at(address)))

"""What programs are tried before: services of the local ECS, and a sidecar that knows them."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from discovery.local.server import LocalECS
from discovery.settings import Settings
from discovery.sidecar.supervisor import Sidecar
from discovery.written import Address, ClusterSettings, Upstream
from tests.peers.fleet import Fleet
from tests.peers.programs import until

ANY = Address("127.0.0.1", 0)
API_PORT = 8_080
SETTINGS = Settings(
    clusters=(ClusterSettings("demo"),),
    dns=ANY,
    http=ANY,
    upstreams=(Upstream("web", ANY),),
    interval_s=0.5,
    ttl_s=1,
)


@dataclass(frozen=True, slots=True)
class Stage:
    """A sidecar and two services that it knows: `web` with dynamic ports, `api` with addresses."""

    sidecar: Sidecar
    web: Fleet
    api: Fleet

    @property
    def ports(self) -> Mapping[str, int]:
        """What to write where the examples have these ports."""
        return {
            "8053": self.sidecar.http_address.port,
            "1053": self.sidecar.dns_address.port,
            "9001": self.sidecar.upstream_addresses[0].port,
        }


@contextmanager
def staged(*, web: Sequence[str], api: Sequence[str]) -> Iterator[Stage]:
    """The services, of tasks that run these programs, and a sidecar that looks often."""
    before = sys.getswitchinterval()
    with ExitStack() as stack:
        ecs = stack.enter_context(LocalECS(listen="127.0.0.1:0"))
        ecs.add_cluster("demo")
        ecs.add_instances("demo", 3)
        fleets = Fleet(ecs, web, "web"), Fleet(ecs, api, "api", API_PORT)
        for fleet in fleets:
            stack.callback(fleet.close)
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in ecs.environment().items():
            patch.setenv(name, value)
        stack.callback(sys.setswitchinterval, before)
        sidecar = stack.enter_context(Sidecar(SETTINGS))
        assert until(lambda: not sidecar.missing()), sidecar.missing()
        yield Stage(sidecar, *fleets)

"""gRPC over a service's endpoints: python examples/grpc_targets.py CLUSTER SERVICE

gRPC takes a list of addresses as one target, and balances over it by itself:

    grpc.insecure_channel(target(resolver.endpoints("orders")),
                          options=[("grpc.lb_policy_name", "round_robin")])

Such a list is fixed: make a new channel when the endpoints change (`watch` below says when), or
point the channel at a listener of the sidecar (`serve --upstream orders=127.0.0.1:9001`), which
follows changes by itself.
"""

import sys
from collections.abc import Iterable

from discovery import DiscoveryError, Endpoint, Resolver


def target(endpoints: Iterable[Endpoint]) -> str:
    """The endpoints as a target of gRPC: `ipv4:10.0.0.1:50051,10.0.0.2:50051`."""
    known = list(endpoints)
    scheme = "ipv6" if any(":" in e.host for e in known) else "ipv4"
    same = [e.authority for e in known if (":" in e.host) == (scheme == "ipv6")]
    return f"{scheme}:{','.join(same)}"


def main(cluster: str, service: str) -> int:
    """Print the target, once."""
    with Resolver(cluster=cluster) as resolver:
        try:
            for endpoints in resolver.watch(service):
                print(target(endpoints))
                break
        except DiscoveryError as error:
            print(error.message, file=sys.stderr)
            return error.exit_code
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2]))

"""Call a service with requests: python examples/requests_adapter.py CLUSTER SERVICE

Needs `pip install requests`.

session = requests.Session()
session.mount("http://orders/", DiscoveryAdapter(resolver))
session.get("http://orders/health", timeout=2)
"""

import sys
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from discovery import DiscoveryError, Resolver


class DiscoveryAdapter(HTTPAdapter):
    """Sends each request to an endpoint of the service that the URL names.

    Endpoints are balanced, and ejected when they fail. Without a retry: that is the session's.
    """

    def __init__(self, resolver: Resolver, **options: Any) -> None:
        super().__init__(**options)
        self._resolver = resolver

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> Any:
        """See `requests.adapters.HTTPAdapter`."""
        scheme, _, rest = str(request.url).partition("://")
        authority, slash, path = rest.partition("/")
        lease = self._resolver.lease(authority)
        with lease as endpoint:
            request.headers.setdefault("Host", authority)
            request.url = f"{scheme}://{endpoint.authority}{slash}{path}"
            response = super().send(request, *args, **options)
            lease.answered(response.status_code)
        return response


def main(cluster: str, service: str) -> int:
    """Call the service a few times."""
    with Resolver(cluster=cluster) as resolver, requests.Session() as session:
        session.mount(f"http://{service}/", DiscoveryAdapter(resolver))
        try:
            for _ in range(4):
                answer = session.get(f"http://{service}/", timeout=2)
                print(f"{answer.status_code} from {answer.url}")
        except DiscoveryError as error:
            print(error.message, file=sys.stderr)
            return error.exit_code
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2]))

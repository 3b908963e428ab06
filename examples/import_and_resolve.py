"""Find a service from application code: python examples/import_and_resolve.py CLUSTER SERVICE

Against the demo, in a second terminal:

    export AWS_ENDPOINT_URL=http://127.0.0.1:8054 AWS_REGION=us-east-1
    export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local
    .venv/bin/python examples/import_and_resolve.py demo web
"""

import sys
import urllib.request

from discovery import DiscoveryError, Resolver


def main(cluster: str, service: str) -> int:
    """Print the service's endpoints, then call one of them."""
    with Resolver(cluster=cluster) as resolver:
        try:
            endpoints = resolver.endpoints(service)  # the first call reads ECS, later ones memory
            for endpoint in endpoints:
                print(f"{endpoint.host}:{endpoint.port}  {endpoint.health}  {endpoint.zone}")
            picked = resolver.pick(service)
        except DiscoveryError as error:
            print(error.message, file=sys.stderr)
            return error.exit_code
    if picked.url is None:
        return 0
    with urllib.request.urlopen(f"{picked.url}/", timeout=5) as answer:
        print(f"GET {picked.url}/ -> {answer.status}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2]))

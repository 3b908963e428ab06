"""Traefik's http provider: a load balancer for each name, to be used as `NAME@http` in routers.

Weights are written where they differ. Traefik refuses a configuration with an empty map in it, so
that nothing is said where there is nothing.
"""

from collections.abc import Iterable

from discovery.documents import Document
from discovery.model import Endpoint, Service
from discovery.sidecar.adapters.offers import Offer, offers, weights


def configuration(services: Iterable[Service]) -> Document:
    """The body of `/sd/traefik`: dynamic configuration with services for HTTP."""
    found = {offer.name: _balancer(offer) for service in services for offer in offers(service)}
    return {"http": {"services": found}} if found else {}


def _balancer(offer: Offer) -> Document:
    servers: list[Document] = [{"url": _url(offer, e)} for e in offer.endpoints]
    for server, weight in zip(servers, weights(offer.endpoints) or (), strict=False):
        server["weight"] = weight
    return {"loadBalancer": {"servers": servers}}


def _url(offer: Offer, endpoint: Endpoint) -> str | None:
    return f"h2c://{endpoint.authority}" if offer.is_grpc else endpoint.url

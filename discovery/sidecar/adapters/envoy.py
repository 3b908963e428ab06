"""Envoy's xDS over REST, version 3: what clusters there are (CDS) and what is in each (EDS).

Rule 1: a version is a digest of what it is the version of. An Envoy that says it is told that
nothing changed (304); changes elsewhere make no new version of a cluster.
Rule 2: what we know nothing of is left out, which leaves Envoy with what it has; a known service
without endpoints is said to be empty.
Rule 3: health is said as it is. Where nothing is healthy Envoy panics and uses all, which is our
last resort. What has a weight of 0 is draining: Envoy knows no such weight.

Sources: xDS REST-JSON polling subscriptions; envoy.config.cluster.v3.Cluster,
envoy.config.endpoint.v3.ClusterLoadAssignment, envoy.service.discovery.v3.DiscoveryRequest.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import msgspec

from discovery.documents import Document
from discovery.errors import BadInput
from discovery.model import Endpoint, Health
from discovery.sidecar.adapters.arns import region_of
from discovery.sidecar.adapters.offers import Offer, integer_weight

_TYPE = "type.googleapis.com/envoy"
CLUSTER = f"{_TYPE}.config.cluster.v3.Cluster"
ASSIGNMENT = f"{_TYPE}.config.endpoint.v3.ClusterLoadAssignment"
_TLS = f"{_TYPE}.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_HTTP = f"type.googleapis.com/{_OPTIONS}"
REFRESH_S = 2  # Envoy waits this long and up to as long again at random
CONNECT_S = 0.5
_HEALTH: Mapping[Health, str] = {
    "healthy": "HEALTHY",
    "unknown": "UNKNOWN",  # which to Envoy is healthy
    "starting": "DEGRADED",
    "unhealthy": "UNHEALTHY",
    "draining": "DRAINING",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A DiscoveryRequest: which resources, all where none is named, and which version is there."""

    names: tuple[str, ...]
    version: str


@dataclass(frozen=True, slots=True)
class Response:
    """A DiscoveryResponse as it is sent, and its version."""

    version: str
    body: bytes


def asked(body: bytes) -> Asked:
    """What a DiscoveryRequest asks for. Raises `BadInput`.

    Members may be named as in the protocol's files or as JSON names them (lowerCamelCase).
    """
    try:
        request: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as why:
        raise BadInput(f"the body is no JSON: {why}") from why
    if not isinstance(request, dict):
        raise BadInput("the body is no DiscoveryRequest: want a JSON object")
    names = _member(request, "resource_names", "resourceNames", [])
    version = _member(request, "version_info", "versionInfo", "")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadInput("resource_names: want a list of strings")
    if not isinstance(version, str):
        raise BadInput("version_info: want a string")
    return Asked(tuple(names), version)


def response(kind: str, resources: Sequence[Document]) -> Response:
    """The answer that says these resources of one kind; its nonce is its version."""
    version = hashlib.blake2b(msgspec.json.encode(resources), digest_size=8).hexdigest()
    typed = [{"@type": kind} | resource for resource in resources]
    body = {"version_info": version, "type_url": kind, "nonce": version, "resources": typed}
    return Response(version, msgspec.json.encode(body) + b"\n")


def cluster(offer: Offer, xds: str) -> Document:
    """A cluster whose endpoints are asked for of the cluster `xds`, which leads to us."""
    source = {
        "api_type": "REST",
        "transport_api_version": "V3",
        "cluster_names": [xds],
        "refresh_delay": f"{REFRESH_S}s",
    }
    eds = {"resource_api_version": "V3", "api_config_source": source}
    found: Document = {
        "name": offer.name,
        "type": "EDS",
        "connect_timeout": f"{CONNECT_S}s",
        "eds_cluster_config": {"eds_config": eds},
    }
    if offer.is_grpc:
        http2: Document = {"explicit_http_config": {"http2_protocol_options": {}}}
        found["typed_extension_protocol_options"] = {_OPTIONS: {"@type": _HTTP} | http2}
    if offer.is_secure:
        found["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {"@type": _TLS},
        }
    return found


def assignment(name: str, endpoints: Iterable[Endpoint]) -> Document:
    """Where a cluster's endpoints are, by locality."""
    by_place = sorted((_place(endpoint), n, endpoint) for n, endpoint in enumerate(endpoints))
    localities = [
        {
            "locality": dict(place),
            "lb_endpoints": [_endpoint(endpoint) for _, _, endpoint in several],
        }
        for place, several in groupby(by_place, lambda found: found[0])
    ]
    return {"cluster_name": name, "endpoints": localities}


def _endpoint(value: Endpoint) -> Document:
    address = {"address": value.host, "port_value": value.port}
    weight = integer_weight(value.weight)
    return {
        "endpoint": {"address": {"socket_address": address}},
        "health_status": _HEALTH[value.health] if weight else "DRAINING",
        "load_balancing_weight": max(weight, 1),
    }


def _place(endpoint: Endpoint) -> tuple[tuple[str, str], ...]:
    known = (("region", region_of(endpoint)), ("zone", endpoint.zone))
    return tuple((name, value) for name, value in known if value)


def _member(request: Mapping[str, Any], name: str, other: str, default: object) -> object:
    value = request.get(name, request.get(other))
    return default if value is None else value  # null is the default in protocol buffers' JSON

"""Service discovery and load balancing on AWS ECS: service names to host IPs and mapped ports."""

import importlib
import logging
import typing

from discovery.balancing.latency import Latency
from discovery.balancing.least_request import LeastRequest
from discovery.balancing.member import Member
from discovery.balancing.policy import Policy
from discovery.balancing.pool import Balancing
from discovery.balancing.random import WeightedRandom
from discovery.balancing.ring import Ring
from discovery.balancing.round_robin import RoundRobin
from discovery.client.attempts import Retrying
from discovery.client.lease import Lease
from discovery.client.pace import Hedging
from discovery.client.resolver import Resolver
from discovery.errors import (
    AccessDenied,
    AddressUnusable,
    AmbiguousPort,
    AttemptsFailed,
    BadInput,
    BadName,
    BadSetting,
    ClusterNotFound,
    CredentialsExpired,
    CredentialsMissing,
    DeadlinePassed,
    DiscoveryError,
    Expired,
    ForeignHost,
    MethodNotAllowed,
    NoEndpoints,
    NotReady,
    RegionMissing,
    SourceError,
    SourceMalformed,
    SourceThrottled,
    SourceUnreachable,
    Unauthorized,
    UnknownName,
    UnknownPath,
    UnknownPort,
    UnknownService,
)
from discovery.events import (
    Attempted,
    BudgetWaited,
    CallMade,
    Event,
    Listener,
    Listeners,
    Noticed,
    Published,
    QueryDropped,
    Refreshed,
    RefreshFailed,
    Throttled,
)
from discovery.health.ejection import Limits
from discovery.model import (
    Cluster,
    ClusterReading,
    Endpoint,
    Exclusion,
    Observation,
    Port,
    Service,
    Snapshot,
)
from discovery.settings import Settings
from discovery.sources.base import FixedSource, Source, Wanted
from discovery.written import Address, ClusterSettings

if typing.TYPE_CHECKING:
    from discovery.client.transports import AsyncDiscoveryTransport, DiscoveryTransport
    from discovery.tracing import Spans

__version__ = "0.1.0"

__all__ = [
    "AccessDenied",
    "Address",
    "AddressUnusable",
    "AmbiguousPort",
    "AsyncDiscoveryTransport",
    "Attempted",
    "AttemptsFailed",
    "BadInput",
    "BadName",
    "BadSetting",
    "Balancing",
    "BudgetWaited",
    "CallMade",
    "Cluster",
    "ClusterNotFound",
    "ClusterReading",
    "ClusterSettings",
    "CredentialsExpired",
    "CredentialsMissing",
    "DeadlinePassed",
    "DiscoveryError",
    "DiscoveryTransport",
    "Endpoint",
    "Event",
    "Exclusion",
    "Expired",
    "FixedSource",
    "ForeignHost",
    "Hedging",
    "Latency",
    "Lease",
    "LeastRequest",
    "Limits",
    "Listener",
    "Listeners",
    "Member",
    "MethodNotAllowed",
    "NoEndpoints",
    "NotReady",
    "Noticed",
    "Observation",
    "Policy",
    "Port",
    "Published",
    "QueryDropped",
    "RefreshFailed",
    "Refreshed",
    "RegionMissing",
    "Resolver",
    "Retrying",
    "Ring",
    "RoundRobin",
    "Service",
    "Settings",
    "Snapshot",
    "Source",
    "SourceError",
    "SourceMalformed",
    "SourceThrottled",
    "SourceUnreachable",
    "Spans",
    "Throttled",
    "Unauthorized",
    "UnknownName",
    "UnknownPath",
    "UnknownPort",
    "UnknownService",
    "Wanted",
    "WeightedRandom",
    "__version__",
]

_LATER = {
    "AsyncDiscoveryTransport": "discovery.client.transports",
    "DiscoveryTransport": "discovery.client.transports",
    "Spans": "discovery.tracing",
}


def __getattr__(name: str) -> object:
    """What brings a library along, or hardly anybody needs, is loaded when it is asked for."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(importlib.import_module(_LATER[name]), name)
    globals()[name] = found
    return found


logging.getLogger("discovery").addHandler(logging.NullHandler())

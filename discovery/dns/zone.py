"""Our zone as one snapshot has it: which names there are and what each has.

A name may mean two things at once (a cluster's label that is a service's name, too; a service
called `node`): it has what both have. DNS compares without case, so services of one cluster whose
names differ in case only are not served, and whoever asks for them is told why.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from discovery.dns import browse, records, wire
from discovery.dns.hosts import Hosts, canonical
from discovery.dns.nodes import EMPTY, PROTOCOLS, Node, ServiceNodes, Sets
from discovery.model import Cluster, Service, Snapshot
from discovery.names import fits_dns

SCHEMA_VERSION = "1.0.0"  # of the names in this zone
NAMESERVER = (b"ns", b"dns")
_NODE = b"node"
_IN_CLUSTER = frozenset({_NODE, *PROTOCOLS})
_OWN = frozenset({b"dns-version", NAMESERVER[-1]})
_TWOFOLD = _IN_CLUSTER | _OWN  # mean something to the zone, even where a cluster is called so

Labels = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """What a name has (`None`: there is no such name) and whose ages say how fresh that is.

    Without services it is the clusters' age that counts. `top` is the owner of the SOA. `note` is
    for a person. `fixed` is what no snapshot can change.
    """

    node: Node | None
    top: bytes
    services: tuple[Service, ...] = ()
    clusters: tuple[Cluster, ...] = ()
    note: str = ""
    fixed: bool = False


@dataclass(frozen=True, slots=True)
class Apex:
    """What the zone says of itself: its labels, TTLs and the addresses of its name server."""

    labels: Labels
    ttl_s: int
    negative_ttl_s: int
    addresses: tuple[str, ...] = ()

    @property
    def name(self) -> bytes:
        """The zone's name in wire form."""
        return wire.name_of(*self.labels)

    @property
    def nameserver(self) -> bytes:
        """The name of the zone's only name server."""
        return wire.name_of(*NAMESERVER, *self.labels)

    @property
    def mailbox(self) -> bytes:
        """The address of whoever is responsible, as SOA has it."""
        return wire.name_of(b"hostmaster", *self.labels)


class Zone:
    """The names of one snapshot. Owned by one thread: it makes what it is asked for, and keeps it.

    Services that are the same objects as in the zone `before` keep their nodes.
    """

    def __init__(self, snapshot: Snapshot, apex: Apex, before: "Zone | None" = None) -> None:
        self.snapshot = snapshot
        self.apex = apex
        self._top = apex.name
        self._clusters = {
            c.label.lower().encode(): c for c in snapshot.clusters if fits_dns(c.label)
        }
        self._made: dict[tuple[str, str], ServiceNodes] = {}
        self._hosts = Hosts()
        self._hosts_are_known = False
        self._children: dict[bytes, frozenset[bytes]] = {}  # of the top and of clusters
        if before is not None:
            self._keep(before)

    def __repr__(self) -> str:
        names = len(self.snapshot.services)
        return f"<Zone {b'.'.join(self.apex.labels).decode()}: {names} services>"

    def find(self, name: bytes) -> Found | None:
        """What a name has; `None` where it is neither in the zone nor an address of ours."""
        labels = wire.labels_of(name)
        zone = self.apex.labels
        if labels[-len(zone) :] == zone:
            return self._inside(labels[: -len(zone)])
        return self._reverse(name, labels)

    def children(self, name: bytes) -> frozenset[bytes]:
        """The labels that may be something below the zone's top or below a cluster.

        With any other label there is no such name. Empty where that cannot be told.
        """
        known = self._children.get(name)
        if known is None:
            known = self._children_of(wire.labels_of(name))
            if known:  # of whatever else is asked for nothing may stay
                self._children[name] = known
        return known

    def _children_of(self, labels: Labels) -> frozenset[bytes]:
        above, zone = labels[: -len(self.apex.labels)], self.apex.labels
        default = self.snapshot.labels[0] if self.snapshot.clusters else ""
        if labels == zone:
            return self._labels_in(default) | _OWN | self._clusters.keys()
        if len(above) != 1 or labels[1:] != zone or above[0] in _TWOFOLD:
            return frozenset()
        cluster = self._clusters.get(above[0])
        if cluster is None or self.snapshot.alike(default, above[0].decode()):
            return frozenset()
        return self._labels_in(cluster.label)

    def _labels_in(self, cluster: str) -> frozenset[bytes]:
        services = self.snapshot.services.values()
        folded = cluster.lower()
        return _IN_CLUSTER.union(
            s.name.lower().encode() for s in services if s.cluster.lower() == folded
        )

    def says_the_same_as(self, other: "Zone") -> bool:
        """Whether both have the same names with the same records for as long, of whatever age."""
        one, two = self.snapshot, other.snapshot
        if (one.index, one.labels) != (two.index, two.labels):
            return False
        return one.fresh_for_s == two.fresh_for_s and one.services == two.services

    @cached_property
    def fresh_until(self) -> float:
        """Until when nothing in it is stale; in seconds since the epoch."""
        known = self.snapshot
        ages = [known.read_at.get(key, s.observed_at) for key, s in known.services.items()]
        ages += [c.observed_at for c in known.clusters if c.observed_at is not None]
        return min(ages, default=math.inf) + known.fresh_for_s

    @cached_property
    def soa(self) -> bytes:
        """The data of the zone's SOA record; its serial is the snapshot's index."""
        apex, serial = self.apex, self.snapshot.index
        return records.soa(apex.nameserver, apex.mailbox, serial, apex.negative_ttl_s)

    def _keep(self, before: "Zone") -> None:
        services = self.snapshot.services
        self._made = {k: n for k, n in before._made.items() if services.get(k) is n.service}
        self._hosts = before._hosts

    def _inside(self, labels: Labels) -> Found:
        own = self._own(labels)
        if own is not None:
            return own
        found = self._below(labels, self.snapshot.clusters, self.apex.labels)
        cluster = self._clusters.get(labels[-1])
        if cluster is None:
            return found
        if len(labels) == 1:
            # While the default cluster is not read, a service in it may be called as this one is.
            is_unread = found.node is None and any(c.observed_at is None for c in found.clusters)
            own = Found(EMPTY, self._top, clusters=(cluster,))
            return found if is_unread else _both(own, found)
        suffix = (labels[-1], *self.apex.labels)
        return _both(self._below(labels[:-1], (cluster,), suffix), found)

    def _own(self, labels: Labels) -> Found | None:
        """What the zone has whatever runs; its top is there only once anything is loaded."""
        if not labels:
            node = Node({wire.SOA: (self.soa,), wire.NS: (self.apex.nameserver,)})
            return Found(node, self._top, clusters=self.snapshot.clusters)
        if labels == (b"dns-version",):
            node = Node({wire.TXT: (records.txt((SCHEMA_VERSION,)),)})
        elif labels == NAMESERVER:
            node = Node(_addresses(self.apex.addresses))
        else:
            return None
        return Found(node, self._top, fixed=True)

    def _below(self, labels: Labels, clusters: tuple[Cluster, ...], suffix: Labels) -> Found:
        """A name in the zone itself, where the default cluster comes first, or in one cluster."""
        if labels[-1] in PROTOCOLS:
            return self._browsed(labels, clusters, suffix)
        if not clusters:
            return Found(None, self._top)
        found = self._service(labels, clusters[0])
        if labels[-1] == _NODE:
            found = _both(found, self._host(labels[:-1], clusters[0]))
        if found.node is None and labels == NAMESERVER[1:] and suffix == self.apex.labels:
            return Found(EMPTY, self._top, fixed=True)
        return found

    def _service(self, labels: Labels, cluster: Cluster) -> Found:
        alike = self.snapshot.alike(cluster.label, labels[-1].decode("ascii", "replace"))
        if len(alike) > 1:
            note = " and ".join(sorted(s.name for s in alike)) + " differ in case only"
            return Found(None, self._top, clusters=(cluster,), note=note)
        if not alike or not self._is_served(alike[0]):
            return Found(None, self._top, clusters=(cluster,))
        return Found(self._nodes(alike[0]).find(labels[:-1]), self._top, services=alike)

    def _is_served(self, service: Service) -> bool:
        """Whether DNS can carry the names and tell them apart."""
        return (
            fits_dns(service.name)
            and service.cluster.lower().encode() in self._clusters
            and len(self.snapshot.alike(service.cluster, service.name)) == 1
        )

    def _served(self) -> Iterator[Service]:
        return filter(self._is_served, self.snapshot.services.values())

    def _nodes(self, service: Service) -> ServiceNodes:
        made = self._made.get(service.key)
        if made is None:
            suffix = (service.cluster.lower().encode(), *self.apex.labels)
            made = self._made[service.key] = ServiceNodes(service, suffix, self.apex.ttl_s)
        return made

    def _host(self, labels: Labels, cluster: Cluster) -> Found:
        """`ip-10-0-1-10.node.CLUSTER`: any address of the cluster's endpoints."""
        if not labels:
            return Found(EMPTY, self._top, clusters=(cluster,))
        address = records.node_address(labels[0]) if len(labels) == 1 else None
        services = tuple(s for s in self._at(address) if s.cluster == cluster.label)
        if address is None or not services:
            return Found(None, self._top, clusters=(cluster,))
        beside = {a for service in services for a in _beside(service, address)} - {address}
        return Found(Node(_addresses((address, *sorted(beside)))), self._top, services=services)

    def _reverse(self, name: bytes, labels: Labels) -> Found | None:
        """PTR of an address of ours; its reverse name is a little zone of its own, with a top."""
        address = records.reverse_address(labels)
        services = self._at(address)
        if address is None or not services:
            return None
        targets = [
            self._nodes(service).target(endpoint)
            for service in services
            for endpoint in service.endpoints
            if address in _beside(service, endpoint.host)
        ]
        pointers = tuple(dict.fromkeys(target for target in targets if target))
        top = {wire.SOA: (self.soa,), wire.NS: (self.apex.nameserver,)}
        return Found(Node({wire.PTR: pointers, **top}), name, services=services)

    def _at(self, address: str | None) -> tuple[Service, ...]:
        if address is None:
            return ()
        if not self._hosts_are_known:
            self._hosts.follow(self._served())
            self._hosts_are_known = True
        return self._hosts.at(address)

    def _browsed(self, labels: Labels, clusters: tuple[Cluster, ...], suffix: Labels) -> Found:
        if len(labels) == 3 and labels != browse.KINDS and suffix != self.apex.labels:
            return self._instance(labels, clusters[0])
        known = frozenset(c.label for c in clusters)
        node = browse.found_at(labels, self._offers, known, suffix, self.apex.labels)
        return Found(node, self._top, clusters=clusters)

    def _instance(self, labels: Labels, cluster: Cluster) -> Found:
        """`SERVICE._PORT._tcp.CLUSTER`: SRV and TXT, which a DNS-SD client asks for next."""
        whole = self._service(labels[:1], cluster)
        found = self._service((*labels[1:], labels[0]), cluster)
        if whole.node is None or found.node is None or found.node.pending:
            return found
        sets = {**found.node.sets, wire.TXT: whole.node.sets[wire.TXT]}
        node = Node(sets, found.node.glue, weights=found.node.weights)
        return Found(node, self._top, found.services)

    @cached_property
    def _offers(self) -> browse.Offers:
        return browse.offers_of(self._served())


def _beside(service: Service, host: str) -> set[str]:
    """A host's address, and the others of the same network interface."""
    return {canonical(a) for a in (host, *service.other_addresses.get(host, ()))}


def _addresses(several: Iterable[str]) -> Sets:
    found = [a for a in map(records.a_or_aaaa, several) if a is not None]
    kinds = dict.fromkeys(kind for kind, _ in found)
    return {k: tuple(data for kind, data in found if kind == k) for k in kinds}


def _both(one: Found, other: Found) -> Found:
    """What a name has that can be understood in two ways; the first decides where neither can."""
    if one.node is None or other.node is None:
        return other if one.node is None and other.node is not None else one
    node = Node(
        {**other.node.sets, **one.node.sets},
        {**other.node.glue, **one.node.glue},
        pending=one.node.pending or other.node.pending,
        weights={**other.node.weights, **one.node.weights},
    )
    services = (*one.services, *other.services)
    return Found(node, one.top, services, (*one.clusters, *other.clusters))

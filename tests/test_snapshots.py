"""Snapshot documents: what a follower or a disk reads is what was written, or an error."""

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery import snapshots
from discovery.errors import SourceMalformed
from discovery.model import (
    Cluster,
    Endpoint,
    Exclusion,
    Placement,
    Port,
    Service,
    Snapshot,
)
from discovery.snapshots import Changes, Told, told
from discovery.sources.hearsay import observed
from tests.made import NOW, service

NAMES = st.text("abcXYZ-_09", min_size=1, max_size=6)
ADDRESSES = st.sampled_from(["10.0.0.1", "10.0.0.2", "127.0.0.1", "2001:db8::1"])
PORTS = st.integers(1, 65_535)
TIMES = st.floats(0, 1e10)
PORT = st.builds(Port, PORTS, st.sampled_from(["tcp", "udp"]), st.none() | NAMES, st.none() | NAMES)
ENDPOINT = st.builds(
    Endpoint,
    host=ADDRESSES,
    port=PORTS,
    protocol=st.sampled_from(["tcp", "udp"]),
    container_port=st.none() | PORTS,
    port_name=st.none() | st.text(max_size=5),
    container=st.none() | NAMES,
    task_arn=st.none() | NAMES,
    task_definition=st.none() | NAMES,
    cluster=NAMES,
    service=NAMES,
    zone=st.none() | NAMES,
    health=st.sampled_from(["healthy", "unknown", "starting", "unhealthy", "draining"]),
    weight=st.floats(0.001, 1e6),
    labels=st.dictionaries(NAMES, st.text(max_size=5), max_size=2),
)
SERVICE = st.builds(
    Service,
    name=NAMES,
    cluster=st.sampled_from(["prod", "stage"]),
    kind=st.sampled_from(["service", "family"]),
    endpoints=st.lists(ENDPOINT, max_size=3).map(tuple),
    exclusions=st.lists(
        st.builds(Exclusion, NAMES, st.text(max_size=9), st.none() | NAMES, st.none() | PORTS),
        max_size=2,
    ).map(tuple),
    ports=st.lists(PORT, max_size=2).map(tuple),
    default_port=st.none() | PORT,
    definitions_pending=st.booleans(),
    other_addresses=st.dictionaries(
        ADDRESSES, st.lists(ADDRESSES, max_size=2).map(tuple), max_size=2
    ),
    observed_at=TIMES,
    task_addresses=st.frozensets(ADDRESSES),
    other_default_ports=st.dictionaries(NAMES, PORT, max_size=2),
    spares=st.lists(ENDPOINT, max_size=2).map(tuple),
    placements=st.dictionaries(
        NAMES,
        st.builds(
            Placement,
            st.none() | TIMES,
            st.none() | TIMES,
            st.none() | NAMES,
            st.none() | st.booleans(),
        ),
        max_size=2,
    ),
    notes=st.dictionaries(ENDPOINT.map(lambda e: e.identity), st.text(max_size=5), max_size=2),
)
CLUSTERS = st.tuples(
    st.builds(
        Cluster,
        st.just("prod"),
        st.none() | TIMES,
        st.none() | st.text(min_size=1),
        denied_since=st.none() | TIMES,
    ),
    st.builds(Cluster, st.just("stage"), st.none() | TIMES),
)


@st.composite
def snapshot(draw: st.DrawFn) -> Snapshot:
    """Any snapshot of two clusters; some services have a time of their own."""
    services = {s.key: s for s in draw(st.lists(SERVICE, max_size=4))}
    times = {key: draw(TIMES) for key in services if draw(st.booleans())}
    return Snapshot(
        epoch=draw(st.integers(0, 2**31)),
        sequence=draw(st.integers(0, 2**19)),
        observed_at=draw(TIMES),
        clusters=draw(CLUSTERS),
        services=services,
        fresh_for_s=draw(st.floats(1, 1e5)),
        stale_limit_s=draw(st.floats(1, 1e5)),
        read_at=times,
    )


def written(value: Snapshot, changes: Changes | None = None, publisher: str = "p") -> bytes:
    return b"".join(snapshots.document(value, NOW, publisher=publisher, changes=changes))


def with_times(value: Snapshot) -> Snapshot:
    """The same, with every service's time where answers look first."""
    return replace(
        value, read_at={k: value.read_at.get(k, s.observed_at) for k, s in value.services.items()}
    )


def holding(*services: Service, sequence: int = 1, at: float = NOW) -> Snapshot:
    return Snapshot(
        epoch=7,
        sequence=sequence,
        observed_at=at,
        clusters=(Cluster("demo", at),),
        services={s.key: s for s in services},
        read_at={s.key: at for s in services},
    )


def body(**members: Any) -> bytes:
    """A document with these members changed."""
    return json.dumps(json.loads(written(holding(service("web", 1)))) | members).encode()


@given(snapshot())
def test_what_is_read_is_what_was_written(value: Snapshot) -> None:
    """In everything that an answer depends on: content, order, times, errors."""
    assert told(written(value)).snapshot == with_times(value)


@given(snapshot(), snapshot())
def test_changes_on_top_of_what_was_read_are_the_whole(before: Snapshot, after: Snapshot) -> None:
    """Whatever came, went or differs."""
    changes = Changes(
        before.index,
        changed={k for k, s in after.services.items() if before.services.get(k) != s},
        gone=before.services.keys() - after.services.keys(),
    )
    known = told(written(before))
    assert told(written(after, changes), known) == told(written(after))


def test_changes_without_services_move_the_times_only() -> None:
    """They are short, and the services stay the same objects."""
    known = told(written(holding(*(service(f"s{n}", n) for n in range(1, 200)))))
    later = holding(*(service(f"s{n}", n) for n in range(1, 200)), at=NOW + 10)
    content = written(later, Changes(later.index))
    assert len(content) < 500
    read = told(content, known).snapshot
    assert set(read.read_at.values()) == {NOW + 10}
    key = ("demo", "s1")
    assert read.services[key] is known.snapshot.services[key]


@pytest.mark.parametrize("known", [None, Told(holding(sequence=2), "p"), Told(holding(), "q")])
def test_changes_of_something_else_are_refused(known: Told | None) -> None:
    """Without the snapshot that they are changes of they say nothing."""
    with pytest.raises(SourceMalformed, match="since"):
        told(written(holding(sequence=3), Changes(holding().index)), known)


def test_a_document_of_the_version_before_is_read() -> None:
    """It has no clusters, ports and times of its own; ages tell the times."""
    members = {
        "host": "10.0.0.1", "port": 32_768, "protocol": "tcp", "url": "http://10.0.0.1:32768",
        "container_port": 80, "port_name": None, "container": "web", "task_arn": "arn:task/1",
        "task_definition": None, "cluster": "demo", "service": "web", "zone": None,
        "health": "healthy", "weight": 1.0, "labels": {},
    }  # fmt: skip
    told_of = [
        {
            "name": name, "cluster": "demo", "service": name, "index": 7 * 2**20 + 5,
            "age_s": age_s, "stale": False, "endpoints": [members | {"service": name}],
            "excluded": [{"task_arn": "arn:task/2", "container": None, "reason": "it stops"}],
        }
        for name, age_s in (("web", 3.0), ("api", 43.0))
    ]  # fmt: skip
    index = 7 * 2**20 + 5
    document = {"format": 1, "index": index, "observed_at": NOW, "services": told_of}
    read = told(json.dumps(document).encode()).snapshot
    assert (read.epoch, read.sequence, read.labels) == (7, 5, ("demo",))
    web = read.services["demo", "web"]
    assert web.default_port == Port(80, container="web")
    assert web.exclusions == (Exclusion("arn:task/2", "it stops"),)
    assert read.read_at == {("demo", "web"): NOW, ("demo", "api"): NOW - 40}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no snapshot document"),
        (b"[]", "no snapshot document"),
        (b"\xff", "no snapshot document"),
        (b"[" * 100_000, "no snapshot document"),
        (body()[:-9], "no snapshot document"),
        (body(format=2), "format 2"),
        (body(format=0), "format 0"),
        (body(index="x"), "index"),
        (body(index=3), "index 3"),
        (body(read_at=[]), "read_at"),
        (body(read_at=[[NOW, 2]]), "read_at"),
        (body(read_at=[[NOW, -1], [NOW, 2]]), "read_at"),
        (body(clusters=[{"label": "other"}]), "demo"),
        (body().replace(b"10.0.0.1", b"web.example"), "web.example"),
        (body().replace(b"32768", b"70000"), "70000"),
        (body().replace(b'"weight": 1.0', b'"weight": -1'), "weight"),
        (body().replace(b'"weight": 1.0', b'"weight": 1e308'), "weight"),
        (body().replace(b'"followers": 0', b'"followers": -1'), "followers"),
        (body().replace(b'"unknown"', b'"odd"'), "odd"),
    ],
)
def test_a_bad_document_says_what_is_wrong(content: bytes, why: str) -> None:
    """In one sentence."""
    with pytest.raises(SourceMalformed, match=why):
        told(content)


@given(st.data())
def test_octets_that_changed_on_the_way_are_a_document_or_an_error(data: st.DataObject) -> None:
    """Never another exception."""
    content = bytearray(body())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with contextlib.suppress(SourceMalformed):
        observed(told(bytes(content)).snapshot)

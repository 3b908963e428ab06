"""Examples of each format that is read, as they were written when it was new, and never again.

`python -m tests.sources.examples` writes those of the present format that there are none of yet.
"""

import json
import tempfile
from base64 import b85decode, b85encode
from dataclasses import replace
from pathlib import Path

from discovery.model import (
    Cluster,
    Endpoint,
    Exclusion,
    Placement,
    Port,
    Service,
    Snapshot,
)
from discovery.snapshots import FORMAT, Changes, document
from discovery.sources.disk import Disk
from discovery.sources.publication import publication
from discovery.sources.scripts import keys
from discovery.sources.store import Store, Where
from tests.sources.stores import serving

FOLDER = Path(__file__).parent / "formats"
AT = 1_700_000_000.0
IDENTITY = "ecs prod"
PUBLISHER = "the publisher"
FOLLOWERS = 7
HTTP = Port(8080, "tcp", "http", "web")
ENDPOINT = Endpoint(
    host="10.0.0.1",
    port=32_768,
    protocol="tcp",
    container_port=8080,
    port_name="http",
    container="web",
    task_arn="arn:aws:ecs:eu-west-1:123456789012:task/prod/1",
    task_definition="arn:aws:ecs:eu-west-1:123456789012:task-definition/web:3",
    cluster="prod",
    service="web",
    zone="eu-west-1a",
    health="healthy",
    weight=2.5,
    labels={"team": "a"},
)
SPARE = replace(ENDPOINT, host="2001:db8::2", health="draining", task_arn="arn:task/2")
WEB = Service(
    name="web",
    cluster="prod",
    endpoints=(ENDPOINT,),
    exclusions=(Exclusion("arn:task/3", "it stops", "web", 8080),),
    ports=(HTTP, Port(9090, "udp")),
    default_port=HTTP,
    definitions_pending=True,
    other_addresses={"10.0.0.1": ("2001:db8::1",)},
    task_addresses=frozenset({"10.0.0.1"}),
    other_default_ports={"web:2": Port(9090, "udp")},
    spares=(SPARE,),
    placements={"arn:task/2": Placement(AT - 60, AT - 90, "i-1", True, "ecs-svc/1")},
    notes={ENDPOINT.identity: "it is new"},
)
BATCH = Service("batch", "dev", "family")
SNAPSHOT = Snapshot(
    epoch=1_699_999_000,
    sequence=3,
    observed_at=AT,
    clusters=(
        Cluster("prod", AT, heard=frozenset({"seldom"})),
        Cluster("dev", AT - 300, "ecs:ListTasks is denied", denied_since=AT - 200),
    ),
    services={WEB.key: WEB, BATCH.key: BATCH},
    fresh_for_s=45.0,
    stale_limit_s=3_600.0,
    read_at={WEB.key: AT, BATCH.key: AT - 300},
)
MOVED = replace(WEB, endpoints=(replace(ENDPOINT, host="10.0.0.9"),))
AFTER = replace(
    SNAPSHOT,
    sequence=4,
    observed_at=AT + 10,
    services={MOVED.key: MOVED},
    read_at={MOVED.key: AT + 10},
)
CHANGES = Changes(SNAPSHOT.index, {MOVED.key}, (BATCH.key,))


def path(kind: str, number: int = FORMAT) -> Path:
    """Where the example of this kind is: `snapshot`, `changes`, `cache`, `cache.times`, `store`."""
    return FOLDER / f"{number}.{kind}"


def documents() -> dict[str, bytes]:
    """A snapshot and changes on top of it, as `/v1/snapshot` says them."""
    said = {"snapshot": (SNAPSHOT, None), "changes": (AFTER, CHANGES)}
    return {
        kind: b"".join(
            document(value, AT + 12, publisher=PUBLISHER, followers=FOLLOWERS, changes=changes)
        )
        for kind, (value, changes) in said.items()
    }


def published(number: int = FORMAT) -> dict[str, bytes]:
    """The members of the hash that a store has after both were published."""
    said = json.loads(path("store", number).read_text())
    return {key: b85decode(value) for key, value in said.items()}


def main() -> None:
    """Write what is missing."""
    for kind, content in documents().items():
        if not path(kind).exists():
            path(kind).write_bytes(content)
    if not path("cache").exists():
        disk = Disk(path("cache"), IDENTITY, clock=lambda: AT)
        disk.keep(SNAPSHOT)
        disk.keep(replace(SNAPSHOT, read_at={WEB.key: AT + 10, BATCH.key: AT - 300}))
    if not path("store").exists():
        said = {key: b85encode(value).decode() for key, value in _stored().items()}
        path("store").write_text(json.dumps(said, indent=1) + "\n")


def _stored() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as server:
        store, client = Store(Where("127.0.0.1", server.port), "prod"), server.client()
        client.set(keys("prod")[1], AFTER.epoch)
        pairs: tuple[tuple[Snapshot, Snapshot | None], ...] = ((SNAPSHOT, None), (AFTER, SNAPSHOT))
        for number, (after, before) in enumerate(pairs):
            new = publication(
                after, before, publisher=PUBLISHER, number=number, followers=FOLLOWERS, now=AT + 12
            )
            assert store.publish(new)
        found: dict[bytes, bytes] = client.hgetall(keys("prod")[2])
        store.close()
        client.close()
    return {key.decode(): value for key, value in found.items()}


if __name__ == "__main__":
    main()

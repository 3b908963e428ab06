"""Sidecars that share a store, as processes: a frozen holder, and a store that goes and comes."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from discovery.local.server import LocalECS
from discovery.sources import scripts
from tests.cli.programs import background, run, said_in_one_sentence
from tests.cli.test_hub import ANY, Served, addresses
from tests.sources.hubs import until
from tests.sources.stores import Server, serving

LEASE = scripts.keys("prod")[0]
READS = "this sidecar reads ECS for all"
READS_NO_MORE = "this sidecar does not read ECS for others any more"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Server]:
    """A real Redis."""
    with serving(tmp_path) as server:
        yield server


def serve(store: Server) -> tuple[str, ...]:
    source = f"redis://127.0.0.1:{store.port}?cluster=prod"
    return ("serve", *ANY, "--http", "127.0.0.1:0", "--source", source, "--interval", "1s")


def test_a_frozen_holder_is_replaced_and_follows_when_it_wakes(
    ecs: LocalECS, store: Server
) -> None:
    """Its lease ends; what it was about to publish is refused. Nobody sees anything but the age."""
    with background(*serve(store), env=ecs.environment()) as first:
        first.until(READS)
        told = addresses(Served(first).web())
        with background(*serve(store), env=ecs.environment()) as second:
            following = Served(second)
            assert addresses(following.web()) == told
            first.process.send_signal(signal.SIGSTOP)
            second.until(READS)
            first.process.send_signal(signal.SIGCONT)
            first.until(READS_NO_MORE)
            for sidecar in (Served(first), following):
                assert addresses(sidecar.web()) == told
                assert sidecar.web()["age_s"] < 30
            client = store.client()
            others = client.get(LEASE)
            assert second.end().code == 0
            until(lambda: client.get(LEASE) not in (None, others))  # as the other one gave it back
            client.close()
        assert first.end().code == 0


def test_who_follows_needs_no_permissions_and_outlives_the_store(
    ecs: LocalECS, store: Server
) -> None:
    """It answers from memory, with the true age, and goes on when the store is back."""
    with background(*serve(store), env=ecs.environment()) as first:
        told = addresses(Served(first).web())
        with background(*serve(store)) as second:
            following = Served(second)
            assert addresses(following.web()) == told
            store.stop()
            second.until("prod cannot be read", f"store redis://127.0.0.1:{store.port}/0")
            assert addresses(following.web()) == told
            store.start()
            second.until("can be read again")
            assert addresses(following.web()) == told


def test_commands_read_the_store_too(ecs: LocalECS, store: Server) -> None:
    """And say what is wrong with it in one sentence."""
    source = f"redis://127.0.0.1:{store.port}?cluster=prod"
    with background(*serve(store), env=ecs.environment()) as first:
        told = addresses(Served(first).web())
        done = run("resolve", "web.prod", "--json", "--source", source)
    assert (done.code, addresses(done.document)) == (0, told)
    store.stop()
    gone = run("resolve", "web.prod", "--source", source)
    assert gone.code == 3
    assert f"redis://127.0.0.1:{store.port}" in said_in_one_sentence(gone)


@pytest.mark.parametrize("source", ["redis://app:hush@cache/x", "redis://app:hush@cache"])
def test_a_source_that_cannot_be_used_is_said_in_one_sentence(source: str) -> None:
    """Without the password in it."""
    done = run("resolve", "web", "--source", source)
    assert done.code == 2
    assert "hush" not in said_in_one_sentence(done)

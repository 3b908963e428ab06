"""A store's address, its users, its encryption, and what happens when it fails over."""

import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from discovery.cli.main import main
from discovery.client.opening import opened
from discovery.errors import BadSetting, CredentialsMissing, SourceError, SourceUnreachable
from discovery.events import Listeners
from discovery.secret import Secret, without_password
from discovery.settings import Settings
from discovery.sources import scripts
from discovery.sources.fallback import Fallback
from discovery.sources.redis import LEAST_FRESH_S
from discovery.sources.store import Store, Where, where
from discovery.written import ClusterSettings
from tests.made import service
from tests.sources.hubs import until
from tests.sources.stores import Fleet, Server, serving
from tests.sources.test_redis import hosts, loaded

# What the documentation says that a user needs.
FOLLOWER = "+eval +hmget +hget +get +pttl +time +subscribe"
HOLDER = f"{FOLLOWER} +set +incr +exists +del +pexpire +hset +publish +pubsub"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A real Redis of the test's own."""
    with serving(tmp_path) as server:
        yield server


@pytest.fixture
def fleet(server: Server) -> Iterator[Fleet]:
    """Sidecars that share it."""
    fleet = Fleet(server, service("web", 1))
    yield fleet
    fleet.close()


# Addresses


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("redis://cache", Where("cache")),
        ("redis://cache:7000/3", Where("cache", 7000, 3)),
        ("redis://[::1]:7000", Where("::1", 7000)),
        ("redis://app:s%40c@cache", Where("cache", user="app", password=Secret("s@c"))),
        ("redis://:pw@cache", Where("cache", password=Secret("pw"))),
        ("redis://app@cache?password=file:/run/pw", Where("cache", user="app")),
        ("rediss://cache?ca=/ca.pem", Where("cache", is_tls=True, ca="/ca.pem")),
        ("redis://cache?cluster=prod&cluster=eu-west-1/dev", Where("cache")),
    ],
)
def test_an_address_is_read(written: str, found: Where) -> None:
    """Host, port, database, user, encryption."""
    read = where(written)
    members = ("host", "port", "database", "is_tls", "user", "ca")
    assert [getattr(read, m) for m in members] == [getattr(found, m) for m in members]
    assert found.password in (None, read.password)


def test_what_a_query_may_say() -> None:
    """The clusters, and a file with the password."""
    read = where("redis://cache?cluster=prod&cluster=eu-west-1/dev&password=file:/run/pw")
    assert read.clusters == ("prod", "eu-west-1/dev")
    assert read.password is not None
    assert read.password.path == "/run/pw"


@pytest.mark.parametrize(
    "written",
    [
        "redis://",
        "redis://app:secret@",
        "redis://app:secret@cache:port",
        "redis://app:secret@cache:70000",
        "redis://app:secret@cache/name",
        "redis://app:secret@cache/-1",
        "redis://app:secret@cache?cluster",
        "redis://app:secret@cache?cluster=",
        "redis://app:secret@cache?timeout=5",
        "redis://app:secret@cache?ca=a&ca=b",
        "redis://app:secret@cache#0",
        "redis://app:a/secret@cache",
    ],
)
def test_an_address_with_a_mistake_is_said_without_its_password(written: str) -> None:
    """With what would be right."""
    with pytest.raises(BadSetting, match="want redis://") as caught:
        where(written)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("redis://app:s:e@cache:6379/0?cluster=a", "redis://app:***@cache:6379/0?cluster=a"),
        ("rediss://:pw@cache", "rediss://:***@cache"),
        ("redis://cache?password=pw&cluster=x", "redis://cache?password=***&cluster=x"),
        ("redis://cache?password=file:/run/pw", "redis://cache?password=file:/run/pw"),
        ("redis://app:a/b@cache", "redis://app:***@cache"),
        ("redis://app:a@b@cache", "redis://app:***@cache"),
        ("redis://app:a?b#c d@cache", "redis://app:***@cache"),
        ("redis://cache:1?password=a@b#c d&ca=f", "redis://cache:1?password=***&ca=f"),
        ("redis://cache?Password=pw", "redis://cache?Password=***"),
        ("http://a:80,https://b:1", "http://a:80,https://b:1"),
        ("http://a:80,https://u:p@b:1,http://c:2", "http://a:80,https://u:***@b:1,http://c:2"),
        ("file:a@b", "file:a@b"),
    ],
)
def test_passwords_are_not_shown(written: str, shown: str) -> None:
    """In `config`, in errors, and in what a resolver says of itself."""
    assert without_password(written) == shown


def test_config_does_not_print_the_password(capsys: pytest.CaptureFixture[str]) -> None:
    """Where the rest of the source stands."""
    assert main(["config", "--source", "redis://app:secret@cache"]) == 0
    printed = capsys.readouterr().out
    assert "redis://app:***@cache" in printed
    assert "secret" not in printed


def test_a_source_needs_to_know_what_is_shared() -> None:
    """The clusters are part of the keys."""
    with pytest.raises(BadSetting, match="cluster"):
        opened("redis://app:pw@cache", Settings(), Listeners())


def test_clusters_may_stand_in_the_source() -> None:
    """They go before the setting."""
    settings = Settings(clusters=(ClusterSettings("dev"),))
    source = opened("redis://cache?cluster=eu-west-1/prod", settings, Listeners())
    assert source.labels == ("prod",)
    source.close()


def test_a_file_of_authorities_that_cannot_be_read_is_said_at_once(tmp_path: Path) -> None:
    """Not when the first connection fails."""
    missing = tmp_path / "none.pem"
    with pytest.raises(BadSetting, match="PEM file"):
        opened(f"rediss://cache?ca={missing}&cluster=prod", Settings(), Listeners())


def test_a_fallback_reads_directly_while_the_store_is_gone() -> None:
    """As with hubs, within the share of the fleet."""
    source = opened("redis://127.0.0.1:1?cluster=prod", Settings(fallback="ecs"), Listeners())
    assert isinstance(source, Fallback)
    with pytest.raises(SourceUnreachable):
        source.load(None)
    source.close()


def test_sources_of_other_clusters_do_not_meet() -> None:
    """Each name has keys of its own, all on one node of a Redis cluster."""
    assert not set(scripts.keys("prod")) & set(scripts.keys("dev"))
    assert {key.partition("}")[0] for key in scripts.keys("prod")} == {"ecs-discovery:1:{prod"}


# Users


def permitted(server: Server, name: str, commands: str) -> None:
    client = server.client()
    client.execute_command(
        *f"ACL SETUSER {name} reset on >pw ~ecs-discovery:* &ecs-discovery:* {commands}".split()
    )
    client.close()


def test_a_user_needs_no_more_than_is_documented(server: Server, fleet: Fleet) -> None:
    """One that may hold the lease, and one that only follows."""
    for name, commands in (("holder", HOLDER), ("follower", FOLLOWER)):
        permitted(server, name, commands)
    at = {
        name: Where("127.0.0.1", server.port, user=name, password=Secret("pw"))
        for name in ("holder", "follower")
    }
    first, second = fleet.member(at=at["holder"]), fleet.member(at=at["follower"])
    assert hosts(first.load(None)) == hosts(second.load(None)) == ["10.0.0.1"]
    fleet.runs(service("web", 2))
    first.load(None)
    assert hosts(loaded(second)) == ["10.0.0.2"]
    first.close()


def test_a_follower_that_may_not_hold_the_lease_goes_on_following(
    server: Server, fleet: Fleet
) -> None:
    """While nobody has it; what nobody keeps fresh any more is an error, which a fallback sees."""
    permitted(server, "follower", FOLLOWER)
    at = Where("127.0.0.1", server.port, user="follower", password=Secret("pw"))
    first, second = fleet.member(), fleet.member(at=at)
    first.load(None)
    second.load(None)
    first.close()
    assert hosts(second.load(None)) == ["10.0.0.1"]
    assert any("cannot have the lease" in said for said in fleet.said)
    fleet.client.hincrby(fleet.key("snapshot"), "observed", -round(LEAST_FRESH_S * 1_000))
    with pytest.raises(SourceError, match=r"cannot have the lease: .* permission is missing"):
        second.load(None)
    fleet.runs(service("web", 2), after_s=LEAST_FRESH_S)
    fleet.member().load(None)
    assert hosts(second.load(None)) == ["10.0.0.2"]


def test_who_only_follows_believes_a_holder_that_knows_nothing_of_before(
    server: Server, fleet: Fleet
) -> None:
    """The store was emptied, and nobody who may write to it remembers the epochs of before."""
    permitted(server, "follower", FOLLOWER)
    at = Where("127.0.0.1", server.port, user="follower", password=Secret("pw"))
    first, follower = fleet.member(), fleet.member(at=at)
    for host in range(2, 9):  # so that its sequence is greater than the next holder's
        fleet.runs(service("web", host))
        first.load(None)
    assert hosts(follower.load(None)) == ["10.0.0.8"]
    first.close()
    before = int(fleet.client.get(fleet.key("epoch")))
    fleet.client.flushall()
    with pytest.raises(SourceUnreachable, match=r"has lost .* cannot be fenced: .* can't run"):
        follower.load(None)
    until(lambda: fleet.client.time()[0] > before, "another second of the store's clock")
    fleet.runs(service("web", 9))
    new = fleet.member()
    new.load(None)
    assert hosts(follower.load(None)) == ["10.0.0.9"]


def test_a_wrong_password_is_told_apart_from_an_outage(server: Server, fleet: Fleet) -> None:
    """With the fix, and without the password."""
    at = Where("127.0.0.1", server.port, user="nobody", password=Secret("secret"))
    with pytest.raises(CredentialsMissing, match="check user and password") as caught:
        fleet.member(at=at).load(None)
    assert "secret" not in str(caught.value)


def test_a_missing_permission_is_said(server: Server, fleet: Fleet) -> None:
    """With what the store says of it."""
    permitted(server, "poor", "+ping")
    at = Where("127.0.0.1", server.port, user="poor", password=Secret("pw"))
    with pytest.raises(SourceError, match="permission"):
        fleet.member(at=at).load(None)


def test_a_password_in_a_file_is_read_with_each_connection(
    server: Server, fleet: Fleet, tmp_path: Path
) -> None:
    """So that a file that is missing is an error that ends when it is there."""
    permitted(server, "holder", HOLDER)
    file = tmp_path / "password"
    at = Where("127.0.0.1", server.port, user="holder", password=Secret(f"file:{file}"))
    member = fleet.member(at=at)
    with pytest.raises(SourceError, match="file that can be read"):
        member.load(None)
    file.write_text("pw\n")
    assert hosts(member.load(None)) == ["10.0.0.1"]


def test_a_password_that_was_renewed_is_used_with_the_next_connection(
    server: Server, fleet: Fleet, tmp_path: Path
) -> None:
    """The store ends old connections, or they break: a restart is not needed."""
    permitted(server, "holder", HOLDER)
    file = tmp_path / "password"
    file.write_text("pw\n")
    at = Where("127.0.0.1", server.port, user="holder", password=Secret(f"file:{file}"))
    member = fleet.member(at=at)
    member.load(None)
    fleet.client.execute_command("ACL SETUSER", "holder", "resetpass", ">other")
    fleet.client.client_kill_filter(_type="normal", user="holder")
    with pytest.raises(CredentialsMissing):
        member.load(None)
    file.write_text("other\n")
    fleet.runs(service("web", 2))
    assert hosts(member.load(None)) == ["10.0.0.2"]


# Encryption


def signed(folder: Path) -> tuple[Path, Path]:
    pem, key = folder / "cert.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=store"
    command += f" -addext subjectAltName=IP:127.0.0.1 -out {pem} -keyout {key}"
    subprocess.run(command.split(), check=True, capture_output=True)
    return pem, key


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1, signed by itself, and its key."""
    return signed(tmp_path)


@pytest.fixture
def encrypted(certificate: tuple[Path, Path], tmp_path: Path) -> Iterator[Server]:
    """A server that speaks TLS only."""
    pem, key = certificate
    options = ["--tls-cert-file", str(pem), "--tls-key-file", str(key)]
    options += ["--tls-ca-cert-file", str(pem), "--tls-auth-clients", "no"]
    with serving(tmp_path, *options, is_tls=True) as server:
        yield server


def test_a_store_may_be_encrypted(encrypted: Server, certificate: tuple[Path, Path]) -> None:
    """And is believed for its certificate."""
    at = Where("127.0.0.1", encrypted.port, is_tls=True, ca=str(certificate[0]))
    fleet = Fleet(encrypted, service("web", 1))
    first, second = fleet.member(at=at), fleet.member(at=at)
    assert hosts(first.load(None)) == hosts(second.load(None)) == ["10.0.0.1"]
    fleet.close()


def test_a_store_with_an_unknown_certificate_is_refused(encrypted: Server) -> None:
    """Whatever it says."""
    fleet = Fleet(encrypted, service("web", 1))
    with pytest.raises(SourceUnreachable, match="certificate"):
        fleet.member(at=Where("127.0.0.1", encrypted.port, is_tls=True)).load(None)
    fleet.close()


def test_who_is_believed_may_be_written_anew(
    encrypted: Server, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    """Authorities are renewed, and sidecars are not restarted for it."""
    (tmp_path / "before").mkdir()
    ca, _ = signed(tmp_path / "before")
    fleet = Fleet(encrypted, service("web", 1))
    member = fleet.member(at=Where("127.0.0.1", encrypted.port, is_tls=True, ca=str(ca)))
    with pytest.raises(SourceUnreachable, match="certificate"):
        member.load(None)
    ca.write_bytes(certificate[0].read_bytes())
    assert hosts(member.load(None)) == ["10.0.0.1"]
    fleet.close()


def test_a_store_with_another_name_is_refused(
    encrypted: Server, certificate: tuple[Path, Path]
) -> None:
    """A certificate is good for its own names only."""
    fleet = Fleet(encrypted, service("web", 1))
    at = Where("localhost", encrypted.port, is_tls=True, ca=str(certificate[0]))
    with pytest.raises(SourceUnreachable, match=r"certificate|Hostname|localhost"):
        fleet.member(at=at).load(None)
    fleet.close()


# Failing over


def test_a_store_that_became_a_replica_is_left(fleet: Fleet) -> None:
    """Its connections are made anew, since its name may lead elsewhere by now."""
    member = fleet.member()
    member.load(None)
    client = fleet.server.client()
    client.replicaof("127.0.0.1", 1)
    with pytest.raises(SourceUnreachable, match="replica"):
        member.load(None)
    client.replicaof("NO", "ONE")
    client.close()
    assert hosts(loaded(member)) == ["10.0.0.1"]


@pytest.mark.parametrize(
    ("reply", "error", "why"),
    [
        ("READONLY You can't write against a read only replica.", SourceUnreachable, "a replica"),
        (
            "ERR Error running script (call to f_1): @user_script:1: -READONLY You can't write.",
            SourceUnreachable,
            "a replica",
        ),
        ("OOM command not allowed", SourceUnreachable, "it refuses: command not allowed"),
        ("MISCONF Redis cannot persist", SourceUnreachable, "it refuses: MISCONF"),
        ("NOREPLICAS Not enough good replicas", SourceUnreachable, "it refuses: NOREPLICAS"),
        ("CLUSTERDOWN Hash slot not served", SourceUnreachable, "it refuses: Hash slot"),
        ("LOADING Redis is loading the dataset", SourceUnreachable, "no answer"),
        ("NOPERM User follower has no permissions", SourceError, "a permission is missing"),
        (
            "ERR ACL failure in script: User follower has no permissions to run the 'set' command",
            SourceError,
            "a permission is missing",
        ),
        ("NOAUTH Authentication required.", CredentialsMissing, "check user and password"),
    ],
)
def test_what_a_store_refuses_is_said_and_it_is_connected_to_anew(
    server: Server, reply: str, error: type[SourceError], why: str
) -> None:
    """Whoever answers so may not be who the name leads to by now."""
    store = Store(Where("127.0.0.1", server.port), "demo")
    store.read("", "")
    connected = store._connected
    with pytest.raises(SourceError, match=f"{server.port}/0: .*{why}") as caught:
        store._eval(f'return redis.error_reply("{reply}")')
    assert type(caught.value) is error
    store.read("", "")
    assert store._connected == connected + 1
    store.close()


def test_after_a_failure_news_are_listened_to_anew(fleet: Fleet) -> None:
    """A network that lost one connection without a word may have lost the other one, too."""
    store = Store(Where("127.0.0.1", fleet.server.port), fleet.name)
    assert store.listen()
    fleet.client.set(fleet.key("snapshot"), "no hash")
    with pytest.raises(SourceUnreachable):
        store.read("", "")
    assert store.listen()
    assert not store.listen()
    store.close()


def test_who_has_our_keys_in_a_cluster_is_asked_until_it_fails(
    server: Server, tmp_path: Path
) -> None:
    """Any of its nodes may be named; after a failover there is another one to ask."""
    store = Store(Where("127.0.0.1", server.port), "demo")
    with serving(tmp_path) as other:
        moved = f"return redis.error_reply('MOVED 866 127.0.0.1:{other.port}')"
        asked = f"if redis.call('GET', 'here') then return 'found' end {moved}"
        with server.client() as first, other.client() as second:
            second.set("here", 1)
            assert store._eval(asked) == b"found"
            first.set("here", 1)
            second.delete("here")
            second.set("only there", 1)
            assert store._eval("return redis.call('GET', 'only there')") == b"1"
    with pytest.raises(SourceUnreachable, match="no answer"):
        store._eval(asked)
    assert store._eval(asked) == b"found"
    store.close()


def test_who_turns_to_another_node_ends_no_request_of_another_thread(fleet: Fleet) -> None:
    """The renewal of a lease may be under way: its connection is given back when it has ended."""
    store = Store(Where("127.0.0.1", fleet.server.port), fleet.name)
    said: list[object] = []
    asking = threading.Thread(target=lambda: said.append(store._eval("return 1")))
    fleet.client.client_pause(60_000, all=False)  # scripts wait
    try:
        asking.start()
        until(lambda: fleet.client.info("clients")["blocked_clients"])
        store._leave(("127.0.0.1", fleet.server.port))
    finally:
        fleet.client.client_unpause()
    asking.join()
    assert said == [1]
    store.close()


def test_who_listened_to_another_server_listens_anew(fleet: Fleet, tmp_path: Path) -> None:
    """The name leads elsewhere by now, and the one before says nothing any more."""
    first, second = fleet.member(), fleet.member(interval_s=1_000.0)
    first.load(None)
    second.load(None)
    listened = second._store._hearing
    assert listened is not None
    second._store._met = (second._store._connected - 1, "another")
    fleet.runs(service("web", 2))
    first.load(None)
    assert hosts(second.load(None)) == ["10.0.0.2"]
    assert second._store._hearing is not listened


def test_a_replica_goes_on_where_its_primary_was(fleet: Fleet, tmp_path: Path) -> None:
    """What was replicated is there, with its epochs."""
    first, second = fleet.member(), fleet.member()
    first.load(None)
    second.load(None)
    fleet.client.config_set("repl-diskless-sync-delay", 0)
    with serving(tmp_path, "--replicaof", "127.0.0.1", str(fleet.server.port)) as replica:
        client = replica.client()
        until(lambda: client.hget(fleet.key("snapshot"), "content") is not None)
        client.save()
        client.close()
    fleet.server.stop()
    with serving(tmp_path, port=fleet.server.port):  # it has what the replica had
        third = fleet.member()
        assert hosts(loaded(third)) == ["10.0.0.1"]
        fleet.runs(service("web", 2))
        until(lambda: hosts(loaded(first)) == hosts(loaded(second)) == ["10.0.0.2"])
    assert any("failed over" in said for said in fleet.said)


def test_a_store_that_hangs_is_an_error_in_time(fleet: Fleet) -> None:
    """Every request is bounded."""
    member = fleet.member()
    member.load(None)
    fleet.server.signal(signal.SIGSTOP)
    try:
        with pytest.raises(SourceUnreachable, match="no answer"):
            member.load(None)
    finally:
        fleet.server.signal(signal.SIGCONT)

"""Settings: what can be written, which layer wins, and how a wrong value is said."""

import pytest

from discovery import settings
from discovery.errors import BadSetting
from discovery.probe import Probe
from discovery.settings import Settings
from discovery.written import Address, ClusterSettings, duration


def test_defaults_need_no_layer() -> None:
    """Without any layer there are the defaults, and each says so."""
    merged, origins = settings.merge()
    assert merged == Settings()
    assert set(origins.values()) == {"default"}


def test_the_strongest_layer_wins() -> None:
    """A flag beats the environment, which beats a file."""
    merged, origins = settings.merge(
        ("flag", {"ttl": None, "interval": "20s"}),
        ("environment", {"ttl": "7s", "interval": "30s"}),
        ("file a.toml", {"ttl": 9, "zone": "corp.example"}),
    )
    assert (merged.interval_s, merged.ttl_s, merged.zone) == (20.0, 7, "corp.example")
    assert origins["interval"] == "flag"
    assert origins["ttl"] == "environment"
    assert origins["zone"] == "file a.toml"


ROLE = "arn:aws:iam::123456789012:role/path/discovery"
CHINA = "arn:aws-cn:ecs:cn-north-1:123456789012:cluster/prod"


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("30s", 30.0), ("500ms", 0.5), ("5m", 300.0), ("24h", 86_400.0), (7, 7.0), ("1.5", 1.5)],
)
def test_durations_mean_what_they_say(written: object, seconds: float) -> None:
    """A duration is a number of seconds or has a unit."""
    assert duration(written) == seconds


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("interval", "30 sec"),
        ("interval", "0"),
        ("interval", "-1s"),
        ("interval", True),
        ("ttl", "1.5s"),
        ("ttl", "2d"),
        ("dns", "localhost:53"),
        ("dns", "127.0.0.1"),
        ("dns", "::1:53"),
        ("dns", "127.0.0.1:70000"),
        ("share", "0"),
        ("share", "much"),
        ("zone", "a..b"),
        ("ip_family", "ipv5"),
        ("public_addresses", "maybe"),
        ("clusters", "prod,prod"),
        ("clusters", "arn:aws:ecs:eu-west-1:123456789012:service/x"),
        ("clusters", [{"region": "eu-west-1"}]),
        ("clusters", [{"name": "a", "rolearn": "b"}]),
        ("clusters", 3),
        ("clusters", [{"name": "a", "alias": "my cluster/x"}]),
        ("clusters", [{"name": "a", "role_arn": "discovery"}]),
        ("allowed_hosts", 3),
        ("source", " "),
        ("forward", "resolver.example"),
        ("forward", "a..b=10.0.0.2"),
        ("forward", "10.0.0.2:x"),
        ("dns_clients", "10.0.0.1/8"),
        ("dns_clients", "home"),
        ("dns_order", "random"),
    ],
)
def test_wrong_values_name_key_value_and_want(key: str, value: object) -> None:
    """A value that cannot be used is an error with the key, where it was, the value, the fix."""
    with pytest.raises(BadSetting) as caught:
        settings.merge(("file a.toml", {key: value}))
    assert f"{key} (file a.toml)" in caught.value.message
    assert repr(value) in caught.value.message
    assert "want " in caught.value.message


def test_an_unknown_key_comes_with_the_one_that_is_like_it() -> None:
    """And with where all are listed."""
    with pytest.raises(
        BadSetting, match=r"file a\.toml: 'intervall'.*interval: .*config"
    ) as caught:
        settings.merge(("file a.toml", {"intervall": 5}))
    assert "5" not in caught.value.message


def test_an_option_is_shown_as_it_was_written() -> None:
    """Also one that may be repeated."""
    with pytest.raises(BadSetting, match=r"clusters \(flag\): 'my cluster' cannot"):
        settings.merge(("flag", {"clusters": ("my cluster",)}))


def test_a_secret_that_cannot_be_used_is_not_shown() -> None:
    """Errors go into logs."""
    with pytest.raises(BadSetting, match="not shown") as caught:
        settings.merge(("flag", {"http_token": "sésame"}))
    assert "sésame" not in caught.value.message


@pytest.mark.parametrize(
    ("written", "want"),
    [
        ("prod", ClusterSettings("prod")),
        ("eu-west-1/prod", ClusterSettings("prod", "eu-west-1")),
        ("us-gov-east-1/prod", ClusterSettings("prod", "us-gov-east-1")),
        ("eusc-de-east-1/prod", ClusterSettings("prod", "eusc-de-east-1")),
        (
            CHINA,
            ClusterSettings("prod", "cn-north-1", arn=CHINA),
        ),
        (
            {"name": "prod", "region": "eu-west-1", "alias": "eu", "role_arn": ROLE},
            ClusterSettings("prod", "eu-west-1", ROLE, None, "eu"),
        ),
        (
            {"name": CHINA, "alias": "cn"},
            ClusterSettings("prod", "cn-north-1", alias="cn", arn=CHINA),
        ),
    ],
)
def test_clusters_are_named_in_several_ways(written: object, want: ClusterSettings) -> None:
    """A cluster is a name, a region and a name, an ARN or a table."""
    merged, _ = settings.merge(("flag", {"clusters": [written]}))
    assert merged.clusters == (want,)


def test_two_clusters_of_one_name_need_an_alias() -> None:
    """The label in names must be unique, and an alias makes it so."""
    pair = [{"name": "prod", "region": "eu-west-1"}, {"name": "prod", "alias": "us"}]
    merged, _ = settings.merge(("file", {"clusters": pair}))
    assert [cluster.label for cluster in merged.clusters] == ["prod", "us"]


def test_addresses_print_as_they_are_written() -> None:
    """An IPv6 address keeps its brackets."""
    merged, _ = settings.merge(("flag", {"dns": "[::1]:53", "http": "127.0.0.1:0"}))
    assert merged.dns == Address("::1", 53)
    assert (str(merged.dns), str(merged.http)) == ("[::1]:53", "127.0.0.1:0")


def test_the_environment_is_read_by_prefix() -> None:
    """Only our variables that are not empty make the layer; the clusters' is in the singular."""
    layer = settings.from_environment(
        {
            "ECS_DISCOVERY_CLUSTER": "a,b",
            "ECS_DISCOVERY_TTL": "",
            "ECS_DISCOVERY_SHARE": "0.5",
            "TTL": "9",
        }
    )
    assert layer == {"clusters": "a,b", "share": "0.5"}


def test_upstreams_name_a_service_and_an_address() -> None:
    """From one text with commas, or a list."""
    merged, _ = settings.merge(
        ("file", {"upstreams": "orders=127.0.0.1:9001, _db._tcp.pg=[::1]:5432"})
    )
    assert [str(u) for u in merged.upstreams] == [
        "orders=127.0.0.1:9001",
        "_db._tcp.pg=[::1]:5432",
    ]


@pytest.mark.parametrize(
    "value", ["orders", "=127.0.0.1:1", "a=nowhere:1", "a=127.0.0.1:1,b=127.0.0.1:1"]
)
def test_upstreams_that_cannot_be_are_refused(value: str) -> None:
    """With what would be right."""
    with pytest.raises(BadSetting, match="upstreams"):
        settings.merge(("flag", {"upstreams": value}))


@pytest.mark.parametrize(
    ("written", "want"),
    [
        ("tcp", Probe()),
        ("orders=http:/health", Probe("orders", "http", "/health")),
        ("*.prod=http:204:/", Probe("*.prod", "http", "/", (204, 204))),
        ("api-*=http:200-299:/up?full=1", Probe("api-*", "http", "/up?full=1", (200, 299))),
        ("grpc", Probe("*", "grpc")),
        ("orders=grpc:acme.Orders", Probe("orders", "grpc", "acme.Orders")),
    ],
)
def test_a_probe_is_written_with_its_services_and_what_it_asks(written: str, want: Probe) -> None:
    """And as it is printed it means the same."""
    made, _ = settings.merge(("flag", {"probes": [written]}))
    assert made.probes == (want,)
    assert settings.merge(("flag", {"probes": [str(want)]}))[0].probes == (want,)


@pytest.mark.parametrize(
    "value",
    ["", "http", "http:health", "orders=", "ftp:/x", "http:299-200:/", "http:999:/", "a b=tcp"],
)
def test_a_probe_that_cannot_be_is_refused_with_what_would_be_right(value: str) -> None:
    """By its key."""
    with pytest.raises(BadSetting, match="probes"):
        settings.merge(("flag", {"probes": [value]}))


@pytest.mark.parametrize("value", ["0", "101", "two", True, "-1"])
def test_a_number_of_probes_is_whole_and_bounded(value: object) -> None:
    """Once at least."""
    with pytest.raises(BadSetting, match="probe_fall"):
        settings.merge(("flag", {"probe_fall": value}))

"""What an overrides file may say, and how it is told that it may not."""

import math
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from discovery.errors import BadSetting
from discovery.overrides.rules import Overrides, Rule, overrides_in

AT = datetime(2026, 3, 1, 18, 0, tzinfo=UTC).timestamp()


def read(text: str) -> Overrides:
    return overrides_in(tomllib.loads(text))


def test_all_that_can_be_said() -> None:
    """Each kind of entry, with every way to select."""
    it = read(
        """
        [[exclude]]
        service = "orders.prod"
        task = "0f9d"
        until = 2026-03-01T18:00:00Z
        reason = "leaks memory"
        [[evacuate]]
        zone = "eu-west-1a"
        until = "forever"
        [[weight]]
        task_definition = "orders:7"
        weight = 0.5
        until = "2026-03-01T19:00:00+01:00"
        [[alias]]
        name = "payments"
        failover = ["payments.prod-a", "payments.prod-b"]
        until = "forever"
        [[alias]]
        name = "checkout"
        weights = { "checkout.prod-a" = 9, "checkout.prod-b" = 1 }
        until = "forever"
        """
    )
    assert it.rules == (
        Rule("exclude", AT, "leaks memory", service="orders.prod", task="0f9d"),
        Rule("evacuate", math.inf, zone="eu-west-1a"),
        Rule("weight", AT, task_definition="orders:7", weight=0.5),
    )
    first, second = it.aliases
    assert (first.in_order, [target for target, _ in first.targets]) == (
        True,
        ["payments.prod-a", "payments.prod-b"],
    )
    assert (second.in_order, second.targets) == (
        False,
        (("checkout.prod-a", 9.0), ("checkout.prod-b", 1.0)),
    )


def test_the_example_is_right() -> None:
    """As it stands, and with an entry of each kind."""
    it = read((Path(__file__).parents[2] / "examples" / "overrides.toml").read_text())
    assert [rule.kind for rule in it.rules] == ["exclude", "evacuate", "weight"]
    assert [alias.in_order for alias in it.aliases] == [True, False]


def test_nothing_decides_nothing() -> None:
    """An empty file is how all is taken back."""
    assert len(read("")) == 0


@pytest.mark.parametrize(
    ("until", "told"),
    [
        ("", "None"),
        ("until = 2026-03-01T18:00:00", "time zone"),
        ("until = 2026-03-01", "time zone"),
        ('until = "2026-03-01T18:00:00"', "time zone"),
        ('until = "tomorrow"', "'tomorrow'"),
        ("until = 5", "5"),
    ],
)
def test_when_it_ends_has_to_be_said(until: str, told: str) -> None:
    """With a time zone, as nobody knows which one is meant otherwise."""
    with pytest.raises(BadSetting, match=r"exclude\[0\]\.until.*forever") as caught:
        read(f'[[exclude]]\nzone = "a"\n{until}')
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[exclud]]", "exclud:"),
        ("exclude = 5", "exclude: 5"),
        ("exclude = [5]", "exclude: [5]"),
        ("[[exclude]]\nuntil = 'forever'", "exclude[0]: .*service or task"),
        ("[[exclude]]\ntask = ''\nuntil = 'forever'", "exclude[0].task: '' .*some text"),
        ("[[exclude]]\ntsk = 'x'\nuntil = 'forever'", "exclude[0].tsk: 'x'"),
        ("[[exclude]]\nservice = 'a b'\nuntil = 'forever'", "exclude[0].service: 'a b'"),
        ("[[exclude]]\nservice = '.prod'\nuntil = 'forever'", "exclude[0].service: '.prod'"),
        ("[[exclude]]\nservice = '_a._tcp.b'\nuntil = 'forever'", "without a port"),
        ("[[evacuate]]\nservice = 'a'\nuntil = 'forever'", "evacuate[0]: .*zone"),
        ("[[weight]]\nzone = 'a'\nuntil = 'forever'", "weight[0].weight: None"),
        ("[[weight]]\nzone = 'a'\nweight = -1\nuntil = 'forever'", "weight[0].weight: -1"),
        ("[[weight]]\nzone = 'a'\nweight = nan\nuntil = 'forever'", "weight[0].weight: nan"),
        ("[[weight]]\nzone = 'a'\nweight = true\nuntil = 'forever'", "weight[0].weight: True"),
        ("[[alias]]\nfailover = ['a']\nuntil = 'forever'", "alias[0].name: None"),
        ("[[alias]]\nname = 'p'\nuntil = 'forever'", "alias[0]: .*failover"),
        (
            "[[alias]]\nname = 'p'\nfailover = ['a']\nweights = {a = 1}\nuntil = 'forever'",
            "alias[0]: .*either",
        ),
        ("[[alias]]\nname = 'p'\nfailover = []\nuntil = 'forever'", "alias[0].failover"),
        ("[[alias]]\nname = 'p'\nfailover = 'a'\nuntil = 'forever'", "alias[0].failover: 'a'"),
        ("[[alias]]\nname = 'p'\nweights = {a = 0}\nuntil = 'forever'", "alias[0].weights"),
        (
            "".join(
                f"[[alias]]\nname = '{n}'\nfailover = ['a']\nuntil = 'forever'\n" for n in "pP"
            ),
            "alias[1].name: 'P' .*another name",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, told: str) -> None:
    """Which entry, which key, the value, and what would be right."""
    with pytest.raises(BadSetting) as caught:
        read(text)
    parts = told.split(" .*")
    assert all(part in str(caught.value) for part in parts)


def test_more_than_a_bound_is_refused() -> None:
    """Each is looked at for every service."""
    with pytest.raises(BadSetting, match="1001 entries"):
        overrides_in({"exclude": [{"zone": "a", "until": "forever"}] * 1_001})


def test_it_is_in_force_until_it_ends() -> None:
    """The second itself is over."""
    it = read("[[exclude]]\nzone = 'a'\nuntil = 2026-03-01T18:00:00Z\n")
    assert len(it.in_force(AT - 0.001)) == 1
    assert len(it.in_force(AT)) == 0


def test_the_words_say_until_when_and_why() -> None:
    """What a person reads in `explain`."""
    assert Rule("exclude", AT, "leaks").words == (
        "excluded by hand until 2026-03-01T18:00:00Z: leaks"
    )
    assert Rule("evacuate", math.inf, zone="a").words == "zone a evacuated by hand for ever"

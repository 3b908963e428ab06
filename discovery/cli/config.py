"""`config`: every setting, its value and where it came from."""

from collections.abc import Iterator
from dataclasses import asdict

import click

from discovery import documents
from discovery.cli import options, output
from discovery.cli.layers import Given
from discovery.secret import Secret, without_password
from discovery.settings import declared, variable
from discovery.written import Address, ClusterSettings

COLUMNS = ("SETTING", "VALUE", "FROM", "VARIABLE")


@click.command()
@options.settings(*options.SERVING)
@options.as_json
def command(given: Given, as_json: bool) -> int:
    """Print every setting, its value and where it came from.

    A flag wins over the environment, that over the file, that over the task's metadata on ECS, and
    that over the default.

    \b
    examples:
      ecs-discovery config
      ECS_DISCOVERY_TTL=10s ecs-discovery config --config discovery.toml --json
    """
    rows = list(_rows(given))
    if as_json:
        output.as_json(documents.settings((k, _plain(v), o, e) for k, v, o, e in rows))
    else:
        output.table(COLUMNS, ((k, _shown(v), o, e) for k, v, o, e in rows))
    return 0


def _rows(given: Given) -> Iterator[tuple[str, object, str, str]]:
    for declaration in declared():
        key = declaration.metadata["key"]
        value = getattr(given.settings, declaration.name)
        value = without_password(value) if key == "source" else value
        yield key, value, given.origins[key], variable(key)


def _plain(value: object) -> object:
    """A value as JSON has it."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, ClusterSettings):
        return asdict(value)
    return str(value) if isinstance(value, Address | Secret) else value


def _shown(value: object) -> str | None:
    """A value as a person reads it; durations are in seconds."""
    if value is None:
        return None
    if isinstance(value, tuple):
        return ", ".join(filter(None, map(_shown, value))) or None
    if isinstance(value, ClusterSettings):
        where = value.arn or (f"{value.region}/{value.name}" if value.region else value.name)
        return f"{where} as {value.alias}" if value.alias else where
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)

"""Options that several commands share, declared once; each setting's flag comes from its own
declaration."""

import functools
import os
from collections.abc import Callable
from dataclasses import Field
from typing import Any

import click

from discovery.cli.layers import CONFIG_VARIABLE, given
from discovery.settings import declared, variable
from discovery.written import boolean

Command = Callable[..., Any]
FINDING = (
    "clusters",
    "source",
    "zone",
    "ip_family",
    "public_addresses",
    "boot_check",
    "enable",
    "overrides",
    "hub_token",
    "hub_ca",
)
SERVING = tuple(declaration.metadata["key"] for declaration in declared())
_METAVARS = {
    "clusters": "NAME",
    "zone": "ZONE",
    "dns": "ADDR:PORT",
    "http": "ADDR:PORT",
    "source": "SOURCE",
    "share": "FACTOR",
    "ip_family": "ipv4|ipv6",
    "allowed_hosts": "HOST",
    "upstreams": "NAME=ADDR:PORT",
    "forward": "[ZONE=]ADDR",
    "dns_clients": "NETWORK",
    "enable": "all|tagged",
    "log_format": "text|json",
    "overrides": "FILE",
    "dns_order": "balanced|weighted|stable",
    "availability_zone": "AZ",
    "probes": "[PATTERN=]PROBE",
    "probe_rise": "COUNT",
    "probe_fall": "COUNT",
    "cache": "FILE",
    "events": "QUEUE",
    "hub_token": "TOKEN",
    "hub_ca": "FILE",
    "fallback": "off|ecs",
    "http_token": "TOKEN",
    "tls_cert": "FILE",
    "tls_key": "FILE",
}


def settings(*keys: str) -> Callable[[Command], Command]:
    """Flags for these settings and `--config`; the command is called with `given`, a `Given`."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def called(*args: Any, config: str | None, **values: Any) -> Any:
            flags = {key: _set(values.pop(key)) for key in keys}
            return command(*args, given=given(flags, config, os.environ), **values)

        flagged: Command = called
        for declaration in reversed(declared()):
            if declaration.metadata["key"] in keys:
                flagged = _flag(declaration)(flagged)
        return _CONFIG(flagged)

    return decorate


def as_json(command: Command) -> Command:
    """`--json`, given to the command as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")(command)


_CONFIG = click.option(
    "--config", metavar="PATH", help=f"TOML file with settings (or {CONFIG_VARIABLE})."
)


def _flag(declaration: Field[Any]) -> Callable[[Command], Command]:
    key = declaration.metadata["key"]
    meaning = declaration.metadata["meaning"]
    help_text = f"{meaning[:1].upper()}{meaning[1:]} (or {variable(key)})."
    if declaration.metadata["decode"] is boolean:
        name = key.replace("_", "-")
        return click.option(f"--{name}/--no-{name}", key, default=None, help=help_text)
    several = isinstance(declaration.default, tuple)
    name = key.removesuffix("s") if several else key
    return click.option(
        f"--{name.replace('_', '-')}",
        key,
        multiple=several,
        metavar=_METAVARS.get(key, "DURATION") + (" ..." if several else ""),
        help=help_text,
    )


def _set(value: object) -> object:
    """What was given; an option that may be repeated and was not is not set."""
    return None if value == () else value

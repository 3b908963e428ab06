"""Where settings come from: flags, the environment, a TOML file, and the task's metadata on ECS."""

import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from discovery.errors import BadInput, BadSetting, SourceError
from discovery.settings import ENVIRONMENT_PREFIX, Settings, from_environment, merge
from discovery.written import HTTP_ADDRESS

CONFIG_VARIABLE = f"{ENVIRONMENT_PREFIX}CONFIG"
METADATA_VARIABLE = "ECS_CONTAINER_METADATA_URI_V4"
_DOCKER = "172.17.0.1"  # the host as containers on docker's default bridge see it
_EVERYWHERE = "0.0.0.0"


@dataclass(frozen=True, slots=True)
class Given:
    """The settings in force, and for each key where its value came from.

    `unread` is why the task's metadata, which there is, could not be read.
    """

    settings: Settings
    origins: Mapping[str, str]
    unread: SourceError | None = None

    def need_cluster(self) -> None:
        """Raise `BadInput` where ECS is to be read and no cluster is named anywhere.

        Raises the `SourceError` instead where the metadata that would name one cannot be read.
        """
        if self.settings.source != "ecs" or self.settings.clusters:
            return
        if self.unread is not None:
            raise self.unread
        raise BadInput(
            "no cluster is named: use --cluster NAME, ECS_DISCOVERY_CLUSTER, or clusters in the"
            " file of --config"
        )


def given(flags: Mapping[str, object], config: str | None, environment: Mapping[str, str]) -> Given:
    """The settings from all layers: flags, environment, file, metadata, defaults.

    `config` is the path given by flag. Raises `BadSetting`.
    """
    layers: list[tuple[str, Mapping[str, object]]] = [
        ("flag", flags),
        ("environment", from_environment(environment)),
    ]
    path = config or environment.get(CONFIG_VARIABLE)
    if path:
        layers.append((f"file {path}", _file(path, "--config" if config else CONFIG_VARIABLE)))
    unread = None
    try:
        if metadata := _metadata(environment):
            layers.append(("task metadata", metadata))
    except SourceError as error:  # of interest only to who needs what it would say
        unread = error
    return Given(*merge(*layers), unread)


def _file(path: str, key: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        want = f"a TOML file that can be read ({error.strerror or error})"
        raise BadSetting(key, path, want) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSetting(key, path, f"a file in TOML ({error})") from error


def _metadata(environment: Mapping[str, str]) -> dict[str, Any]:
    """What the task that we run in says: cluster and zone, and where its network has us listen."""
    if METADATA_VARIABLE not in environment:
        return {}
    from discovery.ecs.metadata import identity

    found = identity(environment)
    if found is None:
        return {}
    placed = _addresses(found.network_mode) | {"availability_zone": found.zone}
    if found.cluster is None:
        return placed
    table = {"name": found.cluster, "region": found.region}
    return placed | {"clusters": [{k: v for k, v in table.items() if v is not None}]}


def _addresses(network_mode: str | None) -> dict[str, Any]:
    """Where containers find us: in awsvpc on their own loopback, else on docker's host address."""
    if network_mode == "awsvpc":
        return {"dns": "127.0.0.1:53"}
    if network_mode not in ("host", "bridge", "default"):
        return {}
    # A container of docker's network has no address that others know beforehand; which of its
    # ports are published decides who reaches it.
    inside = network_mode != "host" and not _is_ours(_DOCKER)
    host = _EVERYWHERE if inside else _DOCKER
    return {"dns": f"{host}:53", "http": f"{host}:{HTTP_ADDRESS.port}"}


def _is_ours(host: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True

"""`history NAME`: what changed of a service, when and why, as the running sidecar saw it."""

import os
import time
import urllib.parse
from typing import TypedDict

import click
import msgspec

from discovery.cli import asking, options, output
from discovery.documents import Document
from discovery.errors import BadSetting, Expired, NotReady, SourceUnreachable, Unauthorized
from discovery.secret import secret
from discovery.settings import variable
from discovery.sources.secrets import revealed

TOKEN_VARIABLE = variable("http_token")
TOKEN_WANTED = f"the sidecar wants a token: use --http-token TOKEN or {TOKEN_VARIABLE}"
COLUMNS = ("TIME", "CHANGE", "TASK", "PORT", "ADDRESS", "REASON")
_TIMEOUT_S = 5.0


class _Shown(TypedDict):
    """What a row shows of a change."""

    at: float
    kind: str
    task_arn: str | None
    container_port: int | None
    address: str | None
    reason: str


class _Answer(TypedDict):
    changes: list[_Shown]


class _Error(TypedDict):
    code: str
    message: str


class _Refusal(TypedDict):
    error: _Error


@click.command()
@click.argument("name")
@click.option(
    "--http",
    metavar="ADDR:PORT",
    help=f"Address of the sidecar's HTTP server (or {asking.VARIABLE}).",
)
@click.option(
    "--http-token",
    metavar="TOKEN",
    help=f"Bearer token that the sidecar wants, or file:PATH (or {TOKEN_VARIABLE}).",
)
@options.as_json
def command(name: str, http: str | None, http_token: str | None, as_json: bool) -> int:
    """Print the last changes of a service, with time and reason, as a running sidecar saw them.

    \b
    examples:
      ecs-discovery history orders
      ecs-discovery history orders.prod --http 172.17.0.1:8053 --json
    """
    token = _token(http_token or os.environ.get(TOKEN_VARIABLE))
    status, body = _asked(http, f"/v1/history/{urllib.parse.quote(name, safe='')}", token)
    if status != 200:
        return _refused(body, as_json)
    if as_json:
        output.as_json(body)
    else:
        output.table(COLUMNS, map(_row, body["changes"]))
    return 0


def _token(written: str | None) -> str | None:
    """The token as it is sent. Raises `BadSetting`."""
    if not written:
        return None
    try:
        return revealed(secret(written), "http_token")
    except ValueError as why:
        raise BadSetting("http_token", "(not shown)", str(why)) from None


def _asked(flag: str | None, path: str, token: str | None) -> tuple[int, Document]:
    try:
        heard = asking.ask_any(flag, path, _TIMEOUT_S, token)
    except asking.NoAnswer as failure:
        raise SourceUnreachable(
            f"{failure}: only a running sidecar has a history, start one with ecs-discovery serve"
        ) from None
    try:
        body: Document = msgspec.json.decode(heard.body, type=Document)
        msgspec.convert(body, _Answer if heard.status == 200 else _Refusal)
    except msgspec.DecodeError:
        raise SourceUnreachable(f"what answers at {heard.address} is no sidecar") from None
    return heard.status, body


def _refused(body: Document, as_json: bool) -> int:
    """Say what the sidecar said instead; the exit code."""
    error = body["error"]
    if as_json:
        output.as_json(body)
    unauthorized = error["code"] == Unauthorized.code
    output.say(TOKEN_WANTED if unauthorized else error["message"])
    return 3 if error["code"] in (NotReady.code, Expired.code) else 2


def _row(change: Document) -> tuple[object, ...]:
    return (
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(change["at"])),
        change["kind"],
        output.task_id(change["task_arn"]),
        change["container_port"],
        change["address"],
        change["reason"],
    )

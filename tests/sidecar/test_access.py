"""Who may ask: a bearer token, where one is set."""

from collections.abc import Iterator

import pytest

from discovery.sidecar.app import Answers, application
from discovery.sources.base import FixedSource
from tests.sidecar.asking import Asked
from tests.sidecar.fleet import NOW, WEB, observed


@pytest.fixture
def asked() -> Iterator[Asked]:
    """An application that wants the token `hush`."""
    asked = Asked(FixedSource(observed(WEB)))
    answers = Answers(asked.resolver, asked.waits, tuple, clock=lambda: NOW)
    asked.app = application(answers, token="hush")
    with asked.resolver as resolver:
        assert resolver.wait_ready(30)
        yield asked


@pytest.mark.parametrize(
    ("path", "given", "status"),
    [
        ("/v1/endpoints/web", "Bearer hush", 200),
        ("/v1/endpoints/web", "bearer hush", 200),
        ("/v1/endpoints/web", "Basic hush", 401),
        ("/v1/endpoints/web", "Bearer hushed", 401),
        ("/v1/endpoints/web", "Bearer", 401),
        ("/v1/endpoints/web", "", 401),
        ("/nowhere", "", 401),
        ("/health", "", 200),
        ("/ready", "", 200),
    ],
)
def test_a_token_is_asked_for_where_there_is_one(
    asked: Asked, path: str, given: str, status: int
) -> None:
    """For everything but whether it lives and is ready; a refusal is JSON like any error."""
    answer = asked(path, headers={"Authorization": given} if given else None)
    assert answer.status_code == status
    if status == 401:
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.json()["error"]["code"] == "unauthorized"

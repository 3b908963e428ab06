"""Who may ask: a bearer token, where one is set."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from discovery.secret import Secret
from discovery.sidecar.app import Answers, application
from discovery.sources.base import FixedSource
from discovery.sources.secrets import Renewed
from tests.sidecar.asking import Asked
from tests.sidecar.fleet import NOW, WEB, observed


@pytest.fixture
def asked() -> Iterator[Asked]:
    """An application that wants the token `hush`."""
    asked = Asked(FixedSource(observed(WEB)))
    answers = Answers(asked.resolver, asked.waits, tuple, clock=lambda: NOW)
    asked.app = application(answers, token=lambda: "hush")
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


def test_a_token_that_was_renewed_in_its_file_is_asked_for(asked: Asked, tmp_path: Path) -> None:
    """Without a restart; while the file cannot be read the one before is."""
    path = tmp_path / "token"
    path.write_text("first\n")
    answers = Answers(asked.resolver, asked.waits, tuple, clock=lambda: NOW)
    asked.app = application(answers, token=Renewed(Secret(f"file:{path}"), "http_token"))

    def is_taken(token: str) -> bool:
        answer = asked("/v1/services", headers={"Authorization": f"Bearer {token}"})
        return answer.status_code == 200

    assert (is_taken("first"), is_taken("second")) == (True, False)
    path.write_text("second\n")
    assert (is_taken("first"), is_taken("second")) == (False, True)
    path.unlink()
    assert (is_taken("first"), is_taken("second")) == (False, True)

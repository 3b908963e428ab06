"""Answers that are read as they came: the same tasks, errors as ever, and nothing read twice."""

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import botocore.session
import msgspec
import pytest
from botocore.model import Shape
from botocore.parsers import JSONParser

from discovery.ecs.parsing import Parser, ParserFactory
from discovery.ecs.source import EcsSource
from discovery.ecs.tasks import Seen, described, tasks_in
from discovery.local.server import LocalECS
from discovery.settings import Settings
from discovery.written import ClusterSettings
from tests.ecs.documents import binding, container, interface, model, task

CREATED_S = 1_767_323_045.5


def wire(answer: Any, status: int = 200) -> dict[str, Any]:
    """An answer as botocore hands it to a parser."""
    return {"status_code": status, "headers": {}, "body": json.dumps(answer).encode()}


def shape(operation: str) -> Shape:
    """What botocore's model says that the operation answers."""
    found = model("ecs").operation_model(operation).output_shape
    assert found is not None
    return found


def answer() -> dict[str, Any]:
    """Two tasks as they come over the wire: times are numbers."""
    first = task(container("app", binding(8080, 32_768)), createdAt=CREATED_S)
    second = task(container(), number=2, createdAt=CREATED_S, attachments=[interface()])
    return {"tasks": [first, second], "failures": [{"arn": "a", "reason": "MISSING"}]}


def test_tasks_are_those_that_botocores_own_parser_gives() -> None:
    """From the same bytes."""
    ours = Parser().parse(wire(answer()), shape("DescribeTasks"))
    theirs = JSONParser().parse(wire(answer()), shape("DescribeTasks"))
    assert described(ours, Seen()) == tasks_in(theirs) != ()
    assert ours["failures"] == theirs["failures"]
    assert ours["ResponseMetadata"] == theirs["ResponseMetadata"]


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        ("DescribeTasks", {"__type": "ClusterNotFoundException", "message": "no"}),
        ("DescribeTasks", {"tasks": 5}),
        ("ListTasks", []),
        ("DescribeTaskDefinition", {"message": "no", "__type": "ClientException"}),
    ],
)
@pytest.mark.parametrize("status", [200, 400, 500])
def test_whatever_is_no_answer_is_read_as_botocore_reads_it(
    operation: str, said: Any, status: int
) -> None:
    """Errors, and answers of another form; what botocore raises is raised."""

    def outcome(parser: JSONParser) -> object:
        try:
            parsed = parser.parse(wire(said, status), shape(operation))
        except Exception as exc:
            return type(exc)
        return parsed.get("Error"), "tasks" in parsed

    assert outcome(Parser()) == outcome(JSONParser())


def test_null_is_as_good_as_absent() -> None:
    """So that no list is taken for an empty one."""
    parsed = Parser().parse(wire({"taskArns": None, "nextToken": "x"}), shape("ListTasks"))
    assert "taskArns" not in parsed
    assert parsed["nextToken"] == "x"


def test_only_json_answers_are_read_in_this_way() -> None:
    """EC2's are XML."""
    assert isinstance(ParserFactory().create_parser("json"), Parser)
    assert not isinstance(ParserFactory().create_parser("ec2"), JSONParser)


def test_a_task_that_came_as_before_is_the_same_object() -> None:
    """One that changed in any byte is not."""
    seen = Seen()

    def read(document: dict[str, Any]) -> Any:
        (found,) = described({"tasks": [msgspec.Raw(json.dumps(document).encode())]}, seen)
        seen.turn({found.arn: found})
        return found

    document = task(container(), createdAt=CREATED_S)
    first = read(document)
    assert read(document) is first
    changed = read({**document, "connectivity": "DISCONNECTED"})
    assert changed is not first
    assert len(seen.known) == 1


def test_texts_that_many_tasks_have_are_kept_once() -> None:
    """Each would come with each task: 800 bytes of it."""
    texts = [msgspec.Raw(json.dumps(task(number=n, createdAt=1)).encode()) for n in (1, 2)]
    one, other = described({"tasks": texts}, Seen())
    assert one.arn != other.arn
    assert one.definition is other.definition
    assert one.group is other.group


def test_texts_of_tasks_that_are_gone_are_forgotten() -> None:
    """What is remembered is bounded by what runs."""
    seen = Seen()
    described({"tasks": [msgspec.Raw(json.dumps(task(createdAt=1)).encode())]}, seen)
    assert len(seen.known) == 0
    seen.turn({})
    assert not seen.known


@pytest.mark.parametrize("text", [b"5", b"null", b"[]", b'{"taskArn": 7}'])
def test_what_is_no_task_is_left_out(text: bytes) -> None:
    """It is missing then from what was asked for, which is not believed at once."""
    assert described({"tasks": [msgspec.Raw(text)]}, Seen()) == ()


@pytest.fixture
def source(ecs: LocalECS) -> Iterator[EcsSource]:
    """The source of cluster `prod`, with a clock that stands still."""
    ecs.populate("prod", services=3, tasks=30, instances=3)
    with closing(EcsSource(Settings(clusters=(ClusterSettings("prod"),)))) as opened:
        yield opened


def test_services_that_did_not_change_keep_their_endpoints(
    ecs: LocalECS, source: EcsSource
) -> None:
    """The same objects from one read to the next, over real answers."""
    source.load(None)
    while source.load_pending().pending:
        pass
    first, second = (source.load(None).clusters[0].services for _ in range(2))
    assert first == second
    for before, after in zip(first, second, strict=True):
        assert before.endpoints is after.endpoints
        assert before.exclusions is after.exclusions


def test_a_session_uses_this_parser(ecs: LocalECS) -> None:
    """botocore takes it from the session, with credentials, endpoints and errors as ever."""
    session = botocore.session.Session()
    session.register_component("response_parser_factory", ParserFactory())
    client: Any = session.create_client("ecs", region_name="us-east-1", endpoint_url=ecs.url)
    ecs.populate("prod", services=1, tasks=2, instances=1)
    arns = client.list_tasks(cluster="prod")["taskArns"]
    found = client.describe_tasks(cluster="prod", tasks=arns)["tasks"]
    assert [type(each) for each in found] == [msgspec.Raw, msgspec.Raw]
    with pytest.raises(client.exceptions.ClusterNotFoundException):
        client.list_tasks(cluster="nope")
    client.close()

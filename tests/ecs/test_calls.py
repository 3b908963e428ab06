"""Conversations made of calls: pages, several at once, answers in order."""

import pytest

from discovery.ecs.calls import Answer, Batch, Call, Steps, all_of, pages, together
from discovery.errors import SourceMalformed, SourceUnreachable


def call(name: str, service: str = "ecs") -> Call:
    """A call that is told apart by its operation."""
    return Call(name, {"size": 1}, "to test", "group", service)


def ask(name: str, times: int) -> Steps[list[Answer]]:
    """A conversation of some rounds of one call each."""
    got: list[Answer] = []
    for n in range(times):
        got += yield (call(f"{name}{n}"),)
    return got


def test_conversations_at_once_share_batches() -> None:
    """As long as both last; each gets its own answers, and results keep their order."""
    steps = together(ask("a", 1), ask("b", 3), all_of([]))
    sent: list[list[str]] = []
    try:
        batch: Batch = next(steps)
        while True:
            sent.append([c.operation for c in batch])
            batch = steps.send([{"of": c.operation} for c in batch])
    except StopIteration as end:
        results = end.value
    assert sent == [["a0", "b0"], ["b1"], ["b2"]]
    assert results == [[{"of": "a0"}], [{"of": "b0"}, {"of": "b1"}, {"of": "b2"}], []]


def test_pages_follow_tokens_and_keep_parameters() -> None:
    """EC2 and SSM spell the token with a capital."""
    for service, key in (("ecs", "nextToken"), ("ec2", "NextToken")):
        steps = pages(call("List", service))
        (first,) = next(steps)
        (second,) = steps.send([{"items": 1, key: "t"}])
        assert (first.parameters, second.parameters) == ({"size": 1}, {"size": 1, key: "t"})
        try:
            steps.send([{"items": 2}])
        except StopIteration as end:
            listing = end.value
        assert [page["items"] for page in listing.pages] == [1, 2]
        assert (listing.error, listing.is_cut) == (None, False)


def test_an_error_ends_the_pages() -> None:
    """What was read before it is there, and is not the whole."""
    error = SourceUnreachable("no answer")
    steps = pages(call("List"))
    next(steps)
    steps.send([{"nextToken": "t"}])
    try:
        steps.send([error])
    except StopIteration as end:
        listing = end.value
    assert (len(listing.pages), listing.error) == (1, error)


def test_a_limit_cuts_and_says_so() -> None:
    """More pages exist, and were not asked for."""
    steps = pages(call("List"), limit=1)
    next(steps)
    try:
        steps.send([{"nextToken": "t"}])
    except StopIteration as end:
        listing = end.value
    assert (len(listing.pages), listing.is_cut) == (1, True)


@pytest.mark.parametrize("operation", ["ListTasks", "DescribeTasks", "DescribeServices"])
def test_an_answer_without_its_member_is_malformed(operation: str) -> None:
    """Of an answer that was cut off botocore makes an empty one: never an empty list."""
    steps = all_of([call(operation)])
    next(steps)
    try:
        steps.send([{"ResponseMetadata": {}}])
    except StopIteration as end:
        (answer,) = end.value
    assert isinstance(answer, SourceMalformed)

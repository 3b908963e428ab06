"""Which SQS queue is meant, however it is written."""

import re
from dataclasses import dataclass

_URL = re.compile(
    r"https?://(?:sqs[.-](?P<region>[a-z]+(?:-[a-z]+)+-\d+)\.)?[^/\s]+/(?P<account>\d+)/(?P<name>[\w.-]+)"
)
_ARN = re.compile(r"arn:[\w-]+:sqs:(?P<region>[\w-]+):(?P<account>\d+):(?P<name>[\w.-]+)")


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue: its name, and what else is known of it."""

    name: str
    account: str | None = None
    region: str | None = None
    url: str | None = None

    @property
    def arn(self) -> str:
        """Its ARN, with a `*` for what is not known, as policies have it."""
        return f"arn:aws:sqs:{self.region or '*'}:{self.account or '*'}:{self.name}"


def queue_of(written: str) -> Queue:
    """The queue that a setting means, by its URL, ARN or name."""
    if found := _URL.fullmatch(written):
        return Queue(found["name"], found["account"], found["region"], url=written)
    if found := _ARN.fullmatch(written):
        return Queue(found["name"], found["account"], found["region"])
    return Queue(written)

"""Which SQS queue is meant, however it is written."""

import re
from dataclasses import dataclass

_URL = re.compile(
    r"https?://(?:sqs[.-](?P<region>[a-z]+(?:-[a-z]+)+-\d+)\.)?[^/\s]+/(?P<account>\d+)/(?P<name>[\w.-]+)"
)
_ARN = re.compile(
    r"arn:(?P<partition>[\w-]+):sqs:(?P<region>[\w-]+):(?P<account>\d+):(?P<name>[\w.-]+)"
)

_PARTITIONS = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue: its name, and what else is known of it."""

    name: str
    account: str | None = None
    region: str | None = None
    url: str | None = None
    partition: str | None = None

    @property
    def parameters(self) -> dict[str, str]:
        """Those of GetQueueUrl."""
        named = {"QueueName": self.name}
        return named | ({"QueueOwnerAWSAccountId": self.account} if self.account else {})

    @property
    def arn(self) -> str:
        """Its ARN, with a `*` for what is not known, as policies have it."""
        region = self.region or "*"
        partition = self.partition or _partition(region)
        return f"arn:{partition}:sqs:{region}:{self.account or '*'}:{self.name}"


def queue_of(written: str) -> Queue:
    """The queue that a setting means, by its URL, ARN or name."""
    if found := _URL.fullmatch(written):
        return Queue(found["name"], found["account"], found["region"], url=written)
    if found := _ARN.fullmatch(written):
        where = found["account"], found["region"]
        return Queue(found["name"], *where, partition=found["partition"])
    return Queue(written)


def _partition(region: str) -> str:
    return next((name for start, name in _PARTITIONS.items() if region.startswith(start)), "aws")

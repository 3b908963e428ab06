"""SQS queues that EventBridge would feed: every queue gets every event of its account and region.

At least once, and in order only by chance: a message not deleted within its visibility timeout
comes again, and the fault `disorder` shuffles and repeats.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque

from discovery.local.errors import ApiError
from discovery.local.queues import Queue, Stored
from discovery.local.state import Document
from discovery.local.world import World

_BATCH_LIMIT, _WAIT_LIMIT_S = 10, 20
_DEFAULT_VISIBILITY_S = 30.0


def queue_named(world: World, request: Document) -> Queue:
    """The queue of a request's `QueueUrl`."""
    name = str(request.get("QueueUrl") or "").rstrip("/").rsplit("/", 1)[-1]
    found = world.queues.get(name)
    if found is None:
        raise no_queue()
    return found


def no_queue() -> ApiError:
    """The error of an unknown queue, as the JSON protocol names it."""
    return ApiError(
        "com.amazonaws.sqs#QueueDoesNotExist",
        "The specified queue does not exist.",
    )


def create_queue(world: World, request: Document) -> Document:
    """CreateQueue; events that happen from now on arrive in it."""
    name = str(request.get("QueueName"))
    attributes = request.get("Attributes") or {}
    if name not in world.queues:
        url = f"{world.run.url}/{world.state.account}/{name}"
        visibility_s = float(attributes.get("VisibilityTimeout") or _DEFAULT_VISIBILITY_S)
        world.queues[name] = Queue(name, url, visibility_s)
    return {"QueueUrl": world.queues[name].url}


def get_queue_url(world: World, request: Document) -> Document:
    """GetQueueUrl."""
    found = world.queues.get(str(request.get("QueueName")))
    if found is None:
        raise no_queue()
    return {"QueueUrl": found.url}


def list_queues(world: World, request: Document) -> Document:
    """ListQueues."""
    prefix = str(request.get("QueueNamePrefix") or "")
    return {
        "QueueUrls": [each.url for each in world.queues.values() if each.name.startswith(prefix)]
    }


def delete_queue(world: World, request: Document) -> Document:
    """DeleteQueue."""
    del world.queues[queue_named(world, request).name]
    return {}


def purge_queue(world: World, request: Document) -> Document:
    """PurgeQueue."""
    queue_named(world, request).messages.clear()
    return {}


def send_message(world: World, request: Document) -> Document:
    """SendMessage: whatever a test wants a consumer to survive."""
    body = str(request.get("MessageBody"))
    made = queue_named(world, request).put(world.ids, body, world.run.clock())
    return {"MessageId": made.id, "MD5OfMessageBody": _md5(body)}


async def receive_message(world: World, request: Document) -> Document:
    """ReceiveMessage, waiting up to `WaitTimeSeconds` for the first message."""
    queue = queue_named(world, request)
    size = int(request.get("MaxNumberOfMessages") or 1)
    if not 1 <= size <= _BATCH_LIMIT:
        raise ApiError(
            "InvalidParameterValue",
            f"Value {size} for parameter MaxNumberOfMessages is invalid. Reason: Must be between "
            "1 and 10, if provided.",
        )
    wait_s = float(request.get("WaitTimeSeconds") or 0)
    if not 0 <= wait_s <= _WAIT_LIMIT_S:
        raise ApiError(
            "InvalidParameterValue",
            f"Value {wait_s:.0f} for parameter WaitTimeSeconds is invalid. Reason: Must be >= 0 "
            "and <= 20, if provided.",
        )
    until = world.run.clock() + wait_s
    while not (found := _visible(world, queue, size)):
        left_s = until - world.run.clock()
        if left_s <= 0 or world.run.closing.is_set():
            return {}
        await _arrival(world, queue, min(left_s, 0.5))
    visibility = request.get("VisibilityTimeout")
    visibility_s = queue.visibility_s if visibility is None else float(visibility)
    return {"Messages": [_received(world, each, visibility_s) for each in found]}


async def _arrival(world: World, queue: Queue, timeout_s: float) -> None:
    queue.arrived.clear()
    try:
        await asyncio.wait_for(queue.arrived.wait(), timeout_s)
    except TimeoutError:
        return


def _visible(world: World, queue: Queue, size: int) -> list[Stored]:
    now = world.run.clock()
    found = [each for each in queue.messages if each.visible_at <= now]
    if world.run.faults.is_on("disorder"):
        world.run.random.shuffle(found)
    return found[:size]


def _received(world: World, stored: Stored, visibility_s: float) -> Document:
    now = world.run.clock()
    repeated = world.run.faults.is_on("disorder") and not stored.received
    stored.visible_at = now if repeated else now + visibility_s
    stored.received += 1
    stored.first_received_at = stored.first_received_at or now
    receipt = world.ids.hex(64)
    stored.receipts.append(receipt)
    return {
        "MessageId": stored.id,
        "ReceiptHandle": receipt,
        "MD5OfBody": _md5(stored.body),
        "Body": stored.body,
        "Attributes": {
            "SentTimestamp": str(int(stored.sent_at * 1000)),
            "ApproximateReceiveCount": str(stored.received),
            "ApproximateFirstReceiveTimestamp": str(int(stored.first_received_at * 1000)),
            "SenderId": "AIDALOCALECS00000000",
        },
    }


def _md5(body: str) -> str:
    return hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()


def delete_message(world: World, request: Document) -> Document:
    """DeleteMessage: any of its receipt handles will do."""
    queue = queue_named(world, request)
    _delete(queue, str(request.get("ReceiptHandle")))
    return {}


def _delete(queue: Queue, receipt: str) -> None:
    kept = [each for each in queue.messages if receipt not in each.receipts]
    queue.messages = deque(kept)


def delete_message_batch(world: World, request: Document) -> Document:
    """DeleteMessageBatch."""
    queue = queue_named(world, request)
    entries = request.get("Entries") or []
    for entry in entries:
        _delete(queue, str(entry.get("ReceiptHandle")))
    return {"Successful": [{"Id": entry["Id"]} for entry in entries], "Failed": []}


def get_queue_attributes(world: World, request: Document) -> Document:
    """GetQueueAttributes: the ARN, the number of messages and the visibility timeout."""
    queue = queue_named(world, request)
    return {
        "Attributes": {
            "QueueArn": world.ids.arn(queue.name, "sqs"),
            "ApproximateNumberOfMessages": str(len(queue.messages)),
            "VisibilityTimeout": str(int(queue.visibility_s)),
        }
    }


OPERATIONS = {
    "CreateQueue": create_queue,
    "GetQueueUrl": get_queue_url,
    "GetQueueAttributes": get_queue_attributes,
    "ListQueues": list_queues,
    "DeleteQueue": delete_queue,
    "PurgeQueue": purge_queue,
    "SendMessage": send_message,
    "ReceiveMessage": receive_message,
    "DeleteMessage": delete_message,
    "DeleteMessageBatch": delete_message_batch,
}

"""Entity tags: whoever says that it has the content of an index is not sent it again (RFC 9110).

What a tag stands for is the content of a snapshot. An answer that has its age in the body, too, is
never the same octets again, so that its tag is a weak one; the age is in the headers of a 304. A
compressed answer is another representation and has a tag of its own.
"""

import hashlib
from collections.abc import Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from discovery.documents import Document
from discovery.sidecar.feed import takes_gzip


def digest(body: Document) -> str:
    """What a tag has of content that changes without the index."""
    return hashlib.blake2b(msgspec.json.encode(body), digest_size=6).hexdigest()


def tag_of(request: Request, index: int, more: str = "", *, weak: bool = False) -> str:
    """The tag of the answer to this request at an index; `more` is what else it depends on."""
    coding = "-gzip" if takes_gzip(request.headers.get("accept-encoding", "")) else ""
    return f'{"W/" if weak else ""}"{index}{more}{coding}"'


def is_known(request: Request, tag: str) -> bool:
    """Whether `If-None-Match` has this tag, by the weak comparison that it asks for (§13.1.2)."""
    written = request.headers.get("if-none-match", "")
    known = [one.strip().removeprefix("W/") for one in written.split(",")]
    return written.strip() == "*" or tag.removeprefix("W/") in known


def tagged(request: Request, response: Response, tag: str) -> Response:
    """The answer with its tag, or that its client has it already."""
    about: Mapping[str, str] = {"ETag": tag, "Vary": "Accept-Encoding"}
    if is_known(request, tag):
        kept = {k: v for k, v in response.headers.items() if k.startswith("x-discovery-")}
        return Response(status_code=304, headers={**kept, **about})
    response.headers.update(about)
    return response

"""What a task of the end-to-end tests runs: an HTTP server that can be told to fail.

`GET /` answers its process id, and `GET /slowly` after a moment. After `POST /fail` every `GET` is
a 500, and after `POST /work` no more; what is posted elsewhere is a line more in the file that
`POSTED` names. It is killed by SIGTERM at once, in the middle of whatever it does, as many programs
are; only an answer leaves in one piece, since a body that is cut off after its head can be mended
by nobody.
"""

import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers over connections that are kept."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one write
    failing = False

    def do_GET(self) -> None:
        """The process id, or an error."""
        if self.path == "/slowly":
            time.sleep(0.05)
        self._answer(500 if Handler.failing else 200)

    def do_POST(self) -> None:
        """Fail from now on, or work, or take what is posted."""
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path in ("/fail", "/work"):
            Handler.failing = self.path == "/fail"
        else:
            with open(os.environ["POSTED"], "ab", buffering=0) as posted:
                posted.write(body + b"\n")  # one write, so that no other gets in between
        self._answer(200)

    def _answer(self, status: int) -> None:
        body = str(os.getpid()).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Silence."""


class Server(ThreadingHTTPServer):
    """Many connections at once."""

    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    Server((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()

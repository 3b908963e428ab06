"""A headless Chromium for tests, spoken to through its DevTools protocol over two pipes.

https://chromedevtools.github.io/devtools-protocol/
"""

import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PROGRAM = shutil.which("chromium")
PATIENCE_S = 60.0
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    "--remote-debugging-pipe",
)
_KEYS = {"Tab": (9, ""), "Enter": (13, "\r")}


class Browser:
    """One page, from `with` to its end. `home` is a directory of its own."""

    def __init__(self, home: Path) -> None:
        assert PROGRAM is not None, "chromium is not installed"
        self._number = 0
        self._received = b""
        self._session: str | None = None
        self.requested: list[str] = []  # every URL that the page asked for
        self.complaints: list[str] = []  # what it logged: errors, refused content
        (theirs, self._write), (self._read, answers) = os.pipe(), os.pipe()
        # The protocol's pipes are descriptors 3 and 4.
        script = f'exec "$@" 3<&{theirs} 4>&{answers} {theirs}<&- {answers}>&-'
        if {theirs, answers} & {3, 4}:
            raise OSError("descriptors 3 and 4 are wanted for something else")
        self._process = subprocess.Popen(
            ["bash", "-c", script, "sh", PROGRAM, *_FLAGS, f"--user-data-dir={home}"],
            pass_fds=(theirs, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs)
        os.close(answers)

    def __enter__(self) -> Self:
        try:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
            self._session = attached["sessionId"]
            for domain in ("Page", "Runtime", "Network", "Log", "Accessibility"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it with all its processes: they end when their first one does."""
        self._process.kill()
        self._process.wait(PATIENCE_S)
        os.close(self._write)
        os.close(self._read)

    def looks(self, *, width: int = 1280, dark: bool = False) -> None:
        """Be that wide, on a system with that colour scheme."""
        phone = width < 500
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> None:
        """Go there."""
        self.call("Page.navigate", url=url)

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, expression: str) -> Any:
        """The first value that is true."""
        end = time.monotonic() + PATIENCE_S
        while not (value := self.run(expression)):
            assert time.monotonic() < end, f"{expression} is never true in: {self.text}"
        return value

    def until_seen(self, text: str, place: str = "body") -> None:
        """Return when the text can be read in the element of that selector."""
        self.until(f"document.querySelector('{place}')?.innerText.includes({json.dumps(text)})")

    @property
    def text(self) -> str:
        """What a person can read."""
        return str(self.run("document.body?.innerText"))

    def press(self, key: str) -> None:
        """Press and release a key."""
        code, text = _KEYS[key]
        at = {"key": key, "code": key, "windowsVirtualKeyCode": code, "text": text}
        self.call("Input.dispatchKeyEvent", type="keyDown", **at)
        self.call("Input.dispatchKeyEvent", type="keyUp", **at)

    def roles(self) -> dict[str, list[str]]:
        """What a screen reader finds: the names of everything, by role."""
        found: dict[str, list[str]] = {}
        for node in self.call("Accessibility.getFullAXTree")["nodes"]:
            if not node.get("ignored"):
                name = node.get("name", {}).get("value", "")
                found.setdefault(node["role"]["value"], []).append(name)
        return found

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command's result; events that come before it are noted."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._message()).get("id") != self._number:
            self._note(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        match event.get("method"):
            case "Network.requestWillBeSent":
                self.requested.append(parameters["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(str(parameters["exceptionDetails"]))
            case "Log.entryAdded":
                self.complaints.append(parameters["entry"]["text"])

    def _message(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE_S
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            octets = os.read(self._read, 1 << 20) if ready else b""
            assert octets, "chromium does not answer"
            self._received += octets
        first, _, self._received = self._received.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        return message

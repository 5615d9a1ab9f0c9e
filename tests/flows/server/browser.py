"""A real browser: headless Chromium, told what to do over its DevTools protocol, as a person would do it."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.flows.server.service import until

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1400,2400", "--remote-debugging-port=0",
]  # fmt: skip
PATIENCE_SECONDS = 60.0
#: Note what comes to the page; a message may leave it again after seconds.
_LISTEN = """window.heard = []; new MutationObserver(changes => changes.forEach(change =>
    window.heard.push(change.target.textContent))).observe(
    document.body, {childList: true, subtree: true, characterData: true})"""


@dataclass
class Browser:
    """One tab."""

    socket: ClientConnection
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def open(self, url: str) -> None:
        """Go to a page; what its scripts make of it comes later."""
        self._tell("Page.navigate", url=url)

    def text(self) -> str:
        """What can be read on it."""
        return str(self.run("document.body ? document.body.innerText : ''"))

    def reads(self, *wanted: str) -> str:
        """Wait until all of this can be read on the page; returns all that can be."""
        seen: list[str] = []

        def there() -> bool:
            seen[:] = [self.text()]
            return all(text in seen[0] for text in wanted)

        try:
            until(there, "the page", seconds=PATIENCE_SECONDS)
        except AssertionError:
            missing = [text for text in wanted if text not in seen[0]]
            raise AssertionError(f"not to be read on the page: {missing}; but: {seen[0]}") from None
        return seen[0]

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression on the page."""
        answer = self._tell("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, name: str) -> None:
        """Press the button that is called like this, once it can be pressed; from then on `hears` listens."""
        found = f"[...document.querySelectorAll('button')].find(b => b.innerText.trim() === {json.dumps(name)})"
        until(lambda: self.run(f"Boolean({found} && !{found}.disabled)"), f"a button {name}", seconds=PATIENCE_SECONDS)
        self.run(f"{_LISTEN}; {found}.click()")

    def hears(self, wanted: str) -> None:
        """Wait until the page has said this since a button was pressed, be it for a moment."""
        heard = "window.heard.join(' ')"
        try:
            until(lambda: wanted in str(self.run(heard)), "the page", seconds=PATIENCE_SECONDS)
        except AssertionError:
            raise AssertionError(f"the page has not said {wanted!r}, but: {self.run(heard)}") from None

    def _tell(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self.socket.recv(timeout=PATIENCE_SECONDS))
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                result: dict[str, Any] = answer["result"]
                return result


@contextmanager
def browser(chromium: str, profile: Path) -> Iterator[Browser]:
    """Run one while the block runs."""
    with (profile.parent / "chromium.log").open("w") as log:
        process = subprocess.Popen([chromium, *FLAGS, f"--user-data-dir={profile}", "about:blank"], stderr=log)
    try:
        told = profile / "DevToolsActivePort"
        until(lambda: told.is_file() and "\n" in told.read_text(), "the browser", seconds=PATIENCE_SECONDS)
        port = told.read_text().split()[0]
        (tab,) = until(lambda: _tabs(port), "its tab", seconds=PATIENCE_SECONDS)
        with connect(tab["webSocketDebuggerUrl"], max_size=None, open_timeout=PATIENCE_SECONDS) as socket:
            yield Browser(socket)
    finally:
        process.terminate()
        process.wait(timeout=60)


def _tabs(port: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = httpx.get(f"http://127.0.0.1:{port}/json/list", timeout=60).json()
    return [row for row in rows if row["type"] == "page"]

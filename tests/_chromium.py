"""A headless Chromium, driven over its DevTools protocol: just enough for looking at a page."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request, TextMessage

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

DEADLINE = 60.0

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)


class Browser:
    """One page of one Chromium process with a profile of its own in `folder`; a context manager.

    `entries` holds what the browser logged (violations of the policy among it), `requested` every URL.
    """

    def __init__(self, folder: Path) -> None:
        program = shutil.which("chromium") or shutil.which("chromium-browser")
        if program is None:
            if os.environ.get("CI") == "true":
                pytest.fail("chromium is missing")
            pytest.skip("chromium is missing")
        self.entries: list[str] = []
        self.requested: list[str] = []
        self._number = 0
        self._events: list[dict[str, Any]] = []
        self._partial = ""
        self._process = subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._connect(folder / "DevToolsActivePort")
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._process.terminate()
        try:
            self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def open(self, url: str, *, width: int, height: int = 900, dark: bool = False) -> None:
        """Show `url` on a screen of `width` by `height` CSS pixels, and wait until it is loaded."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self._events.clear()
        self.call("Page.navigate", url=url)
        self._loaded()

    def follow(self, expression: str) -> None:
        """Evaluate an expression that leads to another page, and wait until that is loaded."""
        self._events.clear()
        self.evaluate(expression)
        self._loaded()

    def evaluate(self, expression: str) -> Any:  # noqa: ANN401 - any JSON
        """Return the value of a JavaScript expression, asked from outside the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """Save the whole page as PNG."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._number += 1
        number = self._number
        text = json.dumps({"id": number, "method": method, "params": parameters})
        self._socket.sendall(self._protocol.send(TextMessage(text)))
        deadline = time.monotonic() + DEADLINE
        while True:
            for answer in self._receive(deadline):
                if answer.get("id") == number:
                    assert "error" not in answer, answer
                    return answer["result"]

    def _loaded(self) -> None:
        deadline = time.monotonic() + DEADLINE
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._receive(deadline)

    def _connect(self, port_file: Path) -> None:
        deadline = time.monotonic() + DEADLINE
        while not (port_file.exists() and port_file.read_text().count("\n")):
            assert time.monotonic() < deadline, "chromium does not start"
            assert self._process.poll() is None, "chromium ended"
            time.sleep(0.05)
        port = int(port_file.read_text().split("\n")[0])
        targets: list[dict[str, str]] = []
        while not targets:
            assert time.monotonic() < deadline, "chromium has no page"
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=DEADLINE) as answer:
                targets = [target for target in json.load(answer) if target["type"] == "page"]
        self._socket = socket.create_connection(("127.0.0.1", port), DEADLINE)
        self._protocol = WSConnection(ConnectionType.CLIENT)
        path = urllib.parse.urlsplit(targets[0]["webSocketDebuggerUrl"]).path
        self._socket.sendall(self._protocol.send(Request(host=f"127.0.0.1:{port}", target=path)))
        self._accepted = False
        while not self._accepted:
            self._receive(deadline)
        for domain in ("Page", "Log", "Runtime", "Network"):
            self.call(f"{domain}.enable")

    def _receive(self, deadline: float) -> list[dict[str, Any]]:
        """Read once; keep the events, and return the answers."""
        self._socket.settimeout(max(0.01, deadline - time.monotonic()))
        data = self._socket.recv(1 << 16)
        assert data, "chromium closed the connection"
        self._protocol.receive_data(data)
        answers = []
        for event in self._protocol.events():
            if isinstance(event, AcceptConnection):
                self._accepted = True
            elif isinstance(event, TextMessage):
                self._partial += event.data
                if event.message_finished:
                    message = json.loads(self._partial)
                    self._partial = ""
                    answers += [message] if "id" in message else []
                    self._note(message)
        return answers

    def _note(self, message: dict[str, Any]) -> None:
        method = message.get("method")
        if method is None:
            return
        self._events.append(message)
        if method == "Log.entryAdded":
            self.entries.append(message["params"]["entry"]["text"])
        elif method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            self.entries.append(json.dumps(message["params"]))
        elif method == "Network.requestWillBeSent":
            self.requested.append(message["params"]["request"]["url"])

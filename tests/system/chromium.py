"""Chromium without a window, driven through its pipe of the DevTools protocol: what a page shows, logs and asks for."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
LIMIT_S = 60.0
# Chromium reads commands from descriptor 3 and writes answers to 4; the given ones may have any number.
ON_PIPES = """
import fcntl, os, sys
reads, writes = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(reads, 3)
os.dup2(writes, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find_chromium() -> str | None:
    """The program, if it is installed."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page in Chromium; use it in a ``with``."""

    def __init__(self, program: str) -> None:
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        reads, to_browser = os.pipe()
        from_browser, writes = os.pipe()
        options = (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
        )
        start = [sys.executable, "-c", ON_PIPES, str(reads), str(writes), program, *options]
        self.process = subprocess.Popen(
            [*start, f"--user-data-dir={self.profile.name}", "--remote-debugging-pipe"],
            pass_fds=(reads, writes),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(reads)
        os.close(writes)
        self.writer, self.reader = to_browser, from_browser
        self.buffer, self.last, self.session = b"", 0, None
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Log", "Runtime", "Network"):
            self.ask(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(LIMIT_S)
        os.close(self.writer)
        os.close(self.reader)
        self.profile.cleanup()

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command, and return its answer; events that arrive meanwhile are kept."""
        self.last += 1
        session = {} if self.session is None else {"sessionId": self.session}
        message = {"id": self.last, "method": method, "params": parameters, **session}
        os.write(self.writer, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self.last:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            assert select.select([self.reader], [], [], LIMIT_S)[0], "Chromium does not answer"
            self.buffer += os.read(self.reader, 1 << 20)
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def open(self, file: Path, width: int, *, dark: bool = False, media: str = "screen", calm: bool = False) -> None:
        """Load a file at a width in CSS pixels."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if calm else "no-preference"},
        ]
        self.ask("Emulation.setEmulatedMedia", media=media, features=features)
        self.events.clear()
        self.ask("Page.navigate", url=file.absolute().as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def value(self, script: str) -> Any:
        """Evaluate an expression of JavaScript in the page; the policy of the page does not hold for it."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    @property
    def messages(self) -> list[str]:
        """What the console shows since the page was opened."""
        self.ask("Runtime.evaluate", expression="0")  # so that every event before it has arrived
        logs = [e["params"]["entry"]["text"] for e in self.events if e["method"] == "Log.entryAdded"]
        errors = [
            str(e["params"])
            for e in self.events
            if e["method"] in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        ]
        return logs + errors

    @property
    def requests(self) -> list[str]:
        """The addresses that the page asked for since it was opened."""
        self.ask("Runtime.evaluate", expression="0")
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]

    def screenshot(self, file: Path) -> None:
        """Draw the whole page."""
        found = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(found["data"]))

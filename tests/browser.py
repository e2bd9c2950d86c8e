"""A headless Chromium without a network, driven over the pipe of its DevTools protocol; no driver package is needed."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE_S = 60.0


def find() -> str | None:
    """Chromium's or Chrome's path, None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page; `messages` are console and log entries, `requests` the addresses asked for, in order."""

    def __init__(self, profile: Path, width: int, height: int = 900, dark: bool = False) -> None:
        self.messages: list[str] = []
        self.requests: list[str] = []
        self._number, self._left = 0, b""
        reads, theirs_writes = os.pipe()
        theirs_reads, self._writes = os.pipe()
        self._reads = reads
        # The program reads commands from descriptor 3 and writes answers to 4, whatever these were here.
        shell = f'exec "$@" 3<&{theirs_reads} 4>&{theirs_writes}'
        program = [find() or "", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        program += ["--remote-debugging-pipe", f"--user-data-dir={profile}", "--no-first-run"]
        program += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        program += ["--host-resolver-rules=MAP * ~NOTFOUND", "--hide-scrollbars", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *program],
            pass_fds=(theirs_reads, theirs_writes),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_reads)
        os.close(theirs_writes)
        target = self._call("Target.createTarget", {"url": "about:blank"}, None)["targetId"]
        self._session = self._call("Target.attachToTarget", {"targetId": target, "flatten": True}, None)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")
        offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        self.call("Network.emulateNetworkConditions", offline)
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", screen)
        if dark:
            scheme = {"name": "prefers-color-scheme", "value": "dark"}
            self.call("Emulation.setEmulatedMedia", {"features": [scheme]})

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError, AssertionError):
            self._send("Browser.close", {}, None)
        for descriptor in (self._writes, self._reads):
            os.close(descriptor)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def open(self, page: Path) -> None:
        """Load a file and wait until everything in it is there."""
        self.call("Page.navigate", {"url": page.resolve().as_uri()})
        end = time.monotonic() + PATIENCE_S
        while self.evaluate("document.readyState + location.protocol") != "completefile:":
            assert time.monotonic() < end, f"{page} did not load"
            time.sleep(0.05)
        self.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; promises are waited for."""
        wanted = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        outcome = self.call("Runtime.evaluate", wanted)
        assert "exceptionDetails" not in outcome, outcome["exceptionDetails"]
        return outcome["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """The whole page, as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        taken = self.call("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        path.write_bytes(base64.b64decode(taken["data"]))

    def pdf(self, path: Path) -> None:
        """The page as printed."""
        printed = self.call("Page.printToPDF", {"printBackground": True, "preferCSSPageSize": True})
        path.write_bytes(base64.b64decode(printed["data"]))

    def call(self, method: str, values: dict[str, Any] | None = None) -> dict[str, Any]:
        return self._call(method, values or {}, self._session)

    def _send(self, method: str, values: dict[str, Any], session: str | None) -> int:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": values}
        if session:
            message["sessionId"] = session
        os.write(self._writes, json.dumps(message).encode() + b"\0")
        return self._number

    def _call(self, method: str, values: dict[str, Any], session: str | None) -> dict[str, Any]:
        number = self._send(method, values, session)
        end = time.monotonic() + PATIENCE_S
        while True:
            answer = self._receive(end)
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer.get('error')}"
                return answer["result"]
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        values = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(values["request"]["url"])
        elif event.get("method") == "Log.entryAdded":
            self.messages.append(values["entry"]["text"])
        elif event.get("method") == "Runtime.consoleAPICalled":
            self.messages.append(" ".join(str(part.get("value")) for part in values["args"]))
        elif event.get("method") == "Runtime.exceptionThrown":
            self.messages.append(str(values["exceptionDetails"]))

    def _receive(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._left:
            ready, _, _ = select.select([self._reads], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            part = os.read(self._reads, 1 << 20)
            assert part, "the browser has ended"
            self._left += part
        message, _, self._left = self._left.partition(b"\0")
        return json.loads(message)

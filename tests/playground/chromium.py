"""A headless Chromium, driven over the DevTools protocol through a pipe: no port, and no package.

    browser ──▶ fd 3: {"id": 1, "method": …}\\0        fd 4 ──▶ {"id": 1, "result": …}\\0 and events

What a page did wrong (an exception, a violation of its policy, a request that failed) is an event, and is kept in
`complaints`: a test ends with looking at them.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-pipe",
)  # fmt: skip
ANSWER_S = 60.0
KEYS = {"Enter": "\r", "Tab": "\t"}

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """One browser with one page."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        read_theirs, self._write = os.pipe()
        self._read, write_theirs = os.pipe()
        # Out of the way of 3 and 4, which are the browser's.
        theirs = [os.dup2(fd, at) for fd, at in ((read_theirs, 103), (write_theirs, 104))]
        os.close(read_theirs)
        os.close(write_theirs)

        def arrange() -> None:
            os.dup2(theirs[0], 3)
            os.dup2(theirs[1], 4)

        self._process = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=arrange, pass_fds=(3, 4, *theirs), start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for fd in theirs:
            os.close(fd)
        self._numbers = itertools.count(1)
        self._buffer = b""
        self._session = ""
        self.complaints: list[str] = []
        self.requests: list[str] = []
        targets = self.send("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its own session: the browser and its children
        self._process.wait()
        os.close(self._read)
        os.close(self._write)

    # The protocol.

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + ANSWER_S
        while True:
            told = self._receive(deadline)
            if told.get("id") == number:
                assert "error" not in told, (method, told["error"])
                return dict(told["result"])
            self._hear(told)

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            octets = os.read(self._read, 1 << 20)
            assert octets, "the browser is gone"
            self._buffer += octets
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))

    def _hear(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                self.complaints.append(details.get("exception", {}).get("description") or details["text"])
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "assert"):
                self.complaints.append(str([one.get("value") for one in params["args"]]))
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])

    # The page.

    def open(self, url: str, *, width: int = 1440, height: int = 900, scheme: str = "light") -> None:
        self.look(width, height, scheme)
        self.send("Page.navigate", url=url)

    def look(self, width: int, height: int, scheme: str) -> None:
        """From now on the window is so large, and the person likes it light or dark."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; of a promise, once it is there."""
        found = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str, what: str, within_s: float = 20.0) -> Any:
        """The value of an expression once it is true."""
        deadline = time.monotonic() + within_s
        look = f"const found = {expression}; done(found instanceof Node || found);"
        script = f"new Promise(done => requestAnimationFrame(() => {{ {look} }}))"
        while not (value := self.evaluate(script)):
            assert time.monotonic() < deadline, f"{what}: not within {within_s:g} s; {self.complaints}"
        return value

    def text(self, selector: str) -> str:
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def texts(self, selector: str) -> list[str]:
        script = f"[...document.querySelectorAll({json.dumps(selector)})].filter(e => !e.hidden).map(e => e.innerText)"
        return list(self.evaluate(script))

    def click(self, selector: str) -> None:
        """Click where it is on the screen, as a hand would."""
        where = self.evaluate(
            f"(e => {{ e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect();"
            f"return [r.x + r.width / 2, r.y + r.height / 2]; }})(document.querySelector({json.dumps(selector)}))"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=where[0], y=where[1], button="left", clickCount=1)

    def press(self, key: str, modifiers: int = 0) -> None:
        """A key on the keyboard; modifiers: 1 alt, 2 ctrl, 8 shift."""
        text = KEYS.get(key, key if len(key) == 1 else "")
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40,
                 "End": 35, "Home": 36}  # fmt: skip
        about = {"key": key, "code": key, "modifiers": modifiers, "windowsVirtualKeyCode": codes.get(key, 0)}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        self.send("Input.dispatchKeyEvent", type="keyUp", **about)

    def fill(self, selector: str, text: str) -> None:
        """Replace what is in a field, as if it was typed."""
        self.evaluate(f"(e => {{ e.focus(); e.select(); }})(document.querySelector({json.dumps(selector)}))")
        self.send("Input.insertText", text=text)

    def choose(self, selector: str, value: str) -> None:
        """Choose an option, or move a slider."""
        self.evaluate(
            f"(e => {{ e.value = {json.dumps(value)}; for (const kind of ['input', 'change'])"
            f"e.dispatchEvent(new Event(kind, {{bubbles: true}})); }})(document.querySelector({json.dumps(selector)}))"
        )

    def screenshot(self, path: Path) -> bytes:
        octets = base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])
        path.write_bytes(octets)
        return octets


@contextlib.contextmanager
def open_browser(profile: Path) -> Iterator[Browser]:
    browser = Browser(profile)
    try:
        yield browser
    finally:
        browser.close()

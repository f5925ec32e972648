"""Headless Chromium for tests of pages, driven by the DevTools protocol over two pipes.

The browser is that of the system (Debian's package `chromium`); no package for Python is needed.
It is the real keyboard and the real layout that a page gets, and every request, message and error
is seen.
"""

import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from base64 import b64decode
from pathlib import Path
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--no-default-browser-check", "--disable-sync", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-extensions"),
    "--remote-debugging-pipe",
)
KEYS = {"Tab": 9, "Enter": 13, " ": 32, "End": 35, "Home": 36, "ArrowRight": 39, "ArrowLeft": 37}
SECONDS = 60.0


def find_chromium() -> str:
    """Return the path of the browser; these tests are never skipped."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    raise FileNotFoundError(
        f"chromium: expected one of {', '.join(NAMES)} on PATH, got none; "
        "install it, on Debian by `apt-get install chromium`"
    )


class Browser:
    """One browser with one page; `with Browser() as browser: browser.open(path)`."""

    def __init__(self) -> None:
        self._profile = tempfile.mkdtemp(prefix="gat-jax-chromium-")
        # High numbers, so that neither is 3 or 4, which the browser reads from and writes to.
        theirs_in, self._out = self._pipe()
        self._in, theirs_out = self._pipe()
        self._process = subprocess.Popen(
            [
                *("bash", "-c", f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}', find_chromium()),
                *(*FLAGS, f"--user-data-dir={self._profile}", "about:blank"),
            ],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._rest, self._next = b"", 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    @staticmethod
    def _pipe() -> tuple[int, int]:
        ends = os.pipe()
        high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 50) for end in ends]
        for end in ends:
            os.close(end)
        return high[0], high[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._out)
        os.close(self._in)
        shutil.rmtree(self._profile, ignore_errors=True)

    # --- the protocol -------------------------------------------------------------------------

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol, and return its result; events on the way are kept."""
        self._next += 1
        message: dict[str, Any] = {"id": self._next, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        rest = json.dumps(message).encode() + b"\0"
        while rest:
            rest = rest[os.write(self._out, rest) :]
        end = time.monotonic() + SECONDS
        while True:
            answer = self._read(end)
            if answer.get("id") == self._next:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def _read(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, *_ = select.select([self._in], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"chromium: expected an answer within {SECONDS:.0f} s, got none"
            part = os.read(self._in, 1 << 20)
            assert part, "chromium: expected an answer, but it has ended"
            self._rest += part
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    # --- a page ---------------------------------------------------------------------------------

    def open(
        self, path: Path, *, width: int = 1280, height: int = 900, theme: str = "light"
    ) -> None:
        """Load a file in a window of this size, in CSS pixels, and wait until it is there."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2,
            mobile=width < 500,
        )
        feature = {"name": "prefers-color-scheme", "value": theme}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        self.events.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        end = time.monotonic() + SECONDS
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read(end))

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, which JSON can hold; waits for promises."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key and let it go, as a user does."""
        text = {"Enter": "\r", " ": " "}.get(key)
        code = "Space" if key == " " else key
        options = {"key": key, "code": code, "windowsVirtualKeyCode": KEYS[key]}
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        self.call("Input.dispatchKeyEvent", **down, **options)
        self.call("Input.dispatchKeyEvent", type="keyUp", **options)

    def screenshot(self, path: Path, *, is_whole: bool = True, scale: float = 1.0) -> None:
        """Write what the page looks like as a PNG file: all of it, or the window."""
        size = self.call("Page.getLayoutMetrics")
        area = size["cssContentSize"] if is_whole else size["cssLayoutViewport"]
        clip = {
            "x": 0,
            "y": 0,
            "width": area.get("width", area.get("clientWidth")),
            "height": area.get("height", area.get("clientHeight")),
            "scale": scale,
        }
        picture = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=is_whole)
        path.write_bytes(b64decode(picture["data"]))

    def requests(self) -> list[str]:
        """Return the addresses of all that the page asked for since it was opened."""
        self.evaluate("0")  # reads what is waiting
        sent = [e for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]

    def complaints(self) -> list[str]:
        """Return messages of the console, errors and warnings since the page was opened."""
        self.evaluate("0")
        names = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(e["params"]) for e in self.events if e.get("method") in names]

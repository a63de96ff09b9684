"""Headless Chromium, by the W3C WebDriver protocol that its chromedriver speaks.

https://www.w3.org/TR/webdriver2/ is JSON over HTTP: the few commands here need no library.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

_OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # which root may not have
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
)
_LONG = 60.0


def why_not() -> str:
    """Why there is no browser here, or an empty string."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    if not missing:
        return ""
    return f"{' and '.join(missing)} not found; apt-get install chromium chromium-driver"


class Browser:
    """A browser of its own, with a new profile, as a context manager. Its methods block."""

    def __init__(self, width: int = 1200, height: int = 800) -> None:
        self._size = f"--window-size={width},{height}"
        self._stack = ExitStack()

    def __enter__(self) -> Browser:
        with ExitStack() as stack:
            profile = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            driver = subprocess.Popen(
                ["chromedriver", "--port=0"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "HOME": profile, "TMPDIR": profile},
            )
            stack.callback(_end, driver)
            self._port = _port_of(driver)
            self._path = ""
            options = [*_OPTIONS, self._size, f"--user-data-dir={profile}/profile"]
            wanted = {
                "goog:chromeOptions": {"args": options},
                "goog:loggingPrefs": {"browser": "ALL"},
            }
            session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self._path = f"/session/{session['sessionId']}"
            stack.callback(self._ask, "DELETE", "")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._stack.close()

    def open(self, url: str) -> None:
        self._ask("POST", "/url", {"url": url})

    def url(self) -> str:
        return str(self._ask("GET", "/url"))

    def run(self, script: str, *args: Any) -> Any:
        """What ``script``, the body of a JavaScript function, returns."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": args})

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).innerText", selector))

    def screenshot(self) -> bytes:
        """A PNG of what the window shows."""
        return base64.b64decode(self._ask("GET", "/screenshot"))

    def devtools(self, command: str, **parameters: Any) -> Any:
        body = {"cmd": command, "params": parameters}
        return self._ask("POST", "/goog/cdp/execute", body)

    def errors(self) -> list[str]:
        """What the console has told of errors since the last look."""
        told = self._ask("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in told if entry["level"] == "SEVERE"]

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=_LONG)
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, self._path + path, sent, {"Connection": "close"})
            value = json.load(connection.getresponse())["value"]
        finally:
            connection.close()
        if isinstance(value, dict) and "error" in value:
            raise RuntimeError(f"{value['error']}: {value['message']}")
        return value


def _port_of(driver: subprocess.Popen[bytes]) -> int:
    assert driver.stdout is not None
    for line in driver.stdout:
        _, found, after = line.partition(b"started successfully on port ")
        if found:
            return int(after.strip().rstrip(b"."))
    raise RuntimeError(f"chromedriver ended with code {driver.wait()}")


def _end(driver: subprocess.Popen[bytes]) -> None:
    """Once the session is deleted, no browser is left."""
    driver.terminate()
    driver.wait(_LONG)
    assert driver.stdout is not None
    driver.stdout.close()

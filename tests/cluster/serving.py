"""`loopworkers serve` as a child of the tests, and an application for it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psutil
from contract_help import LONG, ROOT, eventually_sync

if TYPE_CHECKING:
    import http.client
    from pathlib import Path

APP = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        with open("started", "a") as file:
            file.write("x")
        if True:
            await send({"type": "lifespan.startup.complete"})
        await receive()
        with open("stopped", "a") as file:
            file.write("x")
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = b"hello 1"
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""


SLOW_APP = APP.replace(
    '    body = b"hello 1"\n',
    """
    body = b"hello 1"
    open("asked", "w").close()
    while not os.path.exists("go"):
        await asyncio.sleep(0.005)
""",
).replace("\n", "\nimport asyncio, os\n", 1)


def get(connection: http.client.HTTPConnection) -> str:
    connection.request("GET", "/")
    answer = connection.getresponse()
    text = answer.read().decode()
    assert answer.status == 200, text
    return text


class Served:
    """The program, in ``folder``; leaving the block ends it, and its workers are gone."""

    def __init__(
        self, folder: Path, *options: str, app: str = "app:app", bind: str = "127.0.0.1:0"
    ) -> None:
        command = [sys.executable, "-m", "loopworkers", "serve", app, "--bind", bind, *options]
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join((ROOT, str(folder)))}
        # An edit within the same second and of the same length would be read from the cache.
        environ["PYTHONDONTWRITEBYTECODE"] = "1"
        self._log = folder / "log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command, cwd=folder, env=environ, stdout=log, stderr=log
            )
        self._family: list[psutil.Process] = []
        self.port = 0

    def __enter__(self) -> Served:
        if self.until(r"serving |^error: ", or_ended=True):
            self._family = psutil.Process(self._process.pid).children(recursive=True)
            if found := re.search(r"serving \S+ on https?://127\.0\.0\.1:(\d+)", self.said()):
                self.port = int(found[1])
        return self

    def __exit__(self, *_: Any) -> None:
        try:
            if self._process.poll() is None:
                self._process.terminate()
            assert self.wait() is not None
            assert eventually_sync(lambda: not any(p.is_running() for p in self._family))
        finally:
            self._process.kill()
            self._process.wait()

    def said(self) -> str:
        return self._log.read_text()

    def until(self, pattern: str, times: int = 1, *, or_ended: bool = False) -> bool:
        """Wait until it has said so; whether it has."""

        def has_said() -> bool:
            return len(re.findall(pattern, self.said(), re.MULTILINE)) >= times

        eventually_sync(lambda: has_said() or self._process.poll() is not None)
        assert has_said() or or_ended, self.said()
        return has_said() and self._process.poll() is None

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        """Its exit code."""
        return self._process.wait(LONG)

    def get(self) -> str:
        import http.client

        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONG)
        try:
            return get(connection)
        finally:
            connection.close()

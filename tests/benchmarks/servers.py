"""Servers to put under load: each a process group of its own, on a free port of the loopback."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import Any

from .players import OutOfPlayError, environment

APP = "benchmarks.asgi_app:app"
CONNECTIONS = 16
_START = 20.0
# The same HTTP parser and event loop for all.
_OPTIONS = ["--http", "httptools", "--log-level", "error"]
_UVICORN = ["-m", "uvicorn", APP, "--loop", "asyncio", "--no-access-log", *_OPTIONS]
_OURS = ["-m", "loopworkers", "serve", APP, *_OPTIONS]


class Server:
    """Runs inside a ``with`` block.

    Args:
        key: "uvicorn", or one of our policies.
        options: of the command line, the same for both: ``--workers 2``.
        apart: from the load, in a session of its own. Linux gives each session the same share of
            the processors (`sched_autogroup`), else each process.
    """

    def __init__(self, key: str, *options: str, apart: bool = True) -> None:
        for module in ("uvicorn", "httptools"):
            if importlib.util.find_spec(module) is None:
                raise OutOfPlayError(f"{module} is not installed")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        if key == "uvicorn":
            command = [*_UVICORN, "--port", str(self.port), *options]
        else:
            command = [*_OURS, "--bind", f"127.0.0.1:{self.port}", "--policy", key, *options]
        self._process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment(),
            start_new_session=apart,
            process_group=None if apart else 0,
        )

    def __enter__(self) -> Server:
        end = time.monotonic() + _START
        while True:
            try:
                get(self.port)
                time.sleep(0.5)  # the others are not late by much
                return self
            except OSError:
                if self._process.poll() is not None or time.monotonic() > end:
                    self.__exit__()
                    raise OutOfPlayError("the server did not start") from None
                time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        # By its group, which is ours as long as it is not reaped.
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def get(port: int, path: str = "/") -> bytes:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def rate(port: int, path: str, seconds: int, *, keep_alive: bool) -> dict[str, Any]:
    """Requests a second that wrk gets answered."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise OutOfPlayError("wrk is not installed: the load generator")
    command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{seconds}"]
    if not keep_alive:
        command += ["-H", "Connection: close"]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{port}{path}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 20,
    )
    found = re.search(r"Requests/sec:\s*([\d.]+)", done.stdout)
    if found is None or "Non-2xx" in done.stdout:
        raise OutOfPlayError(f"wrk got no answers: {(done.stderr or done.stdout)[-120:]!r}")
    return {"rate": float(found[1])}

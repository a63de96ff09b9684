"""Tasks, and what the tests look at the system with."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from joblib.parallel import get_active_backend

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]


def worker(_: Any = None) -> int:
    """Long enough for each of two workers to get some of a few."""
    time.sleep(0.02)
    return os.getpid()


def hold(folder: str, end: str = "end") -> str:
    """Say so and wait until told to go on."""
    Path(folder, f"begun-{os.getpid()}").touch()
    while not Path(folder, end).exists():
        time.sleep(0.005)
    return "held"


def begun(folder: Path) -> list[int]:
    return [int(path.name.split("-")[1]) for path in folder.glob("begun-*")]


def active_backend(_: Any = None) -> str:
    return type(get_active_backend()[0]).__name__


def variable(name: str) -> str | None:
    return os.environ.get(name)


def eventually(check: Callable[[], Any], what: str, timeout: float = 30.0) -> Any:
    deadline = time.monotonic() + timeout
    while not (value := check()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.01)
    return value


def start_script(source: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def run_script(source: str, *arguments: str, timeout: float = 100.0) -> str:
    """What it prints; it must end by itself, well, and without a word on stderr."""
    with start_script(source, *arguments) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
    assert (process.returncode, err) == (0, "")
    return out

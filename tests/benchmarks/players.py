"""Starts contenders' processes, asks them for rounds, ends them: the measuring side's end."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .contenders import Contender

HERE = Path(__file__).resolve().parent
MARK = "\x1e"  # as in player.py and bench.mjs
_CODE = "from benchmarks.player import main; main()"


class OutOfPlayError(Exception):
    """A contender that cannot take part (any more), and why."""


def environment() -> dict[str, str]:
    """For every process started here: the checkout's package, and `benchmarks`, by name.

    In PYTHONPATH and not in sys.path, because isolates and spawned workers get only the former.
    """
    paths = [str(HERE.parent), str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")]
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    # Installed peers come compiled: without this a checkout would be compiled at each start.
    found.pop("PYTHONDONTWRITEBYTECODE", None)
    return found


class Player:
    """One contender in a process (and a process group) of its own."""

    def __init__(self, contender: Contender, node: list[str] | None = None) -> None:
        command = [*(node or []), contender.key] if contender.node else []
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._process = subprocess.Popen(
            command or [sys.executable, "-c", _CODE, contender.key],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment(),
            cwd=HERE,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # so that whatever it leaves behind can be ended with it
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._is_ready = False

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            # A worker's print without a line's end may stand before the mark.
            _, mark, message = line.partition(MARK)
            if mark:
                self._lines.put(message)
        self._lines.put(None)

    def _last_words(self) -> str:
        self._end()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:160] if lines else f"exit code {self._process.returncode}"

    def _answer(self, seconds: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            raise OutOfPlayError(f"no answer within {seconds:.0f} s") from None
        if line is None:
            raise OutOfPlayError(f"its process ended: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise OutOfPlayError(answer["error"])
        return answer

    def wait_ready(self) -> None:
        """Its imports are done and its loop runs."""
        if not self._is_ready:
            self._answer(30)
            self._is_ready = True

    def ask(self, round_name: str, params: dict[str, Any], seconds: float) -> dict[str, Any]:
        """One round, or OutOfPlayError."""
        self.wait_ready()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"round": round_name, "params": params}) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise OutOfPlayError(f"its process ended: {self._last_words()}") from None
        figures: dict[str, Any] = self._answer(seconds)["figures"]
        return figures

    def close(self, seconds: float = 5.0) -> None:
        """Let it leave by itself, then end whatever of its group is still there."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._reader.join(seconds)  # ends when the last of its processes has closed its output
        self._end()
        self._reader.join(1)
        self._errors.close()

    def _end(self) -> None:
        # Its group first: as long as it isn't reaped, nobody else can have got that number.
        if self._process.returncode is None and hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()

"""Waiting for events, running scripts, and looking at what a test has left behind."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import loopworkers

if TYPE_CHECKING:
    from collections.abc import Callable

LONG = 30.0  # a deadline that is reached only when something is broken
ROOT = str(Path(loopworkers.__file__).parents[1])
HERE = str(Path(__file__).parent)

no_isolates = pytest.mark.skipif(
    sys.version_info < (3, 14), reason="isolates need CPython 3.14 or newer"
)
# Topics that no loop has a part in are not repeated on uvloop.
on_two_loops = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])
on_uvloop_and_trio = pytest.mark.parametrize(
    "anyio_backend",
    [("asyncio", {"use_uvloop": find_spec("uvloop") is not None}), ("trio", {})],
    ids=["uvloop", "trio"],
)
on_both_asyncios = pytest.mark.parametrize(
    "anyio_backend",
    [
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(
            ("asyncio", {"use_uvloop": True}),
            id="uvloop",
            marks=pytest.mark.skipif(
                find_spec("uvloop") is None, reason="uvloop has no wheel here"
            ),
        ),
    ],
)


def KindParams(*kinds: str) -> list[Any]:
    return [pytest.param(k, marks=[no_isolates] if k == "isolate" else []) for k in kinds]


# --- waiting -------------------------------------------------------------------------------------


async def eventually(condition: Callable[[], Any], what: str = "", within: float = LONG) -> Any:
    """Wait until ``condition()`` is true, and return it; fail after a generous time."""
    deadline = monotonic() + within
    while not (value := condition()):
        assert monotonic() < deadline, f"did not happen within {within} s: {what or condition}"
        await anyio.sleep(0.002)
    return value


def eventually_sync(condition: Callable[[], Any], within: float = LONG) -> Any:
    deadline = monotonic() + within
    collect_at = monotonic() + 0.1  # seldom needed, and slow
    while not (value := condition()) and monotonic() < deadline:
        if monotonic() > collect_at:
            gc.collect()
        sleep(0.003)
    return value


class Gate:
    """Calls of `contract_work.hold` wait at it; files, so that it serves every kind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def __str__(self) -> str:
        return str(self.folder)

    def open(self) -> None:
        (self.folder / "open").touch()

    def count(self, what: str) -> int:
        """How many calls have "begun" or "ended"."""
        try:
            return len((self.folder / what).read_bytes())
        except FileNotFoundError:
            return 0

    async def begun(self, calls: int = 1) -> None:
        await eventually(lambda: self.count("begun") >= calls, f"{calls} calls have begun")


# --- what is left --------------------------------------------------------------------------------


_NAMES_OF_OURS = ("loopworkers", "psm_", "pym-", "sem.mp-")


@dataclass(frozen=True)
class Surroundings:
    children: frozenset[str]
    threads: frozenset[str]
    descriptors: frozenset[str]
    shared_memory: frozenset[str]

    @classmethod
    def now(cls) -> Surroundings:
        import psutil  # not for isolates, which load this module for a test's own functions

        children = psutil.Process().children(recursive=True)
        return cls(
            frozenset(f"{child.pid} {_command(child)}" for child in children),
            frozenset(_names_in("/proc/self/task")) - _threads_of_trio(),
            frozenset(f"{fd} {_target(fd)}" for fd in _names_in("/proc/self/fd") if _target(fd)),
            # By the names that this library or multiprocessing would give: others run here, too.
            frozenset(n for n in _names_in("/dev/shm") if n.startswith(_NAMES_OF_OURS)),
        )

    def beyond(self, before: Surroundings) -> dict[str, list[str]]:
        return {
            name: sorted(more)
            for name in self.__dataclass_fields__
            if (more := getattr(self, name) - getattr(before, name))
        }


def _names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _threads_of_trio() -> set[str]:
    # anyio runs trio tests in guest mode, whose thread trio keeps for ten seconds.
    return {str(t.native_id) for t in threading.enumerate() if t.name.lower().startswith("trio")}


def _target(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:  # the one that the listing itself used
        return ""


def _command(process: Any) -> str:
    try:
        return " ".join(process.cmdline())[:80]
    except Exception:
        return "(ended, not reaped)"


# --- scripts -------------------------------------------------------------------------------------

WAYS = ("python script.py", "python - <script.py", "python -c script", "python -m script")


def run_script(
    text: str, folder: Path, *, way: str = WAYS[0], args: tuple[str, ...] = (), **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run ``text`` as the main program of a fresh interpreter."""
    command = [sys.executable, "-W", "error"]
    given = None
    if way == WAYS[1]:
        command.append("-")
        given = text
    elif way == WAYS[2]:
        command += ["-c", text]
    else:
        (folder / "script.py").write_text(text)
        command += ["-m", "script"] if way == WAYS[3] else [str(folder / "script.py")]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join((ROOT, HERE))}
    return subprocess.run(
        [*command, *args], input=given, cwd=folder, env=environ,
        capture_output=True, text=True, timeout=90, check=False, **options,
    )  # fmt: skip


def succeed(done: subprocess.CompletedProcess[str]) -> str:
    """What a script printed that should have ended well and silently."""
    assert (done.returncode, done.stderr) == (0, ""), done.stderr + done.stdout
    return done.stdout

"""What the fault tests look at the system with: processes, descriptors, memory, scripts."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
BACKENDS = ["asyncio", "trio"]

needs_isolates = pytest.mark.skipif(
    sys.version_info < (3, 14), reason="isolates need CPython 3.14 or newer"
)
KINDS = ["process", pytest.param("isolate", marks=needs_isolates), "thread"]
# Isolates and threads die with the program: what may end a worker is tried on these first.
INTERPRETERS = ["process", pytest.param("isolate", marks=needs_isolates)]


# --- waiting for events -----------------------------------------------------------------------


def eventually(check: Callable[[], Any], what: str = "", timeout: float = 20.0) -> Any:
    """The first true value of ``check()``; blocks, so not for use beside a running loop."""
    deadline = time.monotonic() + timeout
    while not (value := check()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or check}")
        time.sleep(0.005)
    return value


async def soon(check: Callable[[], Any], what: str = "", timeout: float = 20.0) -> Any:
    """`eventually` for coroutines."""
    deadline = time.monotonic() + timeout
    while not (value := check()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or check}")
        await anyio.sleep(0.005)
    return value


# --- what a process holds ---------------------------------------------------------------------


def descriptors() -> list[str]:
    """What each open descriptor of this process refers to."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:  # the one that read the folder
            continue
        found.append(target)
    return found


def children() -> list[psutil.Process]:
    """Every process below this one: forkservers, workers, zombies."""
    return psutil.Process().children(recursive=True)


def worker_processes() -> list[psutil.Process]:
    """Those below the forkservers; quick enough to ask often."""
    found = []
    for server in _children_of(os.getpid()):
        for pid in _children_of(server):
            try:
                found.append(psutil.Process(pid))
            except psutil.NoSuchProcess:
                continue
    return found


def _children_of(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def resident() -> int:
    """Bytes that this process holds in memory, garbage not counted."""
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def transport_memory() -> int:
    """Pages that this process maps of the memory shared with workers."""
    with open("/proc/self/maps") as maps:
        return sum("memfd:loopworkers" in line for line in maps)


@contextmanager
def nothing_left() -> Iterator[None]:
    """After the block there are no more processes, descriptors and shared memory than before."""
    gc.collect()
    before = len(descriptors())
    assert not children(), "an earlier test left processes"
    yield
    gc.collect()
    assert not children()
    assert transport_memory() == 0
    now = descriptors()
    assert len(now) <= before, now
    assert not [name for name in os.listdir("/dev/shm") if "loopworkers" in name]


def is_gone(pid: int) -> bool:
    """Whether the process has ended; one that nobody reaps, as in some containers, has."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


# --- programs of their own --------------------------------------------------------------------


def start_script(source: str, *, session: bool = False, **options: Any) -> subprocess.Popen[str]:
    """A program of this source, with pipes; ``session`` gives it a process group of its own."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
        start_new_session=session,
        **options,
    )


def run_script(
    source: str, *, timeout: float = 30.0, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run it to its end; it, and what it started, is killed if that does not come."""
    with start_script(source, session=True, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            descendants = psutil.Process(process.pid).children(recursive=True)
            for each in [*descendants, psutil.Process(process.pid)]:
                try:
                    each.kill()
                except psutil.NoSuchProcess:
                    pass
            out, err = process.communicate()
            raise AssertionError(
                f"the program did not end within {timeout} s\n--- stdout\n{out}\n--- stderr\n{err}"
            ) from None
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The program's forkserver and workers."""
    return psutil.Process(process.pid).children(recursive=True)


@contextmanager
def killed_at_end(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Whatever a test's outcome, the program and what it started ends."""
    try:
        yield process
    finally:
        if process.poll() is None:
            for each in family(process):
                each.send_signal(signal.SIGKILL)
            process.kill()
        with process:  # closes its pipes and waits for it
            pass

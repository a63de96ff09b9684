"""Workers that do what workers should not, and a forkserver that somebody kills."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import anyio
import psutil
import pytest

from loopworkers import WorkerDied, WorkerPool

from .helpers import BACKENDS, is_gone, nothing_left, soon, worker_processes

if TYPE_CHECKING:
    from collections.abc import Callable


def forkservers() -> list[psutil.Process]:
    return psutil.Process().children()


@pytest.mark.parametrize("state", ["idle", "busy", "between calls"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_forkserver_killed(backend: str, state: str, tmp_path: Any) -> None:
    note = tmp_path / "begun"
    note.touch()
    spin = f"open({str(note)!r}, 'a').write('x')\nwhile True: pass"

    async def main() -> None:
        with anyio.fail_after(20):
            async with WorkerPool(max_workers=2) as pool:
                assert await pool.run(abs, -1) == 1
                calls = []
                if state == "busy":
                    calls = [pool.run(exec, spin) for _ in range(2)]
                    # A call that no worker has begun would run elsewhere.
                    await soon(lambda: note.read_text() == "xx", "both have begun")
                workers = worker_processes()
                (server,) = forkservers()
                server.kill()
                if state == "idle":
                    await soon(lambda: pool.stats().workers == 0, "the pool has noticed")
                for call in calls:
                    with pytest.raises(WorkerDied):
                        await call
                for _ in range(3):
                    # At once, the one or the other may be lost with its worker; never more.
                    with contextlib.suppress(WorkerDied):
                        assert await pool.run(abs, -2) == 2
                assert await pool.run(abs, -3) == 3
                await soon(lambda: all(is_gone(each.pid) for each in workers), "no orphans")

    with nothing_left():
        anyio.run(main, backend=backend)


def make_closer() -> Callable[[], str]:
    def close_everything() -> str:
        os.closerange(0, 4096)
        return "closed"

    return close_everything


def make_lingerer(grandchild: str) -> Callable[[], None]:
    def linger() -> None:
        pid = os.fork()  # with copies of every descriptor of the worker's
        if pid == 0:
            time.sleep(60)
            os._exit(0)
        with open(grandchild, "w") as file:
            file.write(str(pid))
        os.kill(os.getpid(), signal.SIGKILL)

    return linger


@pytest.mark.parametrize("backend", BACKENDS)
def test_worker_closes_all_its_descriptors(backend: str) -> None:
    async def main() -> None:
        with anyio.fail_after(20):
            async with WorkerPool(max_workers=1) as pool:
                with pytest.raises(WorkerDied):
                    await pool.run(make_closer())
                assert await pool.run(abs, -1) == 1

    with nothing_left():
        anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_grandchild_outlives_its_worker(backend: str, tmp_path: Any) -> None:
    note = tmp_path / "grandchild"

    async def main() -> None:
        with anyio.fail_after(20):
            async with WorkerPool(max_workers=1) as pool:
                with pytest.raises(WorkerDied) as caught:
                    await pool.run(make_lingerer(str(note)))
                assert caught.value.signal == signal.SIGKILL
                assert await pool.run(abs, -1) == 1

    try:
        with nothing_left():
            anyio.run(main, backend=backend)
        assert not is_gone(int(note.read_text()))
    finally:
        if note.exists():
            os.kill(int(note.read_text()), signal.SIGKILL)


ODD: dict[str, str] = {
    "a session of its own": "import os; os.setsid()",
    "stdout closed": "import sys; sys.stdout.close()",
    "stdout closed below": "import os; os.close(1)",
    "stdout is None": "import sys; sys.stdout = sys.stderr = None",
    "signals ignored": "import signal\nfor n in (15, 2, 1): signal.signal(n, signal.SIG_IGN)",
    "signals blocked": "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))",
    "in a folder that goes": "import os, tempfile as t; d = t.mkdtemp(); os.chdir(d); os.rmdir(d)",
    "a thread goes on": "import _thread, time; _thread.start_new_thread(time.sleep, (60,))",
    "atexit hangs": "import atexit, time; atexit.register(time.sleep, 60)",
}


@pytest.mark.parametrize("name", ODD)
def test_worker_in_an_odd_state_serves_and_stops(name: str) -> None:
    async def main() -> None:
        with anyio.fail_after(20):
            async with WorkerPool(max_workers=1) as pool:
                await pool.run(exec, ODD[name])
                assert await pool.run(abs, -1) == 1
                assert await pool.run(bytes, 1_000_000) == bytes(1_000_000)
                stopped = pool.options(timeout=0.05).run(exec, "while True: pass")
                with pytest.raises(TimeoutError):
                    await stopped
                assert await pool.run(abs, -2) == 2
                await pool.run(exec, ODD[name])

    with nothing_left():
        anyio.run(main)

"""Workers that die, or raise what nobody expects, at every step of a call."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import psutil
import pytest

from loopworkers import LoopworkersError, NotTransferable, RemoteError, WorkerDied, WorkerPool

from .helpers import BACKENDS, INTERPRETERS, eventually, nothing_left, soon

if TYPE_CHECKING:
    from collections.abc import Iterator

DEATHS = ["os._exit", "SIGSEGV", "SIGKILL", "sys.exit", "MemoryError", "KeyboardInterrupt"]
RAISING = DEATHS[3:]
MOMENTS = ["unpickling the call", "running", "pickling the result"]


def die(how: str) -> None:
    if how == "os._exit":
        os._exit(7)
    elif how == "sys.exit":
        sys.exit(3)
    elif how == "MemoryError":
        raise MemoryError("no memory for that")
    elif how == "KeyboardInterrupt":
        raise KeyboardInterrupt
    else:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.kill(os.getpid(), signal.Signals[how])
        time.sleep(60)


class DiesInUnpickling:
    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        return die, (self.how,)


class DiesInPickling(DiesInUnpickling):
    def __reduce__(self) -> Any:
        return die(self.how)


def call_that_dies(moment: str, how: str, victim: DiesInUnpickling | None) -> Any:
    if moment == "running":
        die(how)
    return DiesInPickling(how)


def hold(gate: str) -> str:
    while not os.path.exists(gate):
        time.sleep(0.002)
    return "held"


def check(error: BaseException, how: str) -> None:
    """It is clear from the error what happened."""
    if how == "os._exit":
        assert isinstance(error, WorkerDied)
        assert error.exitcode == 7
    elif how == "sys.exit":
        assert isinstance(error, WorkerDied)
        assert error.exitcode == 3
    elif how.startswith("SIG"):
        assert isinstance(error, WorkerDied)
        assert error.signal == signal.Signals[how]
        assert how in str(error)
    else:
        assert isinstance(error, MemoryError | NotTransferable | RemoteError)
        assert how in f"{error!r} {error}"


@contextmanager
def gate() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder, "open")


async def crash(kind: Any, moment: str, how: str) -> None:
    with gate() as opened, anyio.fail_after(20):
        async with WorkerPool(kind, max_workers=2) as pool:
            await pool.run(abs, -1)
            other = pool.run(hold, str(opened))
            victim = DiesInUnpickling(how) if moment == "unpickling the call" else None
            doomed = pool.run(call_that_dies, moment, how, victim)
            behind = [pool.run(abs, -number) for number in range(100)]
            with pytest.raises(BaseException) as caught:  # noqa: PT011 - each its own
                await doomed
            check(caught.value, how)
            assert [await each for each in behind] == list(range(100))
            assert not other.done()
            opened.touch()
            assert await other == "held"
            stats = pool.stats()
            assert (stats.running, stats.waiting, stats.failed) == (0, 0, 1)


@pytest.mark.parametrize("how", DEATHS)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_process_dies(backend: str, moment: str, how: str) -> None:
    with nothing_left():
        anyio.run(crash, "process", moment, how, backend=backend)


@pytest.mark.parametrize("how", RAISING)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("kind", INTERPRETERS[1:])
def test_isolate_ends(kind: str, moment: str, how: str) -> None:
    with nothing_left():
        anyio.run(crash, kind, moment, how)


@pytest.mark.parametrize("how", RAISING)
def test_thread_ends(how: str) -> None:
    with nothing_left():
        anyio.run(crash, "thread", "running", how)


# --- half-way through a large result --------------------------------------------------------


def large_result(how: str, ready: str, size: int) -> bytes:
    # The order to die comes while the send below is under way, as would an alarm.
    signal.signal(signal.SIGUSR1, lambda *_: die(how))
    result = os.urandom(1000) * (size // 1000)
    Path(ready).write_text(str(os.getpid()))
    return result


def sleeps(process: psutil.Process) -> bool:
    return process.status() == psutil.STATUS_SLEEPING


@pytest.mark.parametrize("how", DEATHS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_process_dies_half_way_through_a_large_result(backend: str, how: str) -> None:
    async def main() -> None:
        with gate() as ready, gate() as opened, anyio.fail_after(30):
            async with WorkerPool(max_workers=2) as pool:
                other = pool.run(hold, str(opened))
                # More than the slab holds, so it must go through the socket.
                doomed = pool.run(large_result, how, str(ready), 80_000_000)
                behind = [pool.run(abs, -number) for number in range(10)]
                await soon(lambda: ready.exists() and ready.read_text(), "the result is made")
                # This loop now reads nothing, so the socket fills and the worker waits in it.
                worker = psutil.Process(int(ready.read_text()))
                eventually(lambda: sleeps(worker), "the worker waits for its reader")
                worker.send_signal(signal.SIGUSR1)
                with pytest.raises((LoopworkersError, MemoryError)) as caught:
                    await doomed
                if how in ("os._exit", "SIGSEGV", "SIGKILL", "sys.exit"):
                    check(caught.value, how)
                assert [await each for each in behind] == list(range(10))
                opened.touch()
                assert await other == "held"
                # No scrap of the lost result is left in front of the next one.
                for size in (100_000, 70_000_000):
                    assert await pool.run(bytes, size) == bytes(size)
                numbers = await pool.run(list, range(300_000))
                assert numbers == list(range(300_000))

    with nothing_left():
        anyio.run(main, backend=backend)

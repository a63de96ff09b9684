"""A thousand calls stopped in a row, by their timeouts or by cancelling: nothing wears out."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from typing import Any

import anyio
import pytest

from loopworkers import CallTimeout, WorkerPool

from .helpers import descriptors, needs_isolates, nothing_left, resident, soon

ROUNDS = 1000
# In a thousand kills a leak of 16 KiB a kill, less than any worker's buffers, would be 16 MiB.
GROWTH = 16 << 20


# By its name, which any worker has without importing a thing.
spin = partial(exec, "while True: pass")


async def stop_by_timeout(pool: WorkerPool, body: Any) -> None:
    doomed = pool.options(timeout=0.001).run(body)
    with pytest.raises(CallTimeout):
        await doomed


async def stop_by_cancelling(pool: WorkerPool, body: Any) -> None:
    with anyio.move_on_after(0.001) as scope:
        await pool.run(body)
    assert scope.cancelled_caught


async def stop_before_it_runs(pool: WorkerPool, body: Any) -> None:
    doomed = pool.run(body)
    assert doomed.cancel()
    assert doomed.cancelled()


async def rounds(kind: Any, stop: Any, number: int, fresh_body: Any) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:

        async def one(index: int) -> None:
            body, release = fresh_body()
            with anyio.fail_after(20):
                stopping = pool.run(abs, -index)  # before
                await stop(pool, body)
                # The one that is sent the moment the other one is stopped.
                assert await pool.run(abs, -index) == index
                assert await stopping == index
            release()

        for index in range(50):
            await one(index)
        before, held = resident(), len(descriptors())
        for index in range(number):
            await one(index)
        await soon(lambda: pool.stats().workers == pool.stats().idle == 1, "one idle worker")
        await soon(lambda: len(descriptors()) <= held, "no more descriptors than before")
        assert resident() - before < GROWTH
        stats = pool.stats()
        assert (stats.running, stats.waiting, stats.failed) == (0, 0, 0)
        assert stats.completed == 2 * (number + 50)
        assert stats.timed_out + stats.cancelled == number + 50


def spinning() -> tuple[Any, Any]:
    return spin, lambda: None


# A thousand where it counts, and enough to see a leak where that would take minutes: stopping
# an isolate and making the next one takes 50 to 70 ms, with a process 9 ms.
MANY, ISOLATES = ROUNDS, 250
CASES = [
    ("asyncio", stop_by_timeout, MANY),
    ("asyncio", stop_by_cancelling, MANY),
    ("asyncio", stop_before_it_runs, 250),
    ("trio", stop_by_timeout, 250),
    ("trio", stop_by_cancelling, 250),
]


@pytest.mark.parametrize(("backend", "stop", "number"), CASES)
def test_processes(backend: str, stop: Any, number: int) -> None:
    with nothing_left():
        anyio.run(rounds, "process", stop, number, spinning, backend=backend)


@needs_isolates
@pytest.mark.parametrize("stop", [stop_by_timeout, stop_by_cancelling])
def test_isolates(stop: Any) -> None:
    with nothing_left():
        anyio.run(rounds, "isolate", stop, ISOLATES, spinning)


def releasable() -> tuple[Any, Any]:
    event = threading.Event()
    return partial(event.wait, 60), event.set


@pytest.mark.parametrize(("backend", "stop", "number"), CASES)
def test_threads(backend: str, stop: Any, number: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "loopworkers")  # each abandoned thread is warned about
    before = threading.active_count()
    with nothing_left():
        anyio.run(rounds, "thread", stop, number, releasable, backend=backend)
        deadline = time.monotonic() + 20
        while threading.active_count() > before and time.monotonic() < deadline:
            time.sleep(0.01)
    assert threading.active_count() <= before

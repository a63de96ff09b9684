"""Isolates are stopped in two stages; what cannot be stopped is written off."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import contract_work as work
import pytest
from contract_help import Gate, eventually, no_isolates, run_script, succeed

from loopworkers import WorkerPool

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [no_isolates]


@pytest.mark.anyio
@pytest.mark.parametrize("fn", [work.swallow_everything, work.nested_finally,
                                work.swallow_in_generator, work.busy_in_thread_too,
                                work.busy_while_a_module_is_half_imported])  # fmt: skip
async def test_a_loop_that_swallows_everything_is_stopped(fn: object, gate: Gate) -> None:
    async with WorkerPool("isolate", max_workers=1) as pool:
        future = pool.run(fn, str(gate))  # type: ignore[call-overload]
        await gate.begun()
        assert future.cancel()
        assert await pool.run(work.echo, 1) == 1
        assert pool.stats().killed == 1
    assert pool.stats().stuck == 0


@pytest.mark.anyio
async def test_one_that_sleeps_in_c_is_written_off_and_replaced(gate: Gate) -> None:
    async with WorkerPool("isolate", max_workers=1) as pool:
        future = pool.run(work.sleep_in_c, str(gate), 3.0)
        await gate.begun()
        assert future.cancel()
        assert await pool.run(work.echo, 1) == 1
        await eventually(lambda: pool.stats().stuck == 1)
        assert pool.stats().workers == 1
        assert not pool.stats().died
    # That it ends, and leaves nothing, when the sleep is over is looked at after each test.


STUCK = """
import asyncio, atexit, os, sys
from loopworkers import WorkerPool

atexit.register(print, "handlers ran")

def begin_and_compute():
    open("begun", "w").close()
    sum(range(10**12))

async def main():
    async with WorkerPool("isolate", max_workers=1) as pool:
        future = pool.run(begin_and_compute)
        while not os.path.exists("begun"):
            await asyncio.sleep(0.01)
        future.cancel()
        print(await pool.run(len, "abc"))
        while not pool.stats().stuck:
            await asyncio.sleep(0.01)
    print("left the pool")

asyncio.run(main())
"""
ENDS = {0: "", 3: "sys.exit(3)", 1: "raise ValueError('the end')"}


@pytest.mark.parametrize("code", ENDS)
def test_a_program_with_a_stuck_isolate_exits_with_its_own_code(code: int, tmp_path: Path) -> None:
    started = time.monotonic()
    done = run_script(STUCK + ENDS[code], tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stdout == "3\nleft the pool\nhandlers ran\n"
    assert ("ValueError: the end" in done.stderr) == (code == 1)
    assert time.monotonic() - started < 30


def test_a_program_that_forgets_its_pool_exits_while_isolates_are_busy(tmp_path: Path) -> None:
    script = """
import asyncio
from loopworkers import WorkerPool

def busy():
    while True:
        pass

async def main():
    pool = await WorkerPool("isolate", max_workers=2).__aenter__()
    futures = [pool.run(busy) for _ in range(2)]
    print(await asyncio.wait(futures, timeout=0.2) and "bye")

asyncio.run(main())
"""
    assert succeed(run_script(script, tmp_path)) == "bye\n"

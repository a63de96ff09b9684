"""A worker that makes calls of its own neither deadlocks nor fills the machine."""

from __future__ import annotations

import os

import contract_work as work
import psutil
import pytest
from contract_help import Gate, KindParams, eventually, on_two_loops

from loopworkers import WorkerPool

pytestmark = [pytest.mark.anyio, on_two_loops]


async def test_a_call_can_make_calls(own_memory: str) -> None:
    async with WorkerPool(own_memory, max_workers=2) as pool:
        futures = [pool.run(work.nested_sum, [n, n + 1]) for n in range(4)]
        assert [await future for future in futures] == [n * n + (n + 1) ** 2 for n in range(4)]


async def test_each_level_is_a_worker_below_until_the_cap(own_memory: str) -> None:
    async with WorkerPool(own_memory, max_workers=1) as pool:
        levels = await pool.run(work.nested, 6)
        kinds = [kind for kind, _ in levels]
        assert len(kinds) == 7
        assert kinds[0] == "process"  # a default pool, in the first worker
        assert kinds[-1] == "thread"  # too deep for more processes
        assert kinds == sorted(kinds)
        pids = {pid for _, pid in levels}
        assert len(pids - {os.getpid()}) <= 4


@pytest.mark.parametrize("inner", KindParams("process", "isolate", "thread"))
async def test_pools_of_each_kind_in_workers(own_memory: str, inner: str) -> None:
    async with WorkerPool(own_memory, max_workers=1) as pool:
        assert await pool.run(work.nested_map, inner, 5) == [0, 1, 4, 9, 16]


async def test_a_synchronous_call_can_use_an_executor(own_memory: str) -> None:
    async with WorkerPool(own_memory, max_workers=1) as pool:
        assert await pool.run(work.nested_executor, [1, 2, 3]) == [1, 4, 9]


async def test_stopping_a_call_stops_the_workers_below_it(gate: Gate) -> None:
    async with WorkerPool("process", max_workers=1) as pool:
        before = len(psutil.Process().children(recursive=True))
        future = pool.run(work.nested_hold, str(gate))
        await gate.begun()
        assert len(psutil.Process().children(recursive=True)) > before
        assert future.cancel()
        assert await pool.run(work.echo, 1) == 1
        await eventually(lambda: len(psutil.Process().children(recursive=True)) <= 2)


async def test_a_pool_left_open_in_a_worker_ends_with_it(own_memory: str) -> None:
    async with WorkerPool(own_memory, max_workers=1, max_tasks_per_worker=1) as pool:
        for _ in range(2):
            assert await pool.run(work.nested_sum, [3]) == 9
    # Nothing below is left: that is looked at after each test.

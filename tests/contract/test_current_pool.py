"""`run_in_worker` and `current_pool`: the innermost pool, or the loop's default one."""

from __future__ import annotations

import os

import anyio
import contract_work as work
import pytest
from contract_help import KindParams

from loopworkers import PoolClosed, WorkerFuture, WorkerPool, current_pool, run_in_worker

pytestmark = pytest.mark.anyio


async def test_without_a_pool_it_is_the_loops_pool_of_processes() -> None:
    future = run_in_worker(os.getpid)
    assert isinstance(future, WorkerFuture)
    assert await future != os.getpid()
    assert current_pool().kind == "process"
    assert current_pool() is current_pool()
    assert current_pool().stats().started == 1


@pytest.mark.parametrize("named", KindParams("process", "isolate", "thread"))
async def test_each_kind_has_a_default_pool(named: str) -> None:
    pool = current_pool(named)  # type: ignore[arg-type]
    assert pool.kind == named
    assert pool is current_pool(named)  # type: ignore[arg-type]
    assert await pool.run(work.square, 3) == 9


async def test_inside_a_block_it_is_the_innermost_pool(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as outer:
        assert current_pool() is outer
        async with WorkerPool("thread", max_workers=1) as inner:
            assert current_pool() is inner
            assert await run_in_worker(work.square, 2) == 4
            assert inner.stats().completed == 1
            if kind != "thread":
                assert current_pool(kind) is outer  # type: ignore[arg-type]
        assert current_pool() is outer
        assert outer.stats().completed == 0


async def test_tasks_started_in_a_block_use_its_pool() -> None:
    async def use() -> None:
        assert current_pool() is pool
        assert await run_in_worker(work.square, 2) == 4

    async with WorkerPool("thread", max_workers=1) as pool:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(use)
        assert pool.stats().completed == 3


async def test_a_pool_that_was_closed_is_passed_over() -> None:
    async with WorkerPool("thread", max_workers=1) as pool:
        await pool.aclose()
        assert current_pool() is not pool
        assert await run_in_worker(work.square, 2) == 4


async def test_another_thread_has_no_pool_here() -> None:
    async with WorkerPool("thread", max_workers=1) as pool:

        def elsewhere() -> list[str]:
            found = []
            for call in (lambda: run_in_worker(len, ""), lambda: pool.run(len, "")):
                try:
                    call()
                except (RuntimeError, PoolClosed) as error:
                    found.append(type(error).__name__)
            return found

        assert await pool.run(elsewhere) == ["RuntimeError", "PoolClosed"]


def test_where_no_loop_runs_it_says_what_to_use_instead() -> None:
    for call in (current_pool, lambda: run_in_worker(len, "")):
        with pytest.raises(RuntimeError, match="WorkerExecutor"):
            call()

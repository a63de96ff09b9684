"""Leaving a pool: its calls are waited for or stopped, and nothing of it is left."""

from __future__ import annotations

import anyio
import contract_work as work
import pytest
from contract_help import LONG, Gate

from loopworkers import PoolClosed, WorkerPool

pytestmark = pytest.mark.anyio


async def test_leaving_waits_for_the_calls(kind: str, gate: Gate) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        futures = [pool.run(work.hold, str(gate), n) for n in range(5)]
        await gate.begun()
        gate.open()
    assert [future.result() for future in futures] == list(range(5))


async def test_leaving_by_an_exception_stops_the_calls(own_memory: str, gate: Gate) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with WorkerPool(own_memory, max_workers=1) as pool:
            futures = [pool.run(work.busy, str(gate)) for _ in range(5)]
            await gate.begun()
            raise ZeroDivisionError
    assert all(future.cancelled() for future in futures)
    assert gate.count("begun") == 1


async def test_leaving_by_cancellation_stops_the_calls(own_memory: str, gate: Gate) -> None:
    with anyio.CancelScope() as scope:
        async with WorkerPool(own_memory, max_workers=1) as pool:
            futures = [pool.run(work.busy, str(gate)) for _ in range(5)]
            await gate.begun()
            scope.cancel()
            await anyio.sleep(LONG)
    assert all(future.cancelled() for future in futures)


async def test_cancelling_the_wait_for_the_calls_stops_them(own_memory: str, gate: Gate) -> None:
    async with anyio.create_task_group() as tasks:

        async def use() -> None:
            async with WorkerPool(own_memory, max_workers=1) as pool:
                pool.run(work.busy, str(gate))

        tasks.start_soon(use)
        await gate.begun()
        tasks.cancel_scope.cancel()


async def test_closing_with_a_grace_stops_what_takes_longer(own_memory: str, gate: Gate) -> None:
    async with WorkerPool(own_memory, max_workers=2) as pool:
        quick, slow = pool.run(work.echo, 1), pool.run(work.busy, str(gate))
        await gate.begun()
        assert await quick == 1  # on a busy machine its worker may not have started yet
        await pool.aclose(grace=0.2)
        assert slow.cancelled()
        with pytest.raises(PoolClosed):
            pool.run(work.echo, 1)


async def test_kill_all_stops_every_call_and_the_pool_goes_on(own_memory: str, gate: Gate) -> None:
    async with WorkerPool(own_memory, max_workers=2) as pool:
        futures = [pool.run(work.busy, str(gate)) for _ in range(20)]
        await gate.begun(2)
        pool.kill_all()
        assert all(future.cancelled() for future in futures)
        assert await pool.run(work.echo, 1) == 1
        assert gate.count("begun") == 2


async def test_a_pool_that_was_never_used_can_be_left(kind: str) -> None:
    async with WorkerPool(kind, max_workers=2, min_workers=2):
        pass
    async with WorkerPool(kind):
        pass


async def test_calls_made_while_it_closes_are_refused(kind: str, gate: Gate) -> None:
    async with anyio.create_task_group() as tasks:
        async with WorkerPool(kind, max_workers=1) as pool:
            future = pool.run(work.hold, str(gate), 1)
            await gate.begun()
            tasks.start_soon(pool.aclose)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(PoolClosed):
                pool.run(work.echo, 1)
            gate.open()
        assert future.result() == 1

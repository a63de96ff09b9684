"""On asyncio a WorkerFuture is an asyncio.Future, for everything that takes one."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import contract_work as work
import pytest
from contract_help import LONG, Gate, on_both_asyncios

from loopworkers import WorkerFuture, WorkerPool

pytestmark = [pytest.mark.anyio, on_both_asyncios]

SHORT = 0.15


async def test_it_is_a_future_with_its_methods(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        future = pool.run(work.echo, 1)
        assert isinstance(future, asyncio.Future)
        assert isinstance(future, WorkerFuture)
        assert asyncio.isfuture(future)
        assert asyncio.ensure_future(future) is future
        assert future.get_loop() is asyncio.get_running_loop()
        called: list[object] = []
        future.add_done_callback(called.append)
        assert not future.done()
        with pytest.raises(asyncio.InvalidStateError):
            future.result()
        assert await future == 1
        await asyncio.sleep(0)
        assert called == [future]


async def test_gather_wait_shield_and_as_completed(kind: str) -> None:
    async with WorkerPool(kind, max_workers=2) as pool:
        assert await asyncio.gather(*[pool.run(work.square, n) for n in range(5)]) == [
            0, 1, 4, 9, 16,
        ]  # fmt: skip
        results = await asyncio.gather(
            pool.run(work.echo, 1), pool.run(work.fail_at, 1, 1), return_exceptions=True
        )
        assert results[0] == 1
        assert type(results[1]) is LookupError
        done, pending = await asyncio.wait({pool.run(work.echo, n) for n in range(5)})
        assert {future.result() for future in done} == set(range(5))
        assert not pending
        found = [await f for f in asyncio.as_completed([pool.run(work.echo, n) for n in range(5)])]
        assert sorted(found) == list(range(5))
        assert await asyncio.shield(pool.run(work.echo, 1)) == 1
        assert await asyncio.wait_for(pool.run(work.echo, 1), LONG) == 1


async def test_wait_returns_the_first_that_completes(kind: str, gate: Gate) -> None:
    async with WorkerPool(kind, max_workers=2) as pool:
        held, quick = pool.run(work.hold, str(gate), 1), pool.run(work.echo, 2)
        done, pending = await asyncio.wait({held, quick}, return_when=asyncio.FIRST_COMPLETED)
        assert (done, pending) == ({quick}, {held})
        gate.open()
        assert await held == 1


async def test_wait_for_and_timeout_stop_the_call(own_memory: str, gate: Gate) -> None:
    async with WorkerPool(own_memory, max_workers=1) as pool:
        await pool.run(work.echo, 1)
        future = pool.run(work.busy, str(gate))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(future, SHORT)
        assert future.cancelled()
        assert await pool.run(work.echo, 1) == 1  # a call that has not begun would be dropped
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SHORT):
                await pool.run(work.busy, str(gate))
        assert await pool.run(work.echo, 1) == 1
        assert pool.stats().killed == 2


async def test_a_task_group_stops_its_calls(own_memory: str, gate: Gate) -> None:
    async def run() -> None:
        await pool.run(work.busy, str(gate))

    async with WorkerPool(own_memory, max_workers=2) as pool:
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
            async with asyncio.TaskGroup() as group:
                group.create_task(run())
                await gate.begun()
                raise ZeroDivisionError
        assert caught.group_contains(ZeroDivisionError)
        assert await pool.run(work.echo, 1) == 1
        assert pool.stats().killed == 1


async def test_cancelling_a_task_or_a_gather_stops_the_calls(own_memory: str, gate: Gate) -> None:
    async with WorkerPool(own_memory, max_workers=2) as pool:
        gathered = asyncio.gather(*[pool.run(work.busy, str(gate)) for _ in range(2)])
        await gate.begun(2)
        gathered.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gathered

        async def run() -> None:
            await pool.run(work.busy, str(gate))

        task = asyncio.create_task(run())
        await gate.begun(3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await pool.run(work.echo, 1) == 1
        assert pool.stats().killed == 3


async def test_a_shielded_call_runs_on(kind: str, gate: Gate) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        future = pool.run(work.hold, str(gate), "value")
        outer = asyncio.shield(future)
        await gate.begun()
        outer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outer
        gate.open()
        assert await future == "value"


async def test_wait_mode_cancels_the_task_after_the_result(kind: str, gate: Gate) -> None:
    async def run() -> None:
        await future

    async with WorkerPool(kind, max_workers=1, on_cancel="wait") as pool:
        future = pool.run(work.hold, str(gate), "value")
        task = asyncio.create_task(run())
        await gate.begun()
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        gate.open()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert future.result() == "value"


async def test_a_failure_that_nobody_asks_for_is_reported_by_asyncio(kind: str) -> None:
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    async with WorkerPool(kind, max_workers=1) as pool:
        future = pool.run(work.fail_at, 1, 1)
        await asyncio.wait([future])
        del future
        import gc

        gc.collect()
        assert "never retrieved" in str(reported[0]["message"])


async def test_a_scope_does_not_keep_the_loop_busy_while_a_call_is_waited_for(
    kind: str, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    if not isinstance(loop, asyncio.BaseEventLoop):
        pytest.skip("what uvloop is asked for cannot be counted")
    call_soon, asked = loop.call_soon, []

    def count(callback: Any, *args: Any, context: Any = None) -> Any:
        asked.append(getattr(callback, "__qualname__", ""))
        return call_soon(callback, *args, context=context)

    async def look() -> None:
        asked.clear()
        for _ in range(10):
            await asyncio.sleep(0)
        again.append(sum("_deliver_cancellation" in name for name in asked))
        gate.open()

    again: list[int] = []
    async with WorkerPool(kind, max_workers=1, on_cancel="wait") as pool:
        future = pool.run(work.hold, str(gate))
        await gate.begun()
        with anyio.CancelScope() as scope, monkeypatch.context() as patch:
            patch.setattr(loop, "call_soon", count, raising=False)
            looking = asyncio.create_task(look())
            scope.cancel()
            await future
            await asyncio.sleep(0)
        await looking
        assert scope.cancelled_caught
        assert future.done()
        assert not future.cancelled()
        assert again[0] <= 2

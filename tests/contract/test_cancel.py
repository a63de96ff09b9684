"""Cancelling a call stops it, as ``on_cancel`` says, and nobody else notices."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import contract_work as work
import pytest
from contract_help import LONG, Gate, eventually

from loopworkers import WorkerFuture, WorkerPool

pytestmark = pytest.mark.anyio


async def cancelled_by_scope(future: WorkerFuture[Any]) -> None:
    """Await it in a scope that is cancelled meanwhile."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        await future
        await anyio.lowlevel.checkpoint()  # trio gives a result that came first, then cancels
    assert scope.cancelled_caught


async def is_usable(pool: WorkerPool) -> None:
    with anyio.fail_after(LONG):
        assert await pool.run(work.echo, "usable") == "usable"


# --- on_cancel="kill" ----------------------------------------------------------------------------


async def test_a_running_call_is_stopped(own_memory: str, gate: Gate) -> None:
    async with WorkerPool(own_memory, max_workers=1) as pool:
        for fn, begun in ((work.hold, 1), (work.hold_async, 2), (work.busy, 3)):
            future = pool.run(fn, str(gate))
            await gate.begun(begun)
            await cancelled_by_scope(future)
            assert future.cancelled()
        await is_usable(pool)
        stats = pool.stats()
        assert (stats.cancelled, stats.killed, stats.died, stats.stuck) == (3, 3, 0, 0)
        assert gate.count("ended") == 0


async def test_a_running_call_of_a_thread_is_abandoned_and_said_to_be(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    async with WorkerPool("thread", max_workers=1) as pool:
        future = pool.run(work.hold, str(gate))
        await gate.begun()
        await cancelled_by_scope(future)
        await is_usable(pool)  # on a new thread: the old one is still at it
        assert gate.count("ended") == 0
        assert pool.stats().stuck == 1
        assert "hold" in caplog.text
        gate.open()
        await eventually(lambda: gate.count("ended") == 1)


async def test_finally_blocks_of_an_isolate_run(gate: Gate, tmp_path: Any) -> None:
    pytest.importorskip("concurrent.interpreters", reason="isolates need CPython 3.14 or newer")
    async with WorkerPool("isolate", max_workers=1) as pool:
        future = pool.run(work.hold, str(gate))
        await gate.begun()
        future.cancel()
        await eventually(lambda: gate.count("left") == 1)
        await is_usable(pool)


async def test_future_cancel_stops_the_call_too(own_memory: str, gate: Gate) -> None:
    async with WorkerPool(own_memory, max_workers=1) as pool:
        future = pool.run(work.busy, str(gate))
        await gate.begun()
        assert future.cancel()
        assert future.cancelled()
        assert future.done()
        assert not future.cancel()
        await is_usable(pool)
        assert pool.stats().killed == 1


@pytest.mark.parametrize("ahead", [0, 1, 30], ids=["next", "sent ahead", "queued"])
async def test_a_waiting_call_is_dropped_and_its_worker_goes_on(
    kind: str, gate: Gate, ahead: int
) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        running = pool.run(work.hold, str(gate), "value")
        others = [pool.run(work.echo, n) for n in range(ahead)]
        future = pool.run(work.mark, str(gate))
        behind = [pool.run(work.echo, n) for n in range(ahead)]
        await gate.begun()
        await cancelled_by_scope(future)
        gate.open()
        assert await running == "value"
        assert [await other for other in others + behind] == [*range(ahead), *range(ahead)]
        assert gate.count("begun") == 1
        stats = pool.stats()
        assert (stats.cancelled, stats.killed, stats.started) == (1, 0, 1)


async def test_calls_sent_ahead_of_a_cancelled_one_run_elsewhere(kind: str, gate: Gate) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        future = pool.run(work.hold, str(gate))
        behind = [pool.run(work.echo, n) for n in range(40)]
        await gate.begun()
        await cancelled_by_scope(future)
        assert [await other for other in behind] == list(range(40))
        assert pool.stats().died == 0


async def test_neighbours_on_other_workers_are_unharmed(own_memory: str, gate: Gate) -> None:
    async with WorkerPool(own_memory, max_workers=3) as pool:
        neighbours = [pool.run(work.hold, str(gate), n) for n in range(2)]
        future = pool.run(work.busy, str(gate))
        await gate.begun(3)
        await cancelled_by_scope(future)
        gate.open()
        assert [await neighbour for neighbour in neighbours] == [0, 1]


async def test_a_call_can_be_cancelled_while_its_worker_starts(kind: str) -> None:
    for turns in range(5):
        async with WorkerPool(kind, max_workers=1) as pool:
            future = pool.run(work.echo, "first")
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            cancelled = future.cancel()
            await is_usable(pool)
            assert future.done()
            stats = pool.stats()
            assert (stats.cancelled, stats.completed) == ((1, 1) if cancelled else (0, 2))
            assert stats.died == 0


async def test_a_call_cancelled_while_its_worker_is_set_up(own_memory: str, gate: Gate) -> None:
    pool = WorkerPool(own_memory, max_workers=1, initializer=work.hold, initargs=(str(gate),))
    async with pool:
        future = pool.run(work.echo, 1)
        await gate.begun()
        await cancelled_by_scope(future)
        gate.open()
        await is_usable(pool)


async def test_cancelling_what_has_just_finished_settles_it_once(kind: str) -> None:
    """The race is run many times: either way the call has one end and the pool goes on."""
    async with WorkerPool(kind, max_workers=2) as pool:
        for n in range(60):
            future = pool.run(work.echo, n)
            for _ in range(n % 12):
                await anyio.lowlevel.checkpoint()
            if future.cancel():
                assert future.cancelled()
            else:
                assert await future == n
            assert await pool.run(work.echo, -n) == -n
        stats = pool.stats()
        assert stats.completed + stats.cancelled == 120
        assert stats.died == 0


async def test_cancelling_a_finished_call_changes_nothing(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        future = pool.run(work.echo, 5)
        await future
        assert not future.cancel()
        assert not future.cancelled()
        assert (await future, future.result(), future.exception()) == (5, 5, None)
        assert pool.stats().killed == 0


# --- "wait" and "abandon" ------------------------------------------------------------------------


async def test_wait_lets_the_call_end_before_the_caller_goes_on(kind: str, gate: Gate) -> None:
    async with WorkerPool(kind, max_workers=1, on_cancel="wait") as pool:
        future = pool.run(work.hold, str(gate), "value")
        await gate.begun()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancelled_by_scope, future)
            await anyio.wait_all_tasks_blocked()
            assert not future.done()
            gate.open()
        assert future.result() == "value"
        assert gate.count("ended") == 1
        assert pool.stats().killed == 0


async def test_wait_lets_a_waiting_call_run_too(kind: str, gate: Gate) -> None:
    async with WorkerPool(kind, max_workers=1, on_cancel="wait") as pool:
        first = pool.run(work.hold, str(gate), 1)
        second = pool.run(work.echo, 2)
        await gate.begun()
        assert not second.cancel()
        gate.open()
        assert (await first, await second) == (1, 2)


async def test_abandon_lets_the_caller_go_on_and_holds_the_slot(kind: str, gate: Gate) -> None:
    async with WorkerPool(kind, max_workers=1, on_cancel="abandon") as pool:
        future = pool.run(work.hold, str(gate))
        await gate.begun()
        await cancelled_by_scope(future)  # returns though the gate is closed
        assert future.cancelled()
        after = pool.run(work.mark, str(gate))
        assert gate.count("begun") == 1
        gate.open()
        await after
        assert gate.count("ended") == 1
        stats = pool.stats()
        assert (stats.killed, stats.started, stats.stuck) == (0, 1, 0)


async def test_abandon_drops_a_call_that_waits(kind: str, gate: Gate) -> None:
    async with WorkerPool(kind, max_workers=1, on_cancel="abandon") as pool:
        first = pool.run(work.hold, str(gate), 1)
        second = pool.run(work.mark, str(gate))
        await gate.begun()
        assert second.cancel()
        gate.open()
        assert await first == 1
        await is_usable(pool)
        assert gate.count("begun") == 1


async def test_leaving_the_pool_waits_for_an_abandoned_call(own_memory: str, gate: Gate) -> None:
    async with WorkerPool(own_memory, max_workers=1, on_cancel="abandon") as pool:
        future = pool.run(work.hold, str(gate))
        await gate.begun()
        assert future.cancel()
        gate.open()
    assert gate.count("ended") == 1

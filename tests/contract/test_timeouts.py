"""``timeout=`` ends a call as cancelling it does, with CallTimeout."""

from __future__ import annotations

import anyio
import contract_work as work
import pytest
from contract_help import LONG, Gate, eventually

from loopworkers import CallTimeout, WorkerPool

pytestmark = pytest.mark.anyio

SHORT = 0.15


async def test_a_running_call_is_stopped(own_memory: str, gate: Gate) -> None:
    async with WorkerPool(own_memory, max_workers=1) as pool:
        await pool.run(work.echo, 1)
        future = pool.options(timeout=SHORT).run(work.busy, str(gate))
        with pytest.raises(CallTimeout, match=rf"busy.*{SHORT}") as caught:
            await future
        assert isinstance(caught.value, TimeoutError)
        assert await pool.run(work.echo, 1) == 1
        stats = pool.stats()
        assert (stats.timed_out, stats.cancelled, stats.killed, stats.died) == (1, 0, 1, 0)


async def test_a_thread_is_abandoned(gate: Gate) -> None:
    async with WorkerPool("thread", max_workers=1, timeout=SHORT) as pool:
        with pytest.raises(CallTimeout):
            await pool.run(work.hold, str(gate))
        assert await pool.run(work.echo, 1) == 1
        assert pool.stats().stuck == 1
        gate.open()
        await eventually(lambda: gate.count("ended") == 1)


async def test_a_waiting_call_times_out_and_is_dropped(kind: str, gate: Gate) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        running = pool.run(work.hold, str(gate), 1)
        waiting = [pool.run(work.echo, n) for n in range(20)]
        await gate.begun()
        for _ in range(2):
            with pytest.raises(CallTimeout):
                await pool.options(timeout=SHORT).run(work.mark, str(gate))
        gate.open()
        assert await running == 1
        assert [await future for future in waiting] == list(range(20))
        assert gate.count("begun") == 1
        assert (pool.stats().killed, pool.stats().timed_out) == (0, 2)


async def test_wait_raises_only_when_the_call_has_ended(kind: str, gate: Gate) -> None:
    async with WorkerPool(kind, max_workers=1, timeout=SHORT, on_cancel="wait") as pool:
        future = pool.run(work.hold, str(gate))
        await gate.begun()
        with anyio.move_on_after(3 * SHORT):
            await eventually(future.done)
        assert not future.done()
        gate.open()
        with pytest.raises(CallTimeout):
            await future
        assert gate.count("ended") == 1


async def test_abandon_raises_at_once_and_holds_the_slot(kind: str, gate: Gate) -> None:
    async with WorkerPool(kind, max_workers=1, on_cancel="abandon") as pool:
        timeout = SHORT
        while not gate.count("begun"):  # one that has not begun is dropped
            timeout *= 2
            with pytest.raises(CallTimeout):
                await pool.options(timeout=timeout).run(work.hold, str(gate))
        after = pool.run(work.mark, str(gate))
        assert gate.count("ended") == 0
        gate.open()
        await after
        assert gate.count("ended") == 1
        assert pool.stats().started == 1


async def test_a_timeout_counts_from_the_call_also_while_the_worker_starts(
    own_memory: str, gate: Gate
) -> None:
    pool = WorkerPool(own_memory, max_workers=1, initializer=work.hold, initargs=(str(gate),))
    async with pool:
        with pytest.raises(CallTimeout):
            await pool.options(timeout=SHORT).run(work.echo, 1)
        gate.open()
        assert await pool.run(work.echo, 1) == 1


async def test_a_call_in_time_is_not_touched(kind: str) -> None:
    async with WorkerPool(kind, max_workers=2, timeout=LONG) as pool:
        assert [await pool.run(work.echo, n) for n in range(20)] == list(range(20))
        with pytest.raises(TimeoutError, match="own"):
            await pool.run(work.throw_named, "TimeoutError", "own")
        assert pool.stats().timed_out == 0


async def test_anyio_scopes_end_a_call(own_memory: str, gate: Gate) -> None:
    async with WorkerPool(own_memory, max_workers=1) as pool:
        await pool.run(work.echo, 1)
        with anyio.move_on_after(SHORT) as scope:
            await pool.run(work.busy, str(gate))
        assert scope.cancelled_caught
        assert await pool.run(work.echo, 1) == 1  # a call that has not begun would be dropped
        with pytest.raises(TimeoutError):
            with anyio.fail_after(SHORT):
                await pool.run(work.busy, str(gate))
        assert await pool.run(work.echo, 1) == 1
        assert pool.stats().killed == 2


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_trio_scopes_end_a_call(own_memory: str, gate: Gate) -> None:
    import trio

    async with WorkerPool(own_memory, max_workers=1) as pool:
        await pool.run(work.echo, 1)
        with trio.move_on_after(SHORT) as scope:
            await pool.run(work.busy, str(gate))
        assert scope.cancelled_caught
        with pytest.raises(ExceptionGroup):  # noqa: PT012
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_wait, pool.run(work.busy, str(gate)))
                await gate.begun(2)
                raise ZeroDivisionError
        assert await pool.run(work.echo, 1) == 1


async def _wait(future: object) -> None:
    await future  # type: ignore[misc]

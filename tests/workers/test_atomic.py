"""`AtomicInt64`: no update is lost, and a notification wakes as many as it says."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
import targets_shared
from contract_help import LONG, KindParams, eventually, no_isolates
from worker_help import MIXED, run_all

from loopworkers import AtomicInt64, SharedBuffer, Worker

pytestmark = pytest.mark.anyio


@no_isolates
@pytest.mark.parametrize("target", [targets_shared.increment, targets_shared.increment_by_exchange])
async def test_a_counter_of_mixed_workers_is_exact(target: Any) -> None:
    times = 100_000 if target is targets_shared.increment else 5_000
    with SharedBuffer(8) as buffer:
        await run_all(*[Worker(target, buffer, times, kind=kind) for kind in MIXED])  # type: ignore[call-overload]
        assert AtomicInt64(buffer).load() == 4 * times


async def test_a_counter_of_workers_of_one_kind_is_exact(kind: Any) -> None:
    target = targets_shared.increment_by_exchange
    with SharedBuffer(8) as buffer:
        await run_all(*[Worker(target, buffer, 2_000, kind=kind) for _ in range(4)])
        assert AtomicInt64(buffer).load() == 8_000


@pytest.mark.parametrize(
    "target", [targets_shared.wait_too_long, targets_shared.wait_too_long_async]
)
async def test_wait_times_out_in_a_worker(kind: Any, target: Any) -> None:
    with SharedBuffer(8) as buffer:
        async with Worker(target, buffer, kind=kind) as worker:
            assert await worker.receive() is False
        assert AtomicInt64(buffer).notify() == 0  # the one that gave up is not counted


@pytest.mark.parametrize("killed", KindParams("process", "isolate"))
async def test_a_worker_killed_in_the_middle_keeps_nobody_out(killed: Any) -> None:
    with SharedBuffer(8) as buffer:
        number = AtomicInt64(buffer)
        for _ in range(10):
            before = number.load()
            async with Worker(targets_shared.increment_for_ever, buffer, kind=killed) as worker:
                await eventually(lambda before=before: number.load() > before)
                await worker.terminate()
            before = number.load()
            with anyio.fail_after(LONG):
                await run_all(Worker(targets_shared.increment, buffer, 100, kind=killed))
            assert number.load() == before + 100


async def test_every_operation_of_a_number() -> None:
    with SharedBuffer(20) as buffer:
        first, second = AtomicInt64(buffer, 0), AtomicInt64(buffer, 1)
        second.store(5)
        assert second.add(3) == 5
        assert second.add(-10) == 8
        assert second.exchange(1 << 62) == -2
        assert second.add(1 << 62) == 1 << 62
        assert second.load() == -(1 << 63)
        assert not second.compare_exchange(0, 1)
        assert second.compare_exchange(-(1 << 63), 1)
        assert (first.load(), second.load()) == (0, 1)
        with pytest.raises(IndexError):
            AtomicInt64(buffer, 3)


async def test_notify_wakes_as_many_as_it_says(kind: Any) -> None:
    with SharedBuffer(16) as buffer:
        number, other = AtomicInt64(buffer, 0), AtomicInt64(buffer, 1)
        async with anyio.create_task_group() as tasks:
            told: list[bool] = []

            async def one() -> None:
                async with Worker(targets_shared.wait_and_tell, buffer, 0, kind=kind) as worker:
                    await worker.receive()
                    told.append(await worker.receive())

            for _ in range(3):
                tasks.start_soon(one)
            woken = 0
            assert other.notify() == 0
            with anyio.fail_after(LONG):
                for wanted in (1, 2):
                    target = woken + wanted
                    while woken < target:
                        woken += number.notify(target - woken)
                        await anyio.sleep(0.002)
        assert told == [True] * 3
        assert number.notify() == 0


async def test_wait_times_out_and_sees_another_value_at_once() -> None:
    with SharedBuffer(8) as buffer:
        number = AtomicInt64(buffer)
        assert await number.wait(0, timeout=0.01) is False
        assert await number.wait(1) is True
        assert number.notify() == 0  # the one that gave up is not counted
        got = await anyio.to_thread.run_sync(number.wait, 0, 0.01)
        assert got is False


async def test_many_waiters_that_gave_up_make_room_for_the_next() -> None:
    with SharedBuffer(8) as buffer:
        number = AtomicInt64(buffer)
        for _ in range(600):
            assert await number.wait(0, timeout=0) is False
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(number.wait, 0)
            await anyio.wait_all_tasks_blocked()
            assert number.notify() == 1


async def test_a_notification_of_a_cancelled_waiter_goes_to_the_next() -> None:
    with SharedBuffer(8) as buffer:
        number = AtomicInt64(buffer)
        woken: list[Any] = []
        scope = anyio.CancelScope()

        async def wait() -> None:
            woken.append(await number.wait(0))

        async def cancelled() -> None:
            with scope:
                await wait()

        with anyio.fail_after(LONG):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(cancelled)
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                assert number.notify(1) == 1
                scope.cancel()
                while not woken:
                    await anyio.lowlevel.checkpoint()
                number.notify()
        assert woken[0] is True

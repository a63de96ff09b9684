"""Shared memory, locks, events and numbers: one and the same wherever they are used."""

from __future__ import annotations

import pickle
from typing import Any

import anyio
import numpy  # here, because it starts threads that stay
import pytest
import targets
from contract_help import LONG, KindParams, eventually, no_isolates

from loopworkers import (
    AtomicInt64,
    NotTransferable,
    SharedBuffer,
    SharedEvent,
    SharedLock,
    Worker,
    WorkerPool,
    channel,
)

pytestmark = pytest.mark.anyio
MIXED = ["process", "process", "isolate", "isolate"]


async def run_all(*workers: Worker) -> None:
    async with anyio.create_task_group() as tasks:

        async def one(worker: Worker) -> None:
            async with worker:
                await worker.wait()

        for worker in workers:
            tasks.start_soon(one, worker)


# --- memory --------------------------------------------------------------------------------------


async def test_what_is_written_in_one_worker_is_seen_in_all(kind: Any) -> None:
    with SharedBuffer(4096) as buffer:
        workers = [Worker(targets.fill_stripe, buffer, index, 4, kind=kind) for index in range(4)]
        await run_all(*workers)
        assert bytes(buffer.view) == b"".join(bytes([n + 1]) * 1024 for n in range(4))


async def test_a_buffer_as_argument_of_calls(own_memory: Any) -> None:
    def double(buffer: SharedBuffer) -> None:
        buffer.view[0] *= 2

    async with WorkerPool(own_memory, max_workers=1) as pool:
        with SharedBuffer(1) as buffer:
            buffer.view[0] = 21
            await pool.run(double, buffer)
            assert buffer.view[0] == 42


async def test_numpy_arrays_lie_on_it() -> None:
    def square(buffer: SharedBuffer) -> float:
        import numpy

        array = numpy.frombuffer(buffer.view, dtype="f8")
        array **= 2
        return float(array.sum())

    async with WorkerPool("process", max_workers=1) as pool:
        with SharedBuffer(8 * 1000) as buffer:
            array = numpy.frombuffer(buffer.view, dtype="f8")
            array[:] = 3
            assert await pool.run(square, buffer) == 9000
            assert array[17] == 9
            first, _ = channel()
            with pytest.raises(NotTransferable, match="arrays on it"):
                await first.send(buffer, transfer=[buffer])
            assert buffer.view.cast("d")[17] == 9
            first.close()
            _.close()
        assert array[17] == 9  # it keeps the memory, closed or not


async def test_a_closed_buffer_cannot_be_used_or_sent() -> None:
    buffer = SharedBuffer(10)
    buffer.close()
    buffer.close()
    with pytest.raises(ValueError, match="released"):
        buffer.view[0]
    async with WorkerPool("process", max_workers=1) as pool:
        with pytest.raises(NotTransferable, match="closed"):
            await pool.run(len, buffer)
    with pytest.raises(ValueError, match="size"):
        SharedBuffer(0)


async def test_a_buffer_captured_by_a_lambda(kind: Any) -> None:
    def put(value: int) -> None:
        buffer.view[0] = value

    with SharedBuffer(8) as buffer:
        async with WorkerPool(kind, max_workers=1) as pool:
            await pool.run(put, 4)
            assert buffer.view[0] == 4


async def test_shared_memory_is_pickled_for_workers_only() -> None:
    with SharedBuffer(8) as buffer, pytest.raises(TypeError, match="only be sent to a worker"):
        pickle.dumps(buffer)


# --- numbers -------------------------------------------------------------------------------------


@no_isolates
@pytest.mark.parametrize("target", [targets.increment, targets.increment_by_exchange])
async def test_a_counter_of_mixed_workers_is_exact(target: Any) -> None:
    times = 100_000 if target is targets.increment else 5_000
    with SharedBuffer(8) as buffer:
        await run_all(*[Worker(target, buffer, times, kind=kind) for kind in MIXED])  # type: ignore[call-overload]
        assert AtomicInt64(buffer).load() == 4 * times


@pytest.mark.parametrize("killed", KindParams("process", "isolate"))
async def test_a_worker_killed_in_the_middle_keeps_nobody_out(killed: Any) -> None:
    with SharedBuffer(8) as buffer:
        number = AtomicInt64(buffer)
        for _ in range(10):
            before = number.load()
            async with Worker(targets.increment_for_ever, buffer, kind=killed) as worker:
                await eventually(lambda before=before: number.load() > before)
                await worker.terminate()
            before = number.load()
            with anyio.fail_after(LONG):
                await run_all(Worker(targets.increment, buffer, 100, kind=killed))
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
                async with Worker(targets.wait_and_tell, buffer, 0, kind=kind) as worker:
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


# --- events --------------------------------------------------------------------------------------


async def test_an_event_wakes_all_who_wait(kind: Any) -> None:
    event = SharedEvent()
    async with anyio.create_task_group() as tasks:

        async def one() -> None:
            async with Worker(targets.wait_for_event, event, kind=kind) as worker:
                assert await worker.receive() == "waiting"
                assert await worker.receive() is True

        tasks.start_soon(one)
        tasks.start_soon(one)
        tasks.start_soon(event.wait)
        tasks.start_soon(event.wait)
        await anyio.wait_all_tasks_blocked()
        assert not event.is_set()
        event.set()
        event.set()
    assert event.is_set()
    assert await event.wait(timeout=0)
    event.clear()
    assert not event.is_set()
    assert await event.wait(timeout=0.01) is False


# --- locks ---------------------------------------------------------------------------------------


@no_isolates
async def test_a_lock_lets_one_worker_in_at_a_time() -> None:
    lock = SharedLock()
    with SharedBuffer(8) as buffer:
        target = targets.increment_under_lock
        await run_all(*[Worker(target, buffer, lock, 2_000, kind=kind) for kind in MIXED])  # type: ignore[arg-type]
        assert AtomicInt64(buffer).load() == 8_000
    assert not lock.locked()


async def test_tasks_and_threads_wait_for_a_lock_without_blocking_the_loop() -> None:
    lock = SharedLock()
    await lock.acquire()
    entered: list[str] = []

    async def task() -> None:
        async with lock:
            entered.append("task")

    def thread() -> None:
        with lock:
            entered.append("thread")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(task)
        tasks.start_soon(anyio.to_thread.run_sync, thread)
        assert await lock.acquire(timeout=0.05) is False
        assert entered == []
        lock.release()
    assert sorted(entered) == ["task", "thread"]
    with pytest.raises(RuntimeError, match="not acquired"):
        lock.release()


async def test_cancelling_an_acquire_leaves_the_lock_to_others() -> None:
    lock = SharedLock()
    await lock.acquire()
    with anyio.move_on_after(0.01):
        await lock.acquire()
    lock.release()
    assert await lock.acquire(timeout=0)
    lock.release()


async def test_a_holder_that_is_stopped_or_dies_gives_the_lock_up_and_that_is_told(
    own_memory: Any,
) -> None:
    lock = SharedLock()
    async with Worker(targets.hold_for_ever, lock, kind=own_memory) as worker:
        assert await worker.receive() == "held"
        assert lock.locked()
        assert await lock.acquire(timeout=0) is False
        async with anyio.create_task_group() as tasks:

            async def acquire() -> None:
                with anyio.fail_after(LONG):
                    async with lock:
                        # An isolate ends in peace, by its `with` block; a process does not.
                        assert lock.torn == (own_memory == "process")

            tasks.start_soon(acquire)
            await anyio.wait_all_tasks_blocked()
            await worker.terminate()
    async with lock:
        assert not lock.torn


async def test_a_holder_that_crashes_gives_the_lock_up() -> None:
    lock = SharedLock()
    async with Worker(targets.die_holding, lock) as worker:
        await worker.receive()
        await worker.send("now")
        with anyio.fail_after(LONG):
            await lock.acquire()
        assert lock.torn
        lock.release()
        await worker.wait()


async def test_a_killed_looker_takes_the_lock_from_nobody(own_memory: Any) -> None:
    for _ in range(10):
        lock = SharedLock()
        await lock.acquire()
        async with Worker(targets.look_at_lock, lock, kind=own_memory) as worker:
            await worker.receive()
            await worker.terminate()
        assert lock.locked()
        lock.release()


async def test_a_lock_survives_the_stop_of_who_takes_it_all_the_time(own_memory: Any) -> None:
    lock = SharedLock()
    for _ in range(30):
        async with Worker(targets.take_and_give_back, lock, kind=own_memory) as worker:
            await worker.receive()
            await worker.terminate()
        with anyio.fail_after(LONG):
            await lock.acquire()
        lock.release()


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

"""Shared memory and events: one and the same wherever they are used."""

from __future__ import annotations

import pickle
from typing import Any

import anyio
import numpy  # here, because it starts threads that stay
import pytest
import targets_shared
from worker_help import run_all

from loopworkers import NotTransferable, SharedBuffer, SharedEvent, Worker, WorkerPool, channel

pytestmark = pytest.mark.anyio


async def test_what_is_written_in_one_worker_is_seen_in_all(kind: Any) -> None:
    with SharedBuffer(4096) as buffer:
        workers = [
            Worker(targets_shared.fill_stripe, buffer, index, 4, kind=kind) for index in range(4)
        ]
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


async def test_an_event_wakes_all_who_wait(kind: Any) -> None:
    event = SharedEvent()
    async with anyio.create_task_group() as tasks:

        async def one() -> None:
            async with Worker(targets_shared.wait_for_event, event, kind=kind) as worker:
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

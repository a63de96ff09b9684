"""The receiver owns what it got; the sender may do as it likes with what it sent."""

from __future__ import annotations

import os
from array import array
from typing import Any

import contract_work as work
import pytest
from contract_help import Gate, eventually, on_two_loops

from loopworkers import WorkerPool

pytestmark = [pytest.mark.anyio, on_two_loops]

# Within a message, in shared memory, and in pieces.
SIZES = [100, 40_000, 1_000_000]


@pytest.mark.parametrize("size", SIZES)
async def test_what_was_writable_is_writable_there_and_back(kind: str, size: int) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        for writable in (
            bytearray(size),
            memoryview(bytearray(size)),
            memoryview(bytearray(size))[::2],
            memoryview(array("i", bytes(size))),
        ):
            back = await pool.run(work.fill, writable)  # writes to its argument
            assert back[0] == 7
            back[1] = 8  # and so may we to the result
            assert back[1] == 8


@pytest.mark.parametrize("size", SIZES)
async def test_what_was_read_only_is_read_only_there_and_back(kind: str, size: int) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        for constant in (memoryview(bytes(size)), memoryview(bytearray(size)).toreadonly()):
            with pytest.raises(TypeError, match="read-only"):
                await pool.run(work.fill, constant)
            assert (await pool.run(work.echo, constant)).readonly


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("of", ["bytes", "bytearray"])
async def test_results_are_not_changed_by_later_calls(kind: str, of: str, size: int) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        results = [await pool.run(work.make, of, size, byte) for byte in range(4)]
        several = [pool.run(work.make, of, size, byte) for byte in range(4, 8)]
        results += [await future for future in several]
        await pool.run(work.digest, b"\xff" * size)
        assert [bytes(result) for result in results] == [bytes([b]) * size for b in range(8)]


@pytest.mark.parametrize("size", SIZES)
async def test_arguments_that_a_worker_keeps_are_not_changed_by_later_calls(
    own_memory: str, size: int
) -> None:
    sent = [bytearray([byte]) * size for byte in range(4)]
    sent += [memoryview(bytes([byte]) * size) for byte in range(4)]
    async with WorkerPool(own_memory, max_workers=1) as pool:
        for buffer in sent:
            await pool.run(work.keep, buffer)
        await pool.run(work.make, "bytearray", size, 255)
        assert await pool.run(work.kept_digests) == [work.digest(buffer) for buffer in sent]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("calls_before", [0, 1, 40], ids=["at once", "sent ahead", "queued"])
async def test_changing_a_buffer_after_the_call_changes_nothing(
    own_memory: str, gate: Gate, size: int, calls_before: int
) -> None:
    async with WorkerPool(own_memory, max_workers=1) as pool:
        await pool.run(work.echo, 1)  # so that "at once" is not "when it has started"
        before = [pool.run(work.hold, str(gate)) for _ in range(calls_before)]
        data = bytearray(os.urandom(size))
        expected = work.digest(data)
        future = pool.run(work.digest, data)
        data[:] = bytes(size)
        gate.open()
        for call in before:
            await call
        assert await future == expected


@pytest.mark.parametrize("size", SIZES)
async def test_changing_a_buffer_while_the_worker_starts_changes_nothing(
    own_memory: str, size: int
) -> None:
    async with WorkerPool(own_memory, max_workers=1) as pool:
        data = bytearray(os.urandom(size))
        expected = work.digest(data)
        future = pool.run(work.digest, data)
        data[:] = bytes(size)
        assert await future == expected


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("calls_before", [0, 1, 40], ids=["at once", "sent ahead", "queued"])
async def test_a_buffer_can_be_resized_right_after_the_call(
    own_memory: str, gate: Gate, size: int, calls_before: int
) -> None:
    async with WorkerPool(own_memory, max_workers=1) as pool:
        await pool.run(work.echo, 1)
        before = [pool.run(work.hold, str(gate)) for _ in range(calls_before)]
        data = bytearray(os.urandom(size))
        expected = work.digest(data)
        future = pool.run(work.digest, data)
        data.clear()  # BufferError if something still refers to its memory
        gate.open()
        for call in before:
            await call
        assert await future == expected


@pytest.mark.parametrize("size", SIZES)
async def test_a_buffer_resized_before_its_worker_dies_arrives_at_the_next(size: int) -> None:
    import psutil

    async with WorkerPool("process", max_workers=1) as pool:
        worker = psutil.Process((await pool.run(work.where))[0])
        worker.suspend()  # it receives nothing any more, and is idle as far as anybody knows
        await eventually(lambda: worker.status() == psutil.STATUS_STOPPED)
        data = bytearray(os.urandom(size))
        expected = work.digest(data)
        future = pool.run(work.digest, data)
        data.clear()
        worker.kill()
        assert await future == expected
        assert pool.stats().started == 2


async def test_changing_a_list_after_the_call_changes_nothing(own_memory: str) -> None:
    async with WorkerPool(own_memory, max_workers=1) as pool:
        data: list[Any] = [1, [2]]
        future = pool.run(work.echo, data)
        data[1].append(3)
        assert await future == [1, [2]]


async def test_threads_get_the_very_object() -> None:
    data = [object()]
    async with WorkerPool("thread", max_workers=1) as pool:
        assert await pool.run(work.echo, data) is data

"""`stream`: the values of a generator as they come, never far ahead of who consumes them."""

from __future__ import annotations

import gc
import threading
from contextlib import aclosing
from typing import Any

import anyio
import anyio.lowlevel
import contract_work as work
import pytest
from contract_help import LONG, Gate, eventually, on_uvloop_and_trio

from loopworkers import CallTimeout, NotTransferable, WorkerDied, WorkerPool

pytestmark = [pytest.mark.anyio, on_uvloop_and_trio]

AHEAD = 16  # how far a generator may be ahead, as `WorkerPool.stream` documents


async def test_values_come_in_order_from_generators_and_iterables(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        for fn, args, expected in (
            (work.numbers, (100,), list(range(100))),
            (work.numbers_later, (100,), list(range(100))),
            (work.numbers, (0,), []),
            (range, (5,), list(range(5))),
            (work.echo, ("abc",), ["a", "b", "c"]),
        ):
            values = [value async for value in pool.stream(fn, *args)]  # type: ignore[arg-type]
            assert values == expected
        assert await pool.run(work.echo, 1) == 1


async def test_a_generator_by_value(kind: str) -> None:
    factor = 3

    def generate(n: int):
        for i in range(n):
            yield i * factor

    async with WorkerPool(kind, max_workers=1) as pool:
        assert [v async for v in pool.stream(generate, 3)] == [0, 3, 6]


async def test_large_values_are_each_ones_own(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        values = [v async for v in pool.stream(work.numbers, 40, size=200_000)]
        assert [number for number, _ in values] == list(range(40))
        assert all(len(data) == 200_000 for _, data in values)


@pytest.mark.parametrize("fn", [work.numbers, work.numbers_later])
async def test_a_slow_consumer_stops_the_producer(kind: str, gate: Gate, fn: Any) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        async with pool.stream(fn, 1000, str(gate)) as stream:
            seen = 0
            async for _ in stream:
                seen += 1
                if seen % 20 == 0:
                    # It comes as far as it may, and no further however long we take.
                    await eventually(lambda: gate.count("begun") > seen)  # noqa: B023
                    for _ in range(50):
                        await anyio.lowlevel.checkpoint()
                    assert gate.count("begun") <= seen + AHEAD + 1
                if seen == 100:
                    break
        await eventually(lambda: gate.count("left") == 1)
        assert gate.count("begun") <= 100 + 2 * AHEAD


async def test_leaving_early_ends_the_generator_and_frees_its_worker(kind: str, gate: Gate) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        async with pool.stream(work.numbers, 10**9, str(gate)) as stream:
            async for value in stream:
                if value == 3:
                    break
        assert await pool.run(work.echo, 1) == 1
        assert gate.count("left") == 1  # its `finally` has run
        assert pool.stats().killed == 0


async def test_a_bare_break_ends_it_too(kind: str, gate: Gate) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        async for value in pool.stream(work.numbers, 10**9, str(gate)):
            if value == 3:
                break
        gc.collect()
        assert await pool.run(work.echo, 1) == 1
        assert gate.count("left") == 1


async def test_aclosing_ends_it_too(kind: str, gate: Gate) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        async with aclosing(pool.stream(work.numbers_later, 10**9, str(gate))) as stream:
            assert await anext(stream) == 0
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        assert await pool.run(work.echo, 1) == 1
        assert gate.count("left") == 1


async def test_a_stream_that_is_never_begun_can_be_dropped(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        pool.stream(work.numbers, 10**9)
        gc.collect()
        assert await pool.run(work.echo, 1) == 1


async def test_a_generator_that_does_not_end_is_stopped(own_memory: str, gate: Gate) -> None:
    async with WorkerPool(own_memory, max_workers=1) as pool:
        async with pool.stream(work.number_then_hold, str(gate)) as stream:
            assert await anext(stream) == 1
            await gate.begun()
        assert await pool.run(work.echo, 1) == 1
        assert gate.count("ended") == 0
        assert pool.stats().killed == 1


async def test_an_error_comes_after_the_values_before_it(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        seen: list[int] = []
        with pytest.raises(LookupError, match="after the last"):  # noqa: PT012
            async for value in pool.stream(work.numbers_then_error, 40):
                seen.append(value)
        assert seen == list(range(40))
        assert await pool.run(work.echo, 1) == 1


async def test_a_value_that_cannot_travel_is_an_error(own_memory: str) -> None:
    async with WorkerPool(own_memory, max_workers=1) as pool:
        seen: list[int] = []
        with pytest.raises((NotTransferable, TypeError), match="lock"):  # noqa: PT012
            async for value in pool.stream(work.unpicklable_third):
                seen.append(value)
        assert seen == [1, 2]
        assert await pool.run(work.echo, 1) == 1


async def test_a_function_that_is_no_generator_is_refused(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        with pytest.raises(TypeError, match="generator"):
            async for _ in pool.stream(work.echo, 5):  # type: ignore[arg-type]
                pass


async def test_a_dying_worker_ends_the_stream() -> None:
    async with WorkerPool("process", max_workers=1) as pool:
        seen: list[int] = []
        with pytest.raises(WorkerDied):  # noqa: PT012
            async for value in pool.stream(work.numbers_then_die, 3):
                seen.append(value)
        assert seen == [0, 1, 2]


async def test_a_timeout_ends_the_stream(own_memory: str, gate: Gate) -> None:
    async with WorkerPool(own_memory, max_workers=1) as pool:
        await pool.run(work.echo, 1)
        with pytest.raises(CallTimeout):
            async for _ in pool.options(timeout=0.2).stream(work.number_then_hold, str(gate)):
                pass
        assert await pool.run(work.echo, 1) == 1


async def test_a_cancelled_consumer_ends_the_generator(own_memory: str, gate: Gate) -> None:
    async def consume() -> None:
        async with pool.stream(work.number_then_hold, str(gate)) as stream:
            async for _ in stream:
                pass

    async with WorkerPool(own_memory, max_workers=1) as pool:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consume)
            await gate.begun()
            tasks.cancel_scope.cancel()
        assert await pool.run(work.echo, 1) == 1


async def test_calls_run_beside_a_stream_on_other_workers(kind: str, gate: Gate) -> None:
    async with (
        WorkerPool(kind, max_workers=2) as pool,
        pool.stream(work.numbers, 10**9) as stream,
    ):
        assert await anext(stream) == 0
        futures = [pool.run(work.echo, n) for n in range(40)]
        assert [await future for future in futures] == list(range(40))
        assert await anext(stream) == 1


async def test_two_consumers_share_the_values_and_both_end(kind: str) -> None:
    found: list[list[int]] = [[], []]

    async def consume(number: int) -> None:
        async for value in stream:
            found[number].append(value)
            await anyio.lowlevel.checkpoint()

    async with (
        WorkerPool(kind, max_workers=1) as pool,
        pool.stream(work.numbers_later, 60) as stream,
    ):
        with anyio.fail_after(LONG):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(consume, 0)
                tasks.start_soon(consume, 1)
        assert sorted(found[0] + found[1]) == list(range(60))


async def test_a_thread_that_was_given_up_ends_in_silence(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", noise.append)
    async with WorkerPool("thread", max_workers=1) as pool:
        async with pool.stream(work.hold_between, str(gate)) as stream:
            assert await anext(stream) == 1
            await gate.begun()
        await eventually(lambda: pool.stats().stuck == 1)
        threads = [t for t in threading.enumerate() if t.name.startswith("loopworkers thread")]
        assert threads
        gate.open()
        await eventually(lambda: not any(thread.is_alive() for thread in threads))
    assert noise == []


async def test_two_streams_at_once(kind: str) -> None:
    async with (
        WorkerPool(kind, max_workers=2) as pool,
        pool.stream(work.numbers, 60) as first,
        pool.stream(work.numbers_later, 60) as second,
    ):
        for n in range(60):
            assert (await anext(first), await anext(second)) == (n, n)

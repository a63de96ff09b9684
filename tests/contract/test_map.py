"""`map`: many calls over iterables, in order or not, in bounded memory."""

from __future__ import annotations

import asyncio
import itertools
from concurrent.futures import CancelledError
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import contract_work as work
import pytest
from contract_help import Gate, on_uvloop_and_trio

from loopworkers import PoolClosed, WorkerDied, WorkerPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

pytestmark = [pytest.mark.anyio, on_uvloop_and_trio]


async def later(count: int) -> AsyncIterator[int]:
    for n in range(count):
        await anyio.lowlevel.checkpoint()
        yield n


@pytest.mark.parametrize("chunksize", [1, 7])
async def test_results_come_in_order(kind: str, chunksize: int) -> None:
    async with WorkerPool(kind, max_workers=2) as pool:
        results = [r async for r in pool.map(work.square, range(200), chunksize=chunksize)]
        assert results == [n * n for n in range(200)]
        assert [r async for r in pool.map(work.square, [], chunksize=chunksize)] == []
        results = [r async for r in pool.map(work.double_later, range(20), chunksize=chunksize)]
        assert results == [n * 2 for n in range(20)]
        results = [r async for r in pool.map(lambda n: n + 1, range(20), chunksize=chunksize)]
        assert results == list(range(1, 21))


@pytest.mark.parametrize("chunksize", [1, 3])
async def test_whatever_gives_a_coroutine_is_run_as_in_a_single_call(
    kind: str, chunksize: int
) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        for fn, expected in (
            (work.double_later, [0, 2, 4, 6]),
            (lambda n: work.double_later(n), [0, 2, 4, 6]),
            (partial(work.double_later), [0, 2, 4, 6]),
            (work.AsyncAdder(3), [3, 4, 5, 6]),
            (lambda n: work.double_later(n) if n % 2 else n, [0, 2, 2, 6]),
        ):
            results = pool.map(fn, range(4), chunksize=chunksize)
            assert [r async for r in results] == expected
        with pytest.raises(LookupError, match="later"):
            async for _ in pool.map(lambda _: work.fail_later(), range(4), chunksize=chunksize):
                pass


@pytest.mark.parametrize("chunksize", [1, 7])
async def test_unordered_results_are_all_there(kind: str, chunksize: int) -> None:
    async with WorkerPool(kind, max_workers=2) as pool:
        found = pool.map(work.square, range(200), chunksize=chunksize, ordered=False)
        assert sorted([r async for r in found]) == [n * n for n in range(200)]


async def test_unordered_results_do_not_wait_for_a_slow_one(kind: str, gate: Gate) -> None:
    async with WorkerPool(kind, max_workers=2) as pool:
        found: list[int] = []
        items = [(n, str(gate)) for n in range(20)]
        async for result in pool.map(
            work.hold_first, [n for n, _ in items], itertools.repeat(str(gate)), ordered=False
        ):
            found.append(result)
            if len(found) == 19:
                assert 0 not in found
                gate.open()
        assert sorted(found) == list(range(20))
        assert found[-1] == 0


async def test_several_iterables_sync_and_async_stop_with_the_shortest(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:

        async def pairs(*iterables: object, **options: int) -> list[object]:
            found = pool.map(work.echo_all, *iterables, **options)  # type: ignore[arg-type]
            return [args async for args, _ in found]

        assert await pairs(range(3), "ab") == [(0, "a"), (1, "b")]
        assert await pairs(range(9), later(3), itertools.count(5)) == [
            (0, 0, 5), (1, 1, 6), (2, 2, 7),
        ]  # fmt: skip
        assert await pairs(later(5), chunksize=2) == [(n,) for n in range(5)]
        async with aclosing(later(5)) as longer:
            assert await pairs(longer, "ab") == [(0, "a"), (1, "b")]
        assert await pairs(later(0)) == []


async def test_an_endless_iterable_is_taken_only_as_results_are(kind: str, gate: Gate) -> None:
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        for n in itertools.count():
            taken += 1
            yield n

    async with WorkerPool(kind, max_workers=2) as pool:
        async with pool.map(work.square, endless(), in_flight=10) as results:
            for n in range(50):
                assert await anext(results) == n * n
                assert taken <= n + 1 + 10
        assert await pool.run(work.echo, 1) == 1
        assert pool.stats().running + pool.stats().waiting == 0


async def test_no_more_than_in_flight_calls_are_on_their_way(kind: str, gate: Gate) -> None:
    async with WorkerPool(kind, max_workers=2) as pool:
        found: list[int] = []

        async def consume() -> None:
            async for value in pool.map(
                work.hold, itertools.repeat(str(gate)), range(30), in_flight=5
            ):
                found.append(value)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consume)
            await gate.begun(2)
            await anyio.wait_all_tasks_blocked()
            stats = pool.stats()
            assert stats.running + stats.waiting == 5
            gate.open()
        assert found == list(range(30))


async def test_leaving_early_stops_what_is_on_its_way(own_memory: str, gate: Gate) -> None:
    async with WorkerPool(own_memory, max_workers=2) as pool:
        async with pool.map(work.hold_first, [1, 0, 0, 0], [str(gate)] * 4) as results:
            async for result in results:
                assert result == 1
                await gate.begun(2)
                break
        assert await pool.run(work.echo, 1) == 1
        assert gate.count("ended") == 0
        assert gate.count("begun") == 2
        assert pool.stats().cancelled == 3


async def test_a_bare_break_stops_it_too(own_memory: str, gate: Gate) -> None:
    async with WorkerPool(own_memory, max_workers=1) as pool:
        async for _ in pool.map(work.hold_first, [1, 0, 0], [str(gate)] * 3):
            break
        assert await pool.run(work.echo, 1) == 1
        assert pool.stats().cancelled == 2


async def test_a_cancelled_consumer_stops_the_calls(own_memory: str, gate: Gate) -> None:
    async def consume() -> None:
        async for _ in pool.map(work.busy, [str(gate)] * 10):
            pass

    async with WorkerPool(own_memory, max_workers=2) as pool:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consume)
            await gate.begun(2)
            tasks.cancel_scope.cancel()
        assert await pool.run(work.echo, 1) == 1
        assert gate.count("begun") == 2


@pytest.mark.parametrize("chunksize", [1, 3])
async def test_the_first_error_in_order_is_raised(kind: str, chunksize: int) -> None:
    async with WorkerPool(kind, max_workers=2) as pool:
        found: list[int] = []
        with pytest.raises(LookupError) as caught:  # noqa: PT012
            async for result in pool.map(
                work.fail_at, range(100), itertools.repeat(30), chunksize=chunksize
            ):
                found.append(result)
        assert caught.value.args == (30,)
        assert found == list(range(30))
        assert await pool.run(work.echo, 1) == 1
        assert pool.stats().running + pool.stats().waiting == 0


@pytest.mark.parametrize("chunksize", [1, 3])
async def test_an_error_of_an_iterable_is_raised_after_the_items_before_it(
    kind: str, chunksize: int
) -> None:
    def broken() -> Iterator[int]:
        yield from range(5)
        raise LookupError("of the iterable")

    async def broken_later() -> AsyncIterator[int]:
        for n in range(5):
            yield n
        raise LookupError("of the iterable")

    async with WorkerPool(kind, max_workers=1) as pool:
        for iterable in (broken(), broken_later()):
            found: list[int] = []
            with pytest.raises(LookupError, match="of the iterable"):  # noqa: PT012
                async for result in pool.map(work.square, iterable, chunksize=chunksize):
                    found.append(result)
            assert found == [0, 1, 4, 9, 16]
        assert await pool.run(work.echo, 1) == 1


async def test_an_iterable_that_was_cancelled_does_not_look_exhausted(
    kind: str, gate: Gate
) -> None:
    async def waits_for_what_is_cancelled() -> AsyncIterator[int]:
        yield 1
        call = pool.run(work.hold, str(gate))
        dropped = pool.run(work.echo, 1)
        dropped.cancel()
        gate.open()
        await call
        await dropped

    async with WorkerPool(kind, max_workers=1) as pool:
        found: list[int] = []
        with pytest.raises((asyncio.CancelledError, CancelledError)):  # noqa: PT012
            async for result in pool.map(work.square, waits_for_what_is_cancelled()):
                found.append(result)
        assert found == [1]
        assert await pool.run(work.echo, 1) == 1


async def test_a_dying_worker_fails_its_item(own_memory: str) -> None:
    async with WorkerPool(own_memory, max_workers=2) as pool:
        with pytest.raises(WorkerDied):
            async for _ in pool.map(work.throw_named, ["SystemExit"] * 3):
                pass
        assert await pool.run(work.echo, 1) == 1


async def test_a_map_does_not_overrun_a_bounded_pool(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1, max_pending=3) as pool:
        results = [r async for r in pool.map(work.square, range(100))]
        assert results == [n * n for n in range(100)]


@pytest.mark.parametrize("chunksize", [1, 3])
async def test_maps_share_a_bounded_pool(kind: str, chunksize: int) -> None:
    found: list[list[int]] = [[], [], [], []]

    async def consume(number: int) -> None:
        items = range(50) if number % 2 else later(50)
        async for result in pool.map(work.square, items, chunksize=chunksize, ordered=number < 2):
            found[number].append(result)

    async with WorkerPool(kind, max_workers=1, max_pending=2) as pool:
        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(consume, number)
        assert [sorted(results) for results in found] == [[n * n for n in range(50)]] * 4


async def test_a_map_waits_until_other_calls_leave_room(kind: str, gate: Gate) -> None:
    found: list[int] = []

    async def consume(items: Iterable[int] | AsyncIterable[int]) -> None:
        async for result in pool.map(work.square, items):
            found.append(result)

    async with WorkerPool(kind, max_workers=1, max_pending=1) as pool:
        held = [pool.run(work.hold, str(gate)) for _ in range(2)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consume, range(5))
            tasks.start_soon(consume, later(5))
            await gate.begun()
            await anyio.wait_all_tasks_blocked()
            assert found == []
            gate.open()
        assert sorted(found) == sorted(2 * [n * n for n in range(5)])
        for future in held:
            await future


async def test_a_map_that_waits_for_room_ends_with_the_pool(kind: str, gate: Gate) -> None:
    async def consume(items: Iterable[int] | AsyncIterable[int]) -> None:
        with pytest.raises(PoolClosed):
            async for _ in pool.map(work.square, items):
                pass

    async with anyio.create_task_group() as tasks:
        async with WorkerPool(kind, max_workers=1, max_pending=0) as pool:
            held = pool.run(work.hold, str(gate))
            tasks.start_soon(consume, range(5))
            tasks.start_soon(consume, later(5))
            await gate.begun()
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(pool.aclose)
            await anyio.wait_all_tasks_blocked()
            gate.open()
        await held


async def test_wrong_arguments_are_refused(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        with pytest.raises(TypeError, match="at least one iterable"):
            pool.map(work.square)
        for name in ("chunksize", "in_flight"):
            with pytest.raises(ValueError, match=name):
                pool.map(work.square, [1], **{name: 0})  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            pool.map(work.square, 5)  # type: ignore[arg-type]

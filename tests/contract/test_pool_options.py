"""Options of a pool and of calls: what they are checked for, and what they do."""

from __future__ import annotations

import sys
from typing import Any

import contract_work as work
import pytest
from contract_help import Gate, on_two_loops

from loopworkers import CallTimeout, IsolateUnsupported, PoolClosed, PoolFull, WorkerPool

pytestmark = [pytest.mark.anyio, on_two_loops]


class PickledWith:
    """Notes that it was pickled."""

    def __init__(self) -> None:
        self.pickled = 0

    def __reduce__(self) -> Any:
        self.pickled += 1
        return PickledWith, ()


@pytest.mark.parametrize(
    ("options", "error", "names"),
    [
        ({"kind": "fibre"}, ValueError, "kind"),
        ({"max_workers": 0}, ValueError, "max_workers"),
        ({"max_workers": 2, "min_workers": 3}, ValueError, "min_workers"),
        ({"min_workers": -1}, ValueError, "min_workers"),
        ({"idle_timeout": -1}, ValueError, "idle_timeout"),
        ({"idle_timeout": float("nan")}, ValueError, "idle_timeout"),
        ({"max_pending": -1}, ValueError, "max_pending"),
        ({"timeout": 0}, ValueError, "timeout"),
        ({"timeout": -1}, ValueError, "timeout"),
        ({"retries": -1}, ValueError, "retries"),
        ({"on_cancel": "forget"}, ValueError, "on_cancel"),
        ({"max_tasks_per_worker": 0}, ValueError, "max_tasks_per_worker"),
        ({"max_worker_memory": 0}, ValueError, "max_worker_memory"),
        ({"kind": "thread", "max_worker_memory": 10**9}, ValueError, "max_worker_memory"),
        ({"initializer": 5}, TypeError, "initializer"),
        ({"max_worker": 3}, TypeError, "max_worker"),
    ],
    ids=str,
)
async def test_wrong_options_are_refused_by_name(
    options: dict[str, Any], error: type[Exception], names: str
) -> None:
    with pytest.raises(error, match=names):
        WorkerPool(**options)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python has isolates")
async def test_where_there_are_no_isolates_it_says_so() -> None:
    with pytest.raises(IsolateUnsupported, match=r"3\.14") as caught:
        WorkerPool("isolate")
    assert isinstance(caught.value, ImportError)
    assert caught.value.name is None


async def test_options_of_a_call_go_before_those_of_the_pool(own_memory: str, gate: Gate) -> None:
    async with WorkerPool(own_memory, max_workers=1, timeout=0.2) as pool:
        await pool.options(timeout=None).run(work.echo, 1)
        future = pool.options(timeout=None).run(work.hold, str(gate), "value")
        await gate.begun()
        with pytest.raises(CallTimeout):
            await pool.run(work.echo, 1)
        gate.open()
        assert await future == "value"
        view = pool.options(on_cancel="wait")
        assert await view.options(ordered=False).run(work.echo, 2) == 2  # type: ignore[attr-defined]


async def test_options_apply_to_map_and_stream(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        view = pool.options(chunksize=3, in_flight=2, ordered=False)
        assert sorted([v async for v in view.map(work.square, range(10))]) == [
            n * n for n in range(10)
        ]
        assert [v async for v in view.stream(work.numbers, 3)] == [0, 1, 2]


@pytest.mark.parametrize("options", [{"timeout": 0}, {"retries": -1}, {"on_cancel": "x"},
                                     {"chunksize": 0}, {"in_flight": 0}], ids=str)  # fmt: skip
async def test_wrong_options_of_a_call_are_refused(kind: str, options: dict[str, Any]) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        with pytest.raises(ValueError, match=next(iter(options))):
            pool.options(**options)
        with pytest.raises(TypeError, match="tiemout"):
            pool.options(tiemout=3)


# --- max_pending ---------------------------------------------------------------------------------


async def test_a_full_pool_refuses_before_anything_is_pickled(kind: str, gate: Gate) -> None:
    async with WorkerPool(kind, max_workers=1, max_pending=2) as pool:
        futures = [pool.run(work.hold, str(gate), n) for n in range(3)]
        argument = PickledWith()
        for _ in range(3):
            with pytest.raises(PoolFull, match=r"echo.*max_pending|max_pending.*echo"):
                pool.run(work.echo, argument)
            with pytest.raises(PoolFull):
                pool.stream(work.numbers, 3)
        assert argument.pickled == 0
        gate.open()
        assert [await future for future in futures] == [0, 1, 2]
        assert await pool.run(work.echo, 1) == 1


async def test_a_dropped_call_makes_room(kind: str, gate: Gate) -> None:
    async with WorkerPool(kind, max_workers=1, max_pending=1) as pool:
        running, waiting = (pool.run(work.hold, str(gate), n) for n in range(2))
        await gate.begun()
        assert waiting.cancel()
        another = pool.run(work.echo, 5)
        with pytest.raises(PoolFull):
            pool.run(work.echo, 6)
        gate.open()
        assert (await running, await another) == (0, 5)


async def test_max_pending_zero_takes_only_what_can_run(kind: str, gate: Gate) -> None:
    async with WorkerPool(kind, max_workers=2, max_pending=0) as pool:
        futures = [pool.run(work.hold, str(gate)) for _ in range(2)]
        with pytest.raises(PoolFull):
            pool.run(work.echo, 1)
        gate.open()
        for future in futures:
            await future


# --- stats, name, opening and closing ------------------------------------------------------------


async def test_stats_tell_what_the_pool_does(kind: str, gate: Gate) -> None:
    pool = WorkerPool(kind, max_workers=2)
    assert (pool.stats().workers, pool.stats().started) == (0, 0)
    async with pool:
        assert pool.stats().kind == kind
        futures = [pool.run(work.hold, str(gate)) for _ in range(30)]
        await gate.begun(2)
        stats = pool.stats()
        assert (stats.workers, stats.idle, stats.running + stats.waiting) == (2, 0, 30)
        assert stats.waiting >= 20
        gate.open()
        for future in futures:
            await future
        with pytest.raises(LookupError):
            await pool.run(work.fail_at, 1, 1)
        stats = pool.stats()
        assert (stats.completed, stats.failed, stats.started) == (30, 1, 2)
        assert (stats.workers, stats.idle, stats.running, stats.waiting) == (2, 2, 0, 0)
        assert (stats.died, stats.killed, stats.stuck, stats.cancelled) == (0, 0, 0, 0)
    assert (pool.stats().workers, pool.stats().completed) == (0, 30)


async def test_a_pool_can_be_named(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1, name="renderer") as pool:
        assert "renderer" in repr(pool)
    with pytest.raises(PoolClosed, match="renderer"):
        pool.run(work.echo, 1)


async def test_a_pool_takes_calls_only_while_it_is_open(kind: str) -> None:
    pool = WorkerPool(kind, max_workers=1)
    with pytest.raises(PoolClosed, match="async with"):
        pool.run(work.echo, 1)
    async with pool:
        assert await pool.run(work.echo, 1) == 1
    for call in (lambda: pool.run(work.echo, 1), lambda: pool.stream(work.numbers, 1)):
        with pytest.raises(PoolClosed, match="closed"):
            call()
    with pytest.raises(PoolClosed, match="second time"):
        async with pool:
            pass
    await pool.aclose()  # once more is no error

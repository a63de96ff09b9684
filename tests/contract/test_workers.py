"""How many workers there are, how long they live, and how they are made ready."""

from __future__ import annotations

import sys
from time import monotonic
from typing import TYPE_CHECKING

import anyio
import contract_work as work
import pytest
from contract_help import Gate, eventually, on_two_loops

from loopworkers import NotTransferable, WorkerDied, WorkerPool

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, on_two_loops]


async def test_workers_start_when_needed_and_no_more_than_allowed(kind: str, gate: Gate) -> None:
    async with WorkerPool(kind, max_workers=3) as pool:
        assert pool.stats().started == 0
        for _ in range(5):
            await pool.run(work.echo, 1)
        assert pool.stats().started == 1
        futures = [pool.run(work.hold, str(gate)) for _ in range(10)]
        await gate.begun(3)
        assert pool.stats().workers == 3
        gate.open()
        for future in futures:
            await future


async def test_min_workers_are_there_from_the_start_and_stay(kind: str) -> None:
    options = {"max_workers": 3, "min_workers": 2, "idle_timeout": 0.05}
    async with WorkerPool(kind, **options) as pool:  # type: ignore[arg-type]
        assert pool.stats().workers == 2
        first = await pool.run(work.where)
        with anyio.move_on_after(0.3):
            await eventually(lambda: pool.stats().workers < 2)
        assert pool.stats().workers == 2
        assert await pool.run(work.where) == first or pool.stats().started == 2


async def test_a_warm_worker_that_dies_is_replaced_without_a_call(own_memory: str) -> None:
    async with WorkerPool(own_memory, max_workers=2, min_workers=1) as pool:
        with pytest.raises(Exception, match=r"sys\.exit|exit code"):
            await pool.run(work.throw_named, "SystemExit", 4)
        await eventually(lambda: pool.stats().workers == 1 and pool.stats().started == 2)
        assert await pool.run(work.echo, 1) == 1


async def test_idle_workers_are_let_go_by_a_timer(kind: str, gate: Gate) -> None:
    async with WorkerPool(kind, max_workers=3, idle_timeout=0.1) as pool:
        futures = [pool.run(work.hold, str(gate)) for _ in range(3)]
        await gate.begun(3)
        gate.open()
        for future in futures:
            await future
        await eventually(lambda: pool.stats().workers == 0)  # nobody calls meanwhile
        assert pool.stats().retired == 3
        assert pool.stats().died == 0
        assert await pool.run(work.echo, 1) == 1


async def test_idle_timeout_zero_keeps_nobody(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1, idle_timeout=0) as pool:
        for _ in range(5):
            assert await pool.run(work.echo, 1) == 1
        await eventually(lambda: pool.stats().workers == 0)


async def test_a_worker_is_replaced_after_its_number_of_calls(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1, max_tasks_per_worker=3) as pool:
        futures = [pool.run(work.where) for _ in range(12)]
        served = [await future for future in futures]
        assert all(len(set(served[n : n + 3])) == 1 for n in range(0, 12, 3))
        stats = pool.stats()
        assert (stats.completed, stats.retired, stats.died) == (12, 4, 0)


async def test_one_call_a_worker(kind: str) -> None:
    async with WorkerPool(kind, max_workers=2, max_tasks_per_worker=1) as pool:
        futures = [pool.run(work.echo, n) for n in range(10)]
        assert [await future for future in futures] == list(range(10))
        assert pool.stats().started >= 10


async def test_a_process_that_has_grown_is_replaced() -> None:
    limit = 120 * 2**20
    async with WorkerPool("process", max_workers=1, max_worker_memory=limit) as pool:
        first = await pool.run(work.allocate, 1)
        assert await pool.run(work.allocate, 1) == first
        assert await pool.run(work.allocate, 200) == first
        assert await pool.run(work.allocate, 1) != first
        assert (pool.stats().retired, pool.stats().failed) == (1, 0)


# --- preload and initializer ---------------------------------------------------------------------


async def test_modules_are_preloaded(own_memory: str) -> None:
    def is_loaded() -> bool:
        return "wave" in sys.modules

    for preload in (["wave"], "wave"):
        async with WorkerPool(own_memory, max_workers=1, preload=preload) as pool:
            assert await pool.run(is_loaded)
    async with WorkerPool(own_memory, max_workers=1) as pool:
        assert not await pool.run(is_loaded)


async def test_a_preload_that_fails_is_the_callers_error(kind: str) -> None:
    async with WorkerPool(kind, max_workers=1, preload=["no_such_module_anywhere"]) as pool:
        for _ in range(2):
            with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
                await pool.run(work.echo, 1)


async def test_the_initializer_runs_once_in_each_worker(own_memory: str) -> None:
    options = {"initializer": work.initialize, "initargs": ("a", [1])}
    async with WorkerPool(own_memory, max_workers=1, **options) as pool:  # type: ignore[arg-type]
        for _ in range(3):
            assert await pool.run(work.get_initialized) == [("a", [1])]


async def test_the_initializer_can_be_a_closure(kind: str) -> None:
    value = f"closure {monotonic()}"

    def initialize() -> None:
        sys.contract_value = value  # type: ignore[attr-defined]

    def get() -> object:
        return sys.contract_value  # type: ignore[attr-defined]

    async with WorkerPool(kind, max_workers=2, initializer=initialize) as pool:
        assert await pool.run(get) == value


async def test_the_initializer_runs_in_a_thread_too() -> None:
    work.initialized_with.clear()
    async with WorkerPool("thread", initializer=work.initialize, initargs=(1,)) as pool:
        assert await pool.run(work.get_initialized) == [(1,)]


async def test_a_failing_initializer_fails_who_waits_and_is_tried_again(
    kind: str, gate: Gate
) -> None:
    options = {"initializer": work.fail_to_initialize, "initargs": (str(gate),)}
    async with WorkerPool(kind, max_workers=2, **options) as pool:  # type: ignore[arg-type]
        futures = [pool.run(work.echo, n) for n in range(20)]
        for future in futures:
            with pytest.raises(LookupError, match="not today") as caught:
                await future
            assert any("initializer" in note for note in caught.value.__notes__)
        tried = gate.count("begun")
        assert tried <= 4  # and not one worker after the other
        with anyio.move_on_after(0.2):
            await eventually(lambda: gate.count("begun") > tried)
        assert gate.count("begun") == tried
        with pytest.raises(LookupError):
            await pool.run(work.echo, 1)
        gate.open()
        assert await pool.run(work.echo, 1) == 1
        assert pool.stats().stuck == 0


async def test_an_initializer_that_exits_fails_who_waits(kind: str) -> None:
    options = {"initializer": work.throw_named, "initargs": ("SystemExit", 3)}
    async with WorkerPool(kind, max_workers=1, **options) as pool:  # type: ignore[arg-type]
        with pytest.raises(Exception, match=r"SystemExit|exit"):
            await pool.run(work.echo, 1)
        assert pool.stats().started <= 3


async def test_an_initializer_that_kills_its_process_is_not_repeated_for_ever(
    tmp_path: Path,
) -> None:
    async with WorkerPool("process", max_workers=1, initializer=work.die) as pool:
        with pytest.raises(WorkerDied, match="while it started") as caught:
            await pool.run(work.echo, 1)
        assert caught.value.exitcode == 9
        assert pool.stats().started <= 5


async def test_an_initializer_that_cannot_travel_is_an_error_at_once(own_memory: str) -> None:
    from threading import Lock

    lock = Lock()
    for options in (
        {"initializer": lambda: lock},
        {"initializer": work.initialize, "initargs": ({"a": lock},)},
    ):
        with pytest.raises(NotTransferable, match=r"initializer.*'lock'|initargs\[0\]\['a'\]"):
            async with WorkerPool(own_memory, min_workers=1, **options):  # type: ignore[arg-type]
                pass


# --- retries -------------------------------------------------------------------------------------


async def test_a_call_is_run_again_when_its_worker_has_died(gate: Gate) -> None:
    async with WorkerPool("process", max_workers=1, retries=2) as pool:
        assert await pool.run(work.die_unless_marked, str(gate), 2) == "done"
        stats = pool.stats()
        assert (stats.retried, stats.died, stats.completed, stats.failed) == (2, 2, 1, 0)


async def test_a_call_that_kills_every_worker_is_given_up(gate: Gate) -> None:
    async with WorkerPool("process", max_workers=1, retries=2) as pool:
        beside = [pool.run(work.echo, n) for n in range(10)]
        with pytest.raises(Exception, match="exit code 9") as caught:
            await pool.run(work.die_unless_marked, str(gate), 99)
        assert type(caught.value).__name__ == "WorkerDied"
        assert gate.count("begun") == 3
        assert [await future for future in beside] == list(range(10))


async def test_a_function_that_raises_is_never_run_again(kind: str, gate: Gate) -> None:
    async with WorkerPool(kind, max_workers=1, retries=5) as pool:
        with pytest.raises(LookupError):
            await pool.run(work.fail_to_initialize, str(gate))
        assert gate.count("begun") == 1


async def test_a_retried_call_gets_what_was_sent(gate: Gate) -> None:
    data = bytearray(b"a" * 500_000)
    async with WorkerPool("process", max_workers=1, retries=1) as pool:
        future = pool.run(work.die_then_digest, str(gate), data)
        data[:] = bytes(500_000)
        assert await future == work.digest(b"a" * 500_000)

"""What a pool tells of each call's end, and of its workers that are ready."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

import contract_work as work
import pytest
from contract_help import eventually, on_two_loops

from loopworkers import CallEnd, CallTimeout, WorkerDied, WorkerPool

if TYPE_CHECKING:
    from contract_help import Gate

pytestmark = [pytest.mark.anyio, on_two_loops]


async def test_each_end_is_told_once(kind: str, gate: Gate) -> None:
    ends: list[CallEnd] = []
    async with WorkerPool(kind, max_workers=1) as pool:
        pool.observe(ends.append)
        assert await pool.run(work.echo, 5) == 5
        with pytest.raises(ValueError, match="seven"):
            await pool.run(int, "seven")
        with pytest.raises(CallTimeout):
            await pool.options(timeout=0.01, on_cancel="abandon").run(work.hold, str(gate))
        waiting = pool.run(work.echo, 6)
        waiting.cancel()
        gate.open()
        assert [n async for n in pool.stream(work.numbers, 3)] == [0, 1, 2]
        assert [n async for n in pool.map(work.echo, [1, 2])] == [1, 2]
        stats = pool.stats()
    outcomes = [end.outcome for end in ends]
    assert outcomes[:4] == ["completed", "failed", "timed_out", "cancelled"]
    assert outcomes[4:] == ["completed"] * 3
    for outcome in ("completed", "failed", "timed_out", "cancelled"):
        assert outcomes.count(outcome) == getattr(stats, outcome)
    assert ends[0].name == "contract_work.echo"
    assert [type(end.error) for end in ends[:4]] == [
        type(None),
        ValueError,
        CallTimeout,
        type(None),
    ]


async def test_times_are_those_of_waiting_and_running(kind: str) -> None:
    ends: list[CallEnd] = []
    async with WorkerPool(kind, max_workers=1, min_workers=1) as pool:
        await pool.run(work.echo, 1)
        pool.observe(ends.append)
        began = time.perf_counter()
        first = pool.run(time.sleep, 0.2)
        second = pool.run(work.echo, 2)
        await first
        await second
        took = time.perf_counter() - began
    slept, waited = ends
    assert 0.2 <= slept.ran <= slept.ran + slept.waited <= took
    assert 0.2 <= waited.waited <= waited.ran + waited.waited <= took


@pytest.mark.parametrize("kind", ["process"])
async def test_a_death_is_told_with_its_error(kind: str) -> None:
    ends: list[CallEnd] = []
    async with WorkerPool(kind, max_workers=1) as pool:
        pool.observe(ends.append)
        with pytest.raises(WorkerDied) as died:
            await pool.run(os._exit, 3)
    (end,) = ends
    assert end.outcome == "failed"
    assert end.error is died.value
    assert end.ran == pytest.approx(died.value.ran_for, abs=1)


async def test_an_observer_that_fails_holds_nobody_up(caplog: pytest.LogCaptureFixture) -> None:
    def fail(end: CallEnd) -> None:
        raise KeyError(end.name)

    ends: list[CallEnd] = []
    async with WorkerPool("thread") as pool:
        pool.observe(fail)
        pool.observe(ends.append)
        with caplog.at_level(logging.ERROR, "loopworkers"):
            assert await pool.run(work.echo, 1) == 1
    assert len(ends) == 1
    assert "contract_work.echo" in caplog.text


async def test_workers_that_start_are_not_ready(kind: str, gate: Gate) -> None:
    async with WorkerPool(
        kind, max_workers=2, min_workers=2, initializer=work.hold, initargs=(str(gate),)
    ) as pool:
        await gate.begun()
        assert (pool.stats().workers, pool.stats().ready) == (2, 0)
        gate.open()
        await eventually(lambda: pool.stats().ready == 2)
    assert pool.stats().ready == 0


async def test_workers_tell_what_they_do(kind: str, gate: Gate) -> None:
    pool = WorkerPool(kind, max_workers=2, min_workers=2)
    assert pool.workers() == []
    async with pool:
        await eventually(lambda: [w.state for w in pool.workers()] == ["idle", "idle"])
        call = pool.run(work.hold, str(gate))
        await gate.begun()
        (busy,) = (worker for worker in pool.workers() if worker.state == "busy")
        assert (busy.call, busy.ahead, busy.answered) == ("contract_gate.hold", 0, 0)
        assert 0 < busy.ran <= busy.busy
        gate.open()
        await call
        (done,) = (worker for worker in pool.workers() if worker.answered)
        assert (done.id, done.state, done.call, done.ran) == (busy.id, "idle", None, 0)
        assert done.busy >= busy.busy
    assert pool.workers() == []


async def test_a_worker_that_starts_or_stops_runs_nothing(gate: Gate, own_memory: str) -> None:
    async with WorkerPool(
        own_memory, max_workers=1, min_workers=1, initializer=work.hold, initargs=(str(gate),)
    ) as pool:
        await gate.begun()
        call = pool.run(work.echo, 1)
        (worker,) = pool.workers()
        assert (worker.state, worker.call, worker.ahead) == ("starting", None, 1)
        gate.open()
        await call
        endless = pool.run(work.busy, str(gate))
        await gate.begun(2)
        endless.cancel()
        assert pool.workers()[0].state == "stopping"


async def test_busy_seconds_are_counted_once_whatever_ends_them(kind: str, gate: Gate) -> None:
    async with WorkerPool(kind, max_workers=1, min_workers=1) as pool:
        await eventually(lambda: pool.stats().ready)
        assert pool.stats().busy == 0
        began = time.perf_counter()
        await pool.run(time.sleep, 0.2)
        call = pool.run(time.sleep, 0.2)
        await eventually(lambda: pool.stats().busy > 0.3)  # while the second one runs
        await call
        at_rest = pool.stats().busy
        assert 0.4 <= at_rest <= time.perf_counter() - began
        assert pool.stats().busy == at_rest
        began = time.perf_counter()
        cut = pool.run(work.hold, str(gate))
        await gate.begun()
        await eventually(lambda: pool.stats().busy > at_rest + 0.1)
        cut.cancel()
        gate.open()  # a thread is abandoned, and would hold the test up
        await eventually(lambda: [w.state for w in pool.workers()] == ["idle"])
        took = time.perf_counter() - began
        assert at_rest + 0.1 < pool.stats().busy <= at_rest + took
    assert at_rest + 0.1 < pool.stats().busy <= at_rest + took

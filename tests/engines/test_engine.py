"""What a pool makes of an engine: every call settles once, and has a place until its body ends."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import contract_work as work
import pytest
from contract_help import Gate, eventually
from engine_help import EagerEngine, HandEngine

from loopworkers import (
    CallTimeout,
    EngineFailed,
    EngineUnsupported,
    ExecutorEngine,
    NotTransferable,
    PoolFull,
    RemoteError,
    SharedBuffer,
    WorkerDied,
    WorkerPool,
    current_pool,
)
from loopworkers.engines import Capabilities, JobLost
from loopworkers.errors import RemoteTraceback

if TYPE_CHECKING:
    from loopworkers import CallEnd, WorkerFuture

pytestmark = pytest.mark.anyio

variable: ContextVar[str] = ContextVar("variable", default="unset")


class Unpicklable:
    def __reduce__(self) -> Any:
        raise AssertionError("it was pickled")


def refuse(**options: Any) -> Any:
    return pytest.raises(EngineUnsupported, match=next(iter(options)))


async def settled(future: WorkerFuture[Any]) -> None:
    await eventually(future.done)


# --- values --------------------------------------------------------------------------------------


async def test_calls_of_every_sort_come_back() -> None:
    with ThreadPoolExecutor(2) as executor:
        async with WorkerPool(ExecutorEngine(executor)) as pool:
            assert await pool.run(work.echo, 1) == 1
            assert await pool.run(lambda x: x + 1, 1) == 2
            assert await pool.run(later, 3) == 6
            assert [x async for x in pool.map(work.echo, range(20), chunksize=3)] == [*range(20)]
            variable.set("mine")
            assert await pool.run(variable.get) == "mine"
            data = b"x" * 5_000_000
            assert await pool.run(work.echo, data) == data
            assert pool.stats().completed == 12
            assert pool.kind == pool.stats().kind == "ThreadPoolExecutor"
        assert executor.submit(int).result() == 0, "it is not the pool's to shut down"


async def later(x: int) -> int:
    await asyncio.sleep(0)
    return 2 * x


async def test_an_exception_arrives_as_itself_with_its_traceback() -> None:
    with ThreadPoolExecutor(1) as executor:
        async with WorkerPool(ExecutorEngine(executor)) as pool:
            with pytest.raises(ZeroDivisionError) as caught:
                await pool.run(divide, 1, 0)
            assert isinstance(caught.value.__cause__, RemoteTraceback)
            assert "in divide" in str(caught.value.__cause__)
            assert "loopworkers" not in str(caught.value.__cause__)
            with pytest.raises(RemoteError, match="SystemExit"):
                await pool.run(exit)  # the worker is not ours to end
            with pytest.raises(NotTransferable, match="returned a value"):
                await pool.run(threading.Lock)
            assert pool.stats().failed == 3


def divide(a: int, b: int) -> float:
    return a / b


async def test_what_belongs_to_this_machine_stays_here() -> None:
    async with WorkerPool(HandEngine()) as pool:
        with SharedBuffer(10) as buffer, pytest.raises(NotTransferable, match="this machine"):
            pool.run(work.echo, buffer)
        with pytest.raises(NotTransferable, match=r"args\[0\]"):
            pool.run(work.echo, threading.Lock())


async def test_an_engine_that_answers_at_once_in_this_thread() -> None:
    async with WorkerPool(EagerEngine()) as pool:
        assert await pool.run(work.echo, 1) == 1
        assert [x async for x in pool.map(work.echo, range(100))] == [*range(100)]


async def test_observers_and_figures() -> None:
    ends: list[CallEnd] = []
    engine = HandEngine(size=3)
    async with WorkerPool(engine, max_workers=2) as pool:
        pool.observe(ends.append)
        futures = [pool.run(work.echo, n) for n in range(3)]
        stats = pool.stats()
        assert (stats.workers, stats.ready, stats.idle) == (3, 3, 1)
        assert (stats.running, stats.waiting) == (2, 1)
        for _ in range(3):
            engine.run_next()
            await eventually(lambda: pool.stats().running == len(engine.jobs))
        assert [await future for future in futures] == [0, 1, 2]
        assert [(end.outcome, end.error) for end in ends] == [("completed", None)] * 3


# --- what an engine cannot do ---


async def test_options_it_cannot_honour_are_refused() -> None:
    refused: list[dict[str, Any]] = [
        {"on_cancel": "kill"},
        {"min_workers": 1},
        {"idle_timeout": 1.0},
        {"max_tasks_per_worker": 1},
        {"max_worker_memory": 10**9},
        {"initializer": int},
        {"initargs": (1,)},
        {"preload": ["json"]},
    ]
    for options in refused:
        with refuse(**options):
            WorkerPool(HandEngine(), **options)
    engine = HandEngine()
    async with WorkerPool(engine) as pool:
        with refuse(on_cancel="kill"):
            pool.options(on_cancel="kill")
        with refuse(resources=0):
            pool.options(resources={"GPU": 1})
        with refuse(stream=0):
            pool.stream(range, 3)
        future = pool.run(work.echo, 1)
        with refuse(add_progress_callback=0):
            future.add_progress_callback(print)
        engine.run_next()
        assert await future == 1


async def test_options_that_it_can_honour_reach_it() -> None:
    can = Capabilities(kills_running=True, resources=True, progress=True)
    engine = HandEngine(can)
    async with WorkerPool(engine, on_cancel="kill") as pool:
        future = pool.options(resources={"GPU": 2}).run(work.echo, 1)
        future.add_progress_callback(print)
        ((job, _),) = engine.jobs
        assert job.resources == {"GPU": 2}
        assert job.name == "contract_work.echo"
        engine.run_next()
        assert await future == 1


async def test_resources_are_for_engines() -> None:
    async with WorkerPool("thread") as pool:
        with pytest.raises(ValueError, match="resources"):
            pool.options(resources={"GPU": 1})


def test_what_is_no_engine() -> None:
    with pytest.raises(ValueError, match="'fibre'"):
        WorkerPool("fibre")  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as executor, pytest.raises(TypeError, match="ExecutorEngine"):
        WorkerPool(executor)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"concurrent\.futures\.Executor"):
        ExecutorEngine(3)  # type: ignore[arg-type]


# --- places ---


async def test_a_full_pool_pickles_nothing() -> None:
    engine = HandEngine(size=1)
    async with WorkerPool(engine, max_pending=1) as pool:
        futures = [pool.run(work.echo, n) for n in range(2)]
        with pytest.raises(PoolFull):
            pool.run(work.echo, Unpicklable())
        engine.run_next()
        assert await futures[0] == 0
        futures.append(pool.run(work.echo, 2))
        engine.run_next()
        engine.run_next()
        assert [await future for future in futures] == [0, 1, 2]


async def test_a_cancelled_call_keeps_its_place_until_its_body_has_ended() -> None:
    engine = HandEngine(size=1)
    async with WorkerPool(engine, max_workers=1, max_pending=1) as pool:
        first = pool.run(work.echo, 1)
        assert first.cancel()
        assert engine.stopped == [engine.jobs[0][1]]
        second = pool.run(work.echo, 2)
        with pytest.raises(PoolFull):
            pool.run(work.echo, Unpicklable())
        assert len(engine.jobs) == 1, "the second waits for the body of the first"
        engine.run_next()
        await eventually(lambda: len(engine.jobs) == 1)
        engine.run_next()
        assert await second == 2
        stats = pool.stats()
        assert (stats.cancelled, stats.completed) == (1, 1)


async def test_a_map_waits_for_a_place_that_a_body_without_caller_has() -> None:
    engine = HandEngine(size=1)
    async with WorkerPool(engine, max_workers=1, max_pending=0) as pool:
        pool.run(work.echo, 0).cancel()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take_all, pool)
            await anyio.lowlevel.checkpoint()
            engine.run_next()
            for _ in range(3):
                await eventually(lambda: engine.jobs)
                engine.run_next()


async def take_all(pool: WorkerPool) -> None:
    assert [x async for x in pool.map(work.echo, range(3))] == [0, 1, 2]


async def test_a_call_that_waits_here_is_dropped() -> None:
    engine = HandEngine()
    async with WorkerPool(engine, max_workers=1) as pool:
        first, second, third = (pool.run(work.echo, n) for n in range(3))
        second.cancel()
        engine.run_next()
        assert await first == 0
        await eventually(lambda: engine.jobs)
        engine.run_next()
        assert await third == 2
        assert not engine.jobs
        assert not engine.stopped


async def test_calls_that_were_given_up_do_not_pile_up_behind_a_body() -> None:
    engine = HandEngine()
    async with WorkerPool(engine, max_workers=1) as pool:
        pool.run(work.echo, 0).cancel()  # its body goes on
        for _ in range(10):
            with pytest.raises(CallTimeout):
                await pool.options(timeout=0.001).run(work.echo, 1)
        last = pool.run(work.echo, 2)
        assert pool.stats().waiting == len(pool._runner._queue) == 1
        engine.run_next()
        await eventually(lambda: engine.jobs)
        engine.run_next()
        assert await last == 2


# --- cancelling ---


async def test_a_timeout_asks_for_a_stop() -> None:
    engine = HandEngine()
    async with WorkerPool(engine, timeout=0.01) as pool:
        with pytest.raises(CallTimeout):
            await pool.run(work.echo, 1)
        assert len(engine.stopped) == 1
        engine.run_next()
    assert pool.stats().timed_out == 1


async def test_abandon_asks_for_none() -> None:
    engine = HandEngine()
    async with WorkerPool(engine, on_cancel="abandon") as pool:
        assert pool.run(work.echo, 1).cancel()
        assert not engine.stopped
        engine.run_next()


async def test_wait_waits() -> None:
    engine = HandEngine()
    async with WorkerPool(engine, on_cancel="wait", timeout=0.01) as pool:
        future = pool.run(work.echo, 1)
        assert not future.cancel()
        await anyio.sleep(0.02)
        assert not future.done()
        engine.run_next()
        with pytest.raises(CallTimeout):
            await future


async def test_cancelling_who_awaits_stops_the_call() -> None:
    engine = HandEngine()
    async with WorkerPool(engine) as pool:
        with anyio.move_on_after(0.01) as scope:
            await pool.run(work.echo, 1)
        assert scope.cancelled_caught
        assert len(engine.stopped) == 1
        engine.run_next()


async def test_a_running_body_of_an_executor_is_abandoned_and_a_queued_one_dropped(
    gate: Gate,
) -> None:
    with ThreadPoolExecutor(1) as executor:
        async with WorkerPool(ExecutorEngine(executor), max_pending=1) as pool:
            running, queued = pool.run(work.hold, str(gate)), pool.run(work.hold, str(gate))
            await gate.begun()
            running.cancel()
            queued.cancel()
            await eventually(lambda: pool._runner.lingering == 1, "the queued one gave its place")
            last = pool.run(work.echo, 3)
            gate.open()
            assert await last == 3
            assert gate.count("begun") == gate.count("ended") == 1


async def test_an_answer_that_is_here_already_wins_over_cancelling() -> None:
    engine = HandEngine()
    async with WorkerPool(engine) as pool:
        future = pool.run(work.echo, 1)
        engine.run_next()
        assert not future.cancel()
        assert await future == 1
        assert not engine.stopped


async def test_a_future_is_one_of_asyncio(anyio_backend: str) -> None:
    if anyio_backend == "trio":
        pytest.skip("asyncio's own")
    with ThreadPoolExecutor(2) as executor:
        async with WorkerPool(ExecutorEngine(executor)) as pool:
            futures = [pool.run(work.echo, n) for n in range(5)]
            assert isinstance(futures[0], asyncio.Future)
            assert await asyncio.gather(*futures) == [0, 1, 2, 3, 4]


# --- death ---


async def test_a_lost_job_fails_its_call_alone() -> None:
    engine = HandEngine()
    async with WorkerPool(engine) as pool:
        lost, other = pool.run(work.echo, 1), pool.run(work.echo, 2)
        engine.fail_next(JobLost("was struck by lightning"))
        told = r"hand worker was struck by lightning, \d\.\d+ s after it was given"
        with pytest.raises(WorkerDied, match=told) as caught:
            await lost
        assert caught.value.kind == "hand"
        engine.run_next()
        assert await other == 2


async def test_retries_run_it_again() -> None:
    engine = HandEngine()
    async with WorkerPool(engine, retries=1) as pool:
        future = pool.run(work.echo, 1)
        engine.fail_next(JobLost("died"))
        await eventually(lambda: engine.jobs)
        engine.run_next()
        assert await future == 1
        assert pool.stats().retried == 1


@pytest.mark.parametrize("error", [CancelledError(), asyncio.CancelledError(), KeyboardInterrupt()])
async def test_what_would_act_on_the_caller_is_not_raised_here(error: BaseException) -> None:
    engine = HandEngine()
    async with WorkerPool(engine) as pool:
        future = pool.run(work.echo, 1)
        engine.fail_next(error)
        with pytest.raises(WorkerDied):
            await future


async def test_an_engine_that_cancels_by_itself_lets_the_worker_die() -> None:
    engine = HandEngine()
    async with WorkerPool(engine) as pool:
        future = pool.run(work.echo, 1)
        engine.drop_next()
        with pytest.raises(WorkerDied, match="told by somebody else to drop it"):
            await future


async def test_another_failure_of_the_engine_says_whose_it_is() -> None:
    engine = HandEngine()
    async with WorkerPool(engine) as pool:
        future = pool.run(work.echo, 1)
        engine.fail_next(ModuleNotFoundError("no such module there"))
        with pytest.raises(ModuleNotFoundError) as caught:
            await future
        assert "raised by engine hand, not by contract_work.echo" in caught.value.__notes__


@pytest.mark.parametrize("answer", [None, b"", b"x" * 5])
async def test_what_is_no_answer_fails_its_call_alone(answer: Any) -> None:
    engine = HandEngine()
    async with WorkerPool(engine) as pool:
        first, second = pool.run(work.echo, 1), pool.run(work.echo, 2)
        engine.jobs.pop(0)[1].set_result(answer)
        engine.run_next()
        with pytest.raises(EngineFailed, match="not an answer of run_job"):
            await first
        assert await second == 2


async def test_an_executor_that_was_shut_down() -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    async with WorkerPool(ExecutorEngine(executor)) as pool:
        with pytest.raises(RuntimeError, match="after shutdown"):
            await pool.run(work.echo, 1)
        assert pool.stats().failed == 1
        assert pool.stats().ready == 0


# --- opening and closing ---


class Unreachable(HandEngine):
    def open(self) -> None:
        raise EngineFailed("nobody there")


async def test_an_engine_that_cannot_be_opened() -> None:
    with pytest.raises(EngineFailed, match="nobody there"):
        async with WorkerPool(Unreachable()):
            raise AssertionError("it was opened")


class Slow(HandEngine):
    def __init__(self, gate: threading.Event) -> None:
        super().__init__()
        self.gate = gate

    def open(self) -> None:
        assert self.gate.wait(30)
        super().open()


async def test_calls_wait_for_an_engine_that_is_being_opened() -> None:
    gate = threading.Event()
    pool = WorkerPool(engine := Slow(gate))
    pool._open()  # as `current_pool` does, which has nobody to wait
    future = pool.run(work.echo, 1)
    assert pool.stats().waiting == 1
    gate.set()
    await eventually(lambda: engine.jobs)
    engine.run_next()
    assert await future == 1
    await pool.aclose()
    assert not engine.is_open


async def test_a_pool_that_is_left_while_it_opens() -> None:
    gate = threading.Event()
    engine = Slow(gate)
    with anyio.move_on_after(0.05) as scope:
        threading.Timer(0.2, gate.set).start()
        async with WorkerPool(engine):
            raise AssertionError("it was opened")
    assert scope.cancelled_caught
    await eventually(lambda: not engine.is_open)


async def test_leaving_waits_for_calls_and_bodies(gate: Gate) -> None:
    with ThreadPoolExecutor(2) as executor:
        async with WorkerPool(ExecutorEngine(executor)) as pool:
            first = pool.run(work.hold, str(gate), 1)
            pool.run(work.hold, str(gate), 2)
            await gate.begun(2)
            pool.options(on_cancel="abandon").run(work.echo, 1).cancel()
            threading.Timer(0.05, gate.open).start()
        assert await first == 1
        assert gate.count("ended") == 2


async def test_leaving_by_an_exception_leaves_a_body_that_cannot_be_stopped(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    with ThreadPoolExecutor(1) as executor:
        started = time.monotonic()
        pool = WorkerPool(ExecutorEngine(executor))
        await pool.__aenter__()
        future = pool.run(work.hold, str(gate))
        await gate.begun()
        await pool.__aexit__(KeyError, KeyError(), None)
        assert time.monotonic() - started < 10
        assert future.cancelled()
        assert "1 calls left that nobody waits for" in caplog.text
        gate.open()


async def test_kill_all_cancels_everything() -> None:
    engine = HandEngine()
    async with WorkerPool(engine, max_workers=1) as pool:
        futures = [pool.run(work.echo, n) for n in range(3)]
        pool.kill_all()
        assert all(future.cancelled() for future in futures)
        engine.run_next()
        again = pool.run(work.echo, 4)
        await eventually(lambda: engine.jobs)
        engine.run_next()
        assert await again == 4


async def test_the_innermost_pool_may_be_an_engines() -> None:
    with ThreadPoolExecutor(1) as executor:
        async with WorkerPool(ExecutorEngine(executor, name="mine")) as pool:
            assert current_pool() is pool
            assert pool.kind == "mine"


def test_futures_that_become_done_after_the_loop_has_ended(anyio_backend: str) -> None:
    engine = HandEngine(size=2)

    async def main() -> None:
        pool = WorkerPool(engine)
        await pool.__aenter__()
        pool.run(work.echo, 1)

    anyio.run(main, backend=anyio_backend)
    engine.run_next()
    assert not engine.is_open

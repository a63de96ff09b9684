"""WorkerExecutor, held against what `concurrent.futures` documents of executors."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
    Executor,
    Future,
    as_completed,
    wait,
)
from contextlib import suppress
from contextvars import ContextVar, copy_context
from functools import partial
from itertools import count
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, Any

import pytest

import loopworkers
from loopworkers import (
    CallTimeout,
    IsolateUnsupported,
    NotTransferable,
    PoolClosed,
    PoolFull,
    WorkerDied,
    WorkerExecutor,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

needs_isolates = pytest.mark.skipif(sys.version_info < (3, 14), reason="isolates need Python 3.14")
KINDS = ["process", pytest.param("isolate", marks=needs_isolates), "thread"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def executor(kind: Any) -> Iterator[WorkerExecutor]:
    with WorkerExecutor(kind, max_workers=2) as executor:
        yield executor


@pytest.fixture
def single(kind: Any) -> Iterator[WorkerExecutor]:
    with WorkerExecutor(kind, max_workers=1) as executor:
        yield executor


class Gate:
    """Holds calls up, in any kind of worker, until it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def open(self) -> None:
        Path(self.path).touch()

    def wait(self, value: Any = None) -> Any:
        while not os.path.exists(self.path):
            time.sleep(0.005)
        return value


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path / "open")
    yield gate
    gate.open()


def threads_of_executors() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("loopworkers executor")]


# --- submit ---------------------------------------------------------------------------------


def test_submit(executor: WorkerExecutor) -> None:
    assert isinstance(executor, Executor)
    future = executor.submit(pow, 2, 10)
    assert isinstance(future, Future)
    assert future.result() == 1024
    assert future.done()
    assert not future.cancelled()
    assert executor.submit(int, "ff", base=16).result() == 255


def test_keywords_named_like_the_parameters(executor: WorkerExecutor) -> None:
    def keywords(**kwargs: int) -> dict[str, int]:
        return kwargs

    assert executor.submit(keywords, fn=1, self=2).result() == {"fn": 1, "self": 2}


def test_submit_of_an_async_function(executor: WorkerExecutor) -> None:
    async def double(n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n

    assert executor.submit(double, 4).result() == 8


def test_each_call_has_the_context_of_its_own_submit(executor: WorkerExecutor) -> None:
    variable: ContextVar[Any] = ContextVar("variable")

    def get() -> Any:
        return variable.get("unset")

    futures = []
    for number in range(30):  # more than the pool takes at once: others start what waits
        context = copy_context()
        context.run(variable.set, number)
        futures.append(context.run(executor.submit, get))
    assert [future.result() for future in futures] == list(range(30))
    assert executor.submit(get).result() == "unset"


def test_done_callbacks_have_nobodys_context(executor: WorkerExecutor, gate: Gate) -> None:
    variable: ContextVar[Any] = ContextVar("variable")
    seen: Queue[Any] = Queue()
    for number in range(10):
        context = copy_context()
        context.run(variable.set, number)
        future = context.run(executor.submit, gate.wait)
        future.add_done_callback(lambda _: seen.put(variable.get("unset")))
    gate.open()
    assert [seen.get(timeout=30) for _ in range(10)] == ["unset"] * 10


def test_exception_with_the_traceback_of_the_worker(executor: WorkerExecutor) -> None:
    def fail() -> None:
        raise LookupError("not there")

    future = executor.submit(fail)
    error = future.exception()
    assert type(error) is LookupError
    assert error.args == ("not there",)
    with pytest.raises(LookupError, match="not there"):
        future.result()


def test_what_cannot_be_sent_is_the_futures_error() -> None:
    with WorkerExecutor(max_workers=1) as executor:
        assert isinstance(executor.submit(len, threading.Lock()).exception(), NotTransferable)
        assert isinstance(executor.submit(threading.Lock).exception(), NotTransferable)
        assert executor.submit(abs, -1).result() == 1


def test_what_cannot_be_called_is_the_futures_error(executor: WorkerExecutor) -> None:
    assert isinstance(executor.submit(3).exception(), TypeError)  # type: ignore[arg-type]


def test_done_callbacks(executor: WorkerExecutor, gate: Gate) -> None:
    called: list[Any] = []
    future = executor.submit(gate.wait, 1)
    future.add_done_callback(called.append)
    assert called == []
    gate.open()
    wait([future])
    late = threading.Event()
    future.add_done_callback(lambda _: late.set())  # of a future that is done: at once
    assert late.is_set()
    assert called == [future]


def test_callback_that_raises_harms_nobody(executor: WorkerExecutor) -> None:
    future = executor.submit(abs, -1)
    future.add_done_callback(lambda future: 1 / 0)
    assert future.result() == 1
    assert executor.submit(abs, -2).result() == 2


def test_a_callback_may_submit(executor: WorkerExecutor) -> None:
    second: Future[Future[int]] = Future()
    first = executor.submit(abs, -1)
    first.add_done_callback(lambda first: second.set_result(executor.submit(abs, -2)))
    assert second.result(10).result(10) == 2


def test_timeout_of_result_leaves_the_call_alone(executor: WorkerExecutor, gate: Gate) -> None:
    future = executor.submit(gate.wait, "late")
    with pytest.raises(TimeoutError):
        future.result(timeout=0.05)
    with pytest.raises(TimeoutError):
        future.exception(timeout=0)
    gate.open()
    assert future.result() == "late"


def test_running_and_cancel(single: WorkerExecutor, gate: Gate) -> None:
    running = single.submit(gate.wait, "ran")
    futures = [single.submit(abs, -n) for n in range(10)]
    while not running.running():
        time.sleep(0.001)
    assert not running.cancel()
    last = futures.pop()
    assert last.cancel()
    assert last.cancelled()
    with pytest.raises(CancelledError):
        last.result()
    gate.open()
    assert running.result() == "ran"
    assert [future.result() for future in futures] == list(range(9))


def test_results_are_not_kept(single: WorkerExecutor) -> None:
    class Result:
        pass

    future = single.submit(Result)
    result = weakref.ref(future.result())
    del future
    for _ in range(200):
        gc.collect()
        if result() is None:
            return
        time.sleep(0.01)  # the loop's thread, or a worker thread, still lets go of it
    pytest.fail("the executor keeps results alive")


# --- map ------------------------------------------------------------------------------------


def test_map(executor: WorkerExecutor) -> None:
    assert list(executor.map(pow, range(10), range(10))) == list(map(pow, range(10), range(10)))
    assert list(executor.map(abs, [])) == []
    assert list(executor.map(max, [1, 5, 3], [4, 2])) == [4, 5]  # the shortest counts


@pytest.mark.parametrize("chunksize", [1, 2, 3, 6, 7, 50])
def test_map_in_chunks(executor: WorkerExecutor, chunksize: int) -> None:
    assert list(executor.map(divmod, range(7), [2] * 7, chunksize=chunksize)) == [
        divmod(n, 2) for n in range(7)
    ]


@pytest.mark.parametrize("chunksize", [1, 3])
def test_map_of_what_gives_coroutines(executor: WorkerExecutor, chunksize: int) -> None:
    async def double(n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n

    for fn in (double, partial(double), lambda n: double(n)):
        assert list(executor.map(fn, range(7), chunksize=chunksize)) == list(range(0, 14, 2))


def test_map_raises_where_the_item_was(executor: WorkerExecutor) -> None:
    results = executor.map(divmod, [1, 1, 1, 1], [2, 5, 0, 5])
    assert next(results) == (0, 1)
    assert next(results) == (0, 1)
    with pytest.raises(ZeroDivisionError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_map_starts_at_once_and_takes_all_items(executor: WorkerExecutor, gate: Gate) -> None:
    gate.open()
    taken: list[int] = []
    results = executor.map(gate.wait, (taken.append(n) or n for n in range(20)))  # type: ignore[func-returns-value]
    assert taken == list(range(20))
    assert list(results) == taken


def test_map_with_buffersize_over_endless_items(executor: WorkerExecutor) -> None:
    taken = count()
    results = executor.map(abs, taken, buffersize=4)
    assert [next(results) for _ in range(10)] == list(range(10))
    assert next(taken) == 14  # ten taken, four in the buffer
    results.close()  # type: ignore[attr-defined]


def test_map_with_buffersize_in_chunks(executor: WorkerExecutor) -> None:
    taken = count()
    results = executor.map(abs, taken, buffersize=2, chunksize=5)
    assert next(results) == 0
    assert next(taken) == 15
    assert list(executor.map(abs, range(23), buffersize=2, chunksize=5)) == list(range(23))


def test_map_times_out(executor: WorkerExecutor, gate: Gate) -> None:
    with pytest.raises(TimeoutError):
        next(executor.map(gate.wait, [0, 1, 2], timeout=0.05))
    gate.open()
    assert executor.submit(abs, -1).result() == 1


def test_map_ends_in_time(executor: WorkerExecutor) -> None:
    assert list(executor.map(abs, range(5), timeout=60)) == list(range(5))


def test_map_left_early_cancels_what_waits(single: WorkerExecutor, gate: Gate) -> None:
    results = single.map(gate.wait, range(50))
    gate.open()
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert single.submit(abs, -1).result() == 1


def test_map_checks_its_arguments(executor: WorkerExecutor) -> None:
    with pytest.raises(ValueError, match="chunksize"):
        executor.map(abs, [1], chunksize=0)
    with pytest.raises(ValueError, match="buffersize"):
        executor.map(abs, [1], buffersize=0)
    with pytest.raises(TypeError):
        executor.map(abs, [1], buffersize="3")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        executor.map(abs, 1)  # type: ignore[arg-type]


def test_map_raises_what_an_iterable_raises(executor: WorkerExecutor) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        executor.map(abs, items())


# --- wait, as_completed, run_in_executor ------------------------------------------------------


def test_wait(executor: WorkerExecutor, gate: Gate) -> None:
    slow, fast = executor.submit(gate.wait), executor.submit(abs, -1)
    done, pending = wait([slow, fast], return_when=FIRST_COMPLETED)
    assert (done, pending) == ({fast}, {slow})
    bad = executor.submit(divmod, 1, 0)
    done, pending = wait([slow, bad], return_when=FIRST_EXCEPTION)
    assert (done, pending) == ({bad}, {slow})
    done, pending = wait([slow, bad], timeout=0.05, return_when=ALL_COMPLETED)
    assert (done, pending) == ({bad}, {slow})
    gate.open()
    assert wait([slow, bad, fast]).not_done == set()


def test_as_completed(executor: WorkerExecutor, gate: Gate) -> None:
    slow, fast = executor.submit(gate.wait), executor.submit(abs, -1)
    done = as_completed([slow, fast])
    assert next(done) is fast
    gate.open()
    assert list(done) == [slow]


def test_in_run_in_executor(executor: WorkerExecutor, gate: Gate) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(executor, pow, n, 2) for n in range(20)]
        assert await asyncio.gather(*calls) == [n * n for n in range(20)]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await loop.run_in_executor(executor, gate.wait)
        assert await loop.run_in_executor(executor, abs, -1) == 1
        gate.open()

    asyncio.run(main())


def test_from_many_threads(executor: WorkerExecutor) -> None:
    results: dict[int, list[int]] = {}

    def use(number: int) -> None:
        futures = [executor.submit(pow, number, n) for n in range(50)]
        results[number] = [future.result() for future in futures]

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: [number**n for n in range(50)] for number in range(8)}


def test_first_calls_from_many_threads_start_one_loop(kind: Any) -> None:
    before = len(threads_of_executors())
    barrier = threading.Barrier(8)
    with WorkerExecutor(kind, max_workers=1) as executor:
        futures: list[Future[int]] = []

        def use() -> None:
            barrier.wait()
            futures.append(executor.submit(abs, -1))

        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [future.result() for future in futures] == [1] * 8
        assert len(threads_of_executors()) == before + 1


# --- shutdown -------------------------------------------------------------------------------


def test_shutdown_waits_for_all_calls(kind: Any) -> None:
    before = threads_of_executors()
    executor = WorkerExecutor(kind, max_workers=2)
    futures = [executor.submit(time.sleep, 0.02) for _ in range(10)]
    executor.shutdown()
    assert all(future.done() and future.exception() is None for future in futures)
    assert threads_of_executors() == before


def test_shutdown_without_waiting_still_runs_the_calls(kind: Any, gate: Gate) -> None:
    executor = WorkerExecutor(kind, max_workers=1)
    futures = [executor.submit(gate.wait, n) for n in range(10)]
    executor.shutdown(wait=False)
    assert not futures[0].done()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(abs, 1)
    gate.open()
    assert [future.result(30) for future in futures] == list(range(10))
    executor.shutdown()


def test_shutdown_cancels_what_waits(kind: Any, gate: Gate) -> None:
    executor = WorkerExecutor(kind, max_workers=1)
    futures = [executor.submit(gate.wait, n) for n in range(20)]
    while not futures[0].running():
        time.sleep(0.001)
    executor.shutdown(wait=False, cancel_futures=True)
    cancelled = [future for future in futures if future.cancelled()]
    assert len(cancelled) >= 18  # all but those that the pool has
    assert futures[-1] in cancelled
    gate.open()
    executor.shutdown()
    assert futures[0].result() == 0
    assert all(future.done() for future in futures)
    assert wait(futures, timeout=0).not_done == set()


def test_shutdown_cancels_futures_while_they_are_started(executor: WorkerExecutor) -> None:
    for _ in range(20):
        with WorkerExecutor("thread", max_workers=2) as executor:
            futures = [executor.submit(abs, -1) for _ in range(200)]
            executor.shutdown(cancel_futures=True)
            assert all(future.cancelled() or future.result() == 1 for future in futures)


def test_kill_workers(kind: Any, gate: Gate) -> None:
    before = threads_of_executors()
    executor = WorkerExecutor(kind, max_workers=2)
    futures = [executor.submit(gate.wait) for _ in range(20)]
    while not futures[0].running():
        time.sleep(0.001)
    executor.kill_workers()
    with pytest.raises(PoolClosed):
        futures[0].result(timeout=30)
    assert futures[-1].cancelled()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(abs, 1)
    if kind == "thread":  # nothing stops it: the executor's end waits a while for its body
        gate.open()
    executor.shutdown()
    assert all(future.done() for future in futures)
    assert threads_of_executors() == before


def test_kill_workers_of_an_idle_executor_and_of_an_unused_one(kind: Any) -> None:
    executor = WorkerExecutor(kind)
    assert executor.submit(abs, -1).result() == 1
    for each in (executor, executor, WorkerExecutor(kind)):
        each.kill_workers()
        each.shutdown()


def test_shutdown_twice_and_unused(kind: Any) -> None:
    executor = WorkerExecutor(kind)
    executor.shutdown()
    executor.shutdown(wait=False)
    with pytest.raises(RuntimeError):
        executor.submit(abs, 1)
    with pytest.raises(RuntimeError):
        executor.map(abs, [1])


def test_context_manager_waits(kind: Any) -> None:
    with WorkerExecutor(kind, max_workers=1) as executor:
        future = executor.submit(time.sleep, 0.1)
    assert future.done()
    with pytest.raises(RuntimeError):
        executor.submit(abs, 1)


def test_workers_and_descriptors_are_gone_after_shutdown(kind: Any) -> None:
    def use() -> None:
        with WorkerExecutor(kind, max_workers=2) as executor:
            assert list(executor.map(abs, range(20))) == list(range(20))

    use()  # what is opened once for the whole program
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc to count descriptors")
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        use()
    for _ in range(100):  # the thread of an isolate closes its last one after it has told its end
        if len(os.listdir("/proc/self/fd")) <= before:
            break
        time.sleep(0.01)
    else:
        pytest.fail("descriptors are left open")


def test_a_collected_executor_ends_after_its_calls(kind: Any, gate: Gate) -> None:
    before = threads_of_executors()
    executor = WorkerExecutor(kind, max_workers=1)
    futures = [executor.submit(gate.wait, n) for n in range(6)]
    del executor
    gc.collect()
    gate.open()
    assert [future.result(30) for future in futures] == list(range(6))
    for thread in set(threads_of_executors()) - set(before):
        thread.join(10)
    assert threads_of_executors() == before


# --- options ---------------------------------------------------------------------------------


def test_initializer(kind: Any) -> None:
    def initializer(name: str, value: int) -> None:
        sys.loopworkers_test = {name: value}  # type: ignore[attr-defined]

    def look() -> Any:
        return sys.loopworkers_test  # type: ignore[attr-defined]

    with WorkerExecutor(kind, 2, initializer=initializer, initargs=("a", 1)) as executor:
        assert list(executor.map(lambda _: look(), range(6))) == [{"a": 1}] * 6


def test_initializer_that_fails_fails_the_calls_and_not_the_executor(
    kind: Any, tmp_path: Path
) -> None:
    repaired = str(tmp_path / "repaired")

    def initializer() -> None:
        if not os.path.exists(repaired):
            raise LookupError("no licence")

    with WorkerExecutor(kind, 1, initializer=initializer) as executor:
        for future in [executor.submit(abs, -1) for _ in range(3)]:
            with pytest.raises(LookupError, match="no licence"):
                future.result()
        Path(repaired).touch()
        assert executor.submit(abs, -1).result() == 1


def test_options_of_the_pool(kind: Any) -> None:
    def spin() -> None:
        while True:
            pass

    if kind == "thread":  # which cannot be stopped
        spin = partial(time.sleep, 2)  # type: ignore[assignment]
    with WorkerExecutor(kind, 1, timeout=1) as executor:
        with pytest.raises(CallTimeout):
            executor.submit(spin).result()
        while True:
            with suppress(CallTimeout):  # a machine may be too busy to start a worker in a second
                assert executor.submit(abs, -1).result() == 1
                break


def test_arguments_are_checked_at_once() -> None:
    with pytest.raises(ValueError, match="max_workers"):
        WorkerExecutor(max_workers=0)
    with pytest.raises(ValueError, match="max_workers"):
        WorkerExecutor(max_workers=-1)
    with pytest.raises(TypeError):
        WorkerExecutor(max_workers="2")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="initializer must be callable"):
        WorkerExecutor(initializer=3)
    with pytest.raises(TypeError):
        WorkerExecutor(initargs=3)
    with pytest.raises(TypeError, match="no_such_option"):
        WorkerExecutor(no_such_option=1)
    with pytest.raises(ValueError, match="kind"):
        WorkerExecutor("fibre")  # type: ignore[arg-type]


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python has isolates")
def test_isolates_on_an_old_python() -> None:
    with pytest.raises(IsolateUnsupported, match=r"3\.14"):
        WorkerExecutor("isolate")


def test_max_pending(kind: Any, gate: Gate) -> None:
    with WorkerExecutor(kind, max_workers=1, max_pending=2) as executor:
        futures = [executor.submit(gate.wait, n) for n in range(3)]
        try:
            with pytest.raises(PoolFull):
                executor.submit(abs, -1)
        finally:
            gate.open()
        assert [future.result() for future in futures] == [0, 1, 2]
        assert list(executor.map(abs, range(20), buffersize=2)) == list(range(20))
    with WorkerExecutor(kind, max_workers=1, max_pending=0) as executor:
        assert [executor.submit(abs, n).result() for n in range(50)] == list(range(50))


def test_map_that_is_refused_half_way_leaves_no_calls(kind: Any, gate: Gate) -> None:
    def mark(path: str) -> None:
        Path(path).touch()

    with WorkerExecutor(kind, max_workers=1, max_pending=3) as executor:
        futures = [executor.submit(gate.wait, n) for n in range(2)]
        mark_of = f"{gate.path} marked"
        try:
            with pytest.raises(PoolFull):
                executor.map(mark, [mark_of] * 50)
        finally:
            gate.open()
        assert [future.result() for future in futures] == [0, 1]
    assert not Path(mark_of).exists()


# --- workers that die --------------------------------------------------------------------------


def test_a_workers_death_fails_its_own_future_only(gate: Gate) -> None:
    with WorkerExecutor("process", max_workers=2) as executor:
        neighbour = executor.submit(gate.wait, "unharmed")
        dead = executor.submit(os._exit, 7)
        later = [executor.submit(abs, -n) for n in range(10)]
        error = dead.exception()
        assert isinstance(error, WorkerDied)
        assert error.exitcode == 7
        assert [future.result() for future in later] == list(range(10))
        gate.open()
        assert neighbour.result() == "unharmed"


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals on Windows")
def test_many_deaths() -> None:
    def die(n: int) -> int:
        if n % 5 == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return n

    with WorkerExecutor("process", max_workers=2) as executor:
        futures = [executor.submit(die, n) for n in range(30)]
        for n, future in enumerate(futures):
            if n % 5 == 0:
                assert isinstance(future.exception(), WorkerDied)
            else:
                assert future.result() == n


# --- programs ----------------------------------------------------------------------------------


def program(tmp_path: Path, text: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "program.py"
    path.write_text(text)
    root = str(Path(loopworkers.__file__).resolve().parents[1])
    return subprocess.run(
        [sys.executable, str(path)],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_a_program_that_ends_with_futures_pending(kind: Any, tmp_path: Path) -> None:
    ended = program(
        tmp_path,
        f"""
import time
from loopworkers import WorkerExecutor

def late(n):
    time.sleep(0.05)
    return n

executor = WorkerExecutor({kind!r}, max_workers=2)
for n in range(10):
    executor.submit(late, n).add_done_callback(lambda future: print(future.result(), flush=True))
print("end of main", flush=True)
""",
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    first, *rest = ended.stdout.split("\n")[:-1]
    assert first == "end of main"
    assert sorted(map(int, rest)) == list(range(10))


def test_a_program_that_ends_by_an_exception(kind: Any, tmp_path: Path) -> None:
    ended = program(
        tmp_path,
        f"""
from loopworkers import WorkerExecutor
executor = WorkerExecutor({kind!r}, max_workers=2)
print(executor.submit(abs, -1).result())
raise SystemExit(3)
""",
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "1\n", "")


def test_submit_while_the_interpreter_ends(tmp_path: Path) -> None:
    ended = program(
        tmp_path,
        """
import atexit
from loopworkers import WorkerExecutor

executor = WorkerExecutor(max_workers=1)
unused = WorkerExecutor(max_workers=1)
executor.submit(abs, -1).result()

@atexit.register
def late():
    for e in executor, unused:
        try:
            e.submit(abs, -1)
        except RuntimeError as error:
            print("RuntimeError:", error)
""",
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.count("RuntimeError: ") == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_in_a_fork_of_the_program(tmp_path: Path) -> None:
    ended = program(
        tmp_path,
        """
import os, sys, warnings
from loopworkers import PoolClosed, WorkerExecutor

warnings.simplefilter("ignore")  # Python's own, on fork beside threads
executor = WorkerExecutor(max_workers=1)
assert executor.submit(abs, -1).result() == 1
if os.fork() == 0:
    try:
        executor.submit(abs, -2)
    except PoolClosed as error:
        print("PoolClosed:", error, flush=True)
    executor.shutdown()
    with WorkerExecutor(max_workers=1) as own:
        print("own:", own.submit(abs, -3).result(), flush=True)
    sys.exit()
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
assert executor.submit(abs, -4).result() == 4
""",
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "PoolClosed: this executor was made in process" in ended.stdout
    assert "own: 3" in ended.stdout

"""`Worker`: how one starts, what it is told about itself, and how it ends."""

from __future__ import annotations

import os
import signal
import sys
from time import monotonic
from typing import Any

import anyio
import psutil
import pytest
import targets
from contract_help import LONG, eventually, no_isolates

from loopworkers import (
    PIPE,
    LoopworkersError,
    NotTransferable,
    PortClosed,
    RemoteError,
    SharedBuffer,
    SharedEvent,
    SharedLock,
    Worker,
    WorkerDied,
    WorkerPool,
    current_worker,
)

pytestmark = pytest.mark.anyio

# Two stages of an isolate, or SIGTERM and SIGKILL, on a busy machine.
BOUND = 5.0


async def pid_of(worker: Worker) -> int:
    pid = await worker.receive()
    assert isinstance(pid, int)
    return pid


# --- starting ------------------------------------------------------------------------------------


async def test_it_knows_its_id_name_and_kind(kind: Any) -> None:
    async with Worker(targets.introduce_itself, kind=kind, name="the one") as worker:
        await worker.ready()
        assert await worker.receive() == (worker.id, "the one", kind, await here_or_there(worker))
    assert current_worker() is None


async def here_or_there(worker: Worker) -> Any:
    class Same:
        def __eq__(self, pid: object) -> bool:
            return (pid == os.getpid()) == (worker.kind != "process")

        __hash__ = None  # type: ignore[assignment]

    return Same()


async def test_ids_are_never_used_twice(kind: Any) -> None:
    async with Worker(targets.echo, kind=kind) as first, Worker(targets.echo, kind=kind) as second:
        assert first.id != second.id


async def test_it_is_alive_between_its_start_and_its_end(kind: Any) -> None:
    worker = Worker(targets.echo, kind=kind)
    assert (worker.alive, worker.exitcode) == (False, None)
    async with worker:
        assert (worker.alive, worker.exitcode) == (True, None)
    assert (worker.alive, worker.exitcode) == (False, 0)
    with pytest.raises(RuntimeError, match="second time"):
        await worker.__aenter__()


async def test_before_its_start_it_has_no_messages(kind: Any) -> None:
    worker = Worker(targets.echo, kind=kind)
    for use in (worker.receive(), worker.ready(), worker.wait(), worker.send(1)):
        with pytest.raises(RuntimeError, match="async with"):
            await use
    assert await worker.terminate() == 1


async def test_a_missing_module_rejects_ready_with_the_cause(
    own_memory: Any, tmp_path: Any
) -> None:
    module = tmp_path / "not_there_later.py"
    module.write_text("def target(port): ...\n")
    sys.path.insert(0, str(tmp_path))
    try:
        import not_there_later  # type: ignore[import-not-found]

        module.write_text("def target(port) ...\n")
        for cached in (tmp_path / "__pycache__").glob("*"):
            cached.unlink()
        with pytest.raises(SyntaxError):
            async with Worker(not_there_later.target, kind=own_memory) as worker:
                await worker.ready()
        assert worker.exitcode == 1
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("not_there_later", None)


async def test_arguments_that_cannot_be_sent_raise_at_the_start(own_memory: Any) -> None:
    from threading import Lock

    with pytest.raises(NotTransferable, match=r"\(target, \*args\)\[2\]\['deep'\]"):
        async with Worker(targets.echo, 1, {"deep": Lock()}, kind=own_memory):
            raise AssertionError("it must not start")


async def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="callable"):
        Worker(3)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="kind"):
        Worker(targets.echo, kind="fiber")  # type: ignore[arg-type]
    for generator in (lambda port: (yield), async_generator):
        with pytest.raises(TypeError, match="generator"):
            Worker(generator)  # type: ignore[call-overload]
    for env in ({"A=": "b"}, {"": "b"}, {"A": "b\0"}):
        with pytest.raises(ValueError, match="no environment variable"):
            Worker(targets.echo, env=env)
    with pytest.raises(ValueError, match="unknown limits"):
        Worker(targets.echo, limits={"patience": 3})
    for options in (
        {"env": {"A": "b"}},
        {"argv": ["x"]},
        {"stdout": PIPE},
        {"limits": {"memory": 1}},
    ):
        with pytest.raises(ValueError, match="a thread shares"):
            Worker(targets.echo, kind="thread", **options)  # type: ignore[call-overload]


@no_isolates
async def test_limits_that_an_isolate_cannot_promise_are_refused() -> None:
    with pytest.raises(ValueError, match="isolate"):
        Worker(targets.echo, kind="isolate", limits={"memory": 1 << 30})


async def async_generator(port: Any) -> Any:
    yield


async def test_a_worker_that_ends_before_it_runs_is_an_error() -> None:
    with pytest.raises(WorkerDied):
        async with Worker(targets.echo, targets.Exits()) as worker:
            await worker.wait()
    with pytest.raises((WorkerDied, MemoryError)):  # how far it gets is Python's affair
        async with Worker(targets.echo, limits={"memory": 1}) as worker:
            await worker.wait()


async def test_figures_directly_after_the_start_wait_for_it(own_memory: Any) -> None:
    async with Worker(targets.echo, kind=own_memory) as worker:
        assert await worker.cpu_time() > 0
    if own_memory == "process":
        async with Worker(targets.echo, kind=own_memory) as worker:
            assert await worker.memory() > 1 << 20


# --- its own surroundings ------------------------------------------------------------------------


async def test_env_is_a_copy_and_changes_stay_on_their_side(
    own_memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOPWORKERS_TEST", "from here")
    names = ("LOOPWORKERS_TEST", "LOOPWORKERS_TEST_2")
    async with Worker(targets.show_environment, *names, kind=own_memory) as worker:
        assert (await worker.receive())["LOOPWORKERS_TEST"] == "from here"
    env = {**os.environ, "LOOPWORKERS_TEST_2": "given"}
    del env["LOOPWORKERS_TEST"]
    async with Worker(targets.show_environment, *names, kind=own_memory, env=env) as worker:
        assert await worker.receive() == dict(zip(names, (None, "given"), strict=True))
    assert "LOOPWORKERS_TEST_SET_THERE" not in os.environ


async def test_argv_is_its_own(own_memory: Any) -> None:
    async with Worker(targets.show_environment, kind=own_memory, argv=["-x", "1"]) as worker:
        await worker.receive()
        assert await worker.receive() == ["-x", "1"]


@pytest.mark.skipif(not os.path.exists("/proc/self/comm"), reason="the system shows no such names")
async def test_its_name_is_seen_by_the_system(own_memory: Any) -> None:
    name = "a-name-that-is-too-long"
    async with Worker(targets.show_name, kind=own_memory, name=name) as worker:
        assert await worker.receive() == name[:15]


async def test_all_output_comes_out_once_and_in_order_even_at_an_abrupt_end(
    own_memory: Any,
) -> None:
    lines = 2_000
    async with Worker(
        targets.print_and_leave, lines, kind=own_memory, stdout=PIPE, stderr=PIPE
    ) as worker:
        got: dict[str, bytes] = {}

        async def read(name: str, stream: Any) -> None:
            got[name] = b"".join([chunk async for chunk in stream])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, "out", worker.stdout)
            tasks.start_soon(read, "err", worker.stderr)
        assert await worker.wait() == 3
    out = "".join(f"line {n}\n" for n in range(lines)) + "no end of line"
    assert got["out"].decode() == out
    assert got["err"].decode() == "".join(f"error {n}\n" for n in range(lines))


async def test_a_memory_limit_fails_that_worker_alone() -> None:
    limits = {"memory": 2 << 30}
    async with Worker(targets.allocate, 4 << 30, limits=limits) as worker:
        assert await worker.receive() == "allocating"
        with pytest.raises(MemoryError):
            await worker.wait()
        assert worker.exitcode == 1


async def test_limits_of_processor_time_and_files_are_the_systems() -> None:
    async with Worker(targets.show_limits, limits={"cpu_seconds": 33, "open_files": 77}) as worker:
        assert await worker.receive() == [33, 77]
    async with Worker(targets.spin, limits={"cpu_seconds": 1}) as worker:
        with anyio.fail_after(LONG):
            assert await worker.wait() == -signal.SIGXCPU


# --- ending --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (7, 7), (None, 0), ("a message", 1)])
async def test_sys_exit_ends_that_worker_with_its_code(kind: Any, code: Any, expected: int) -> None:
    async with Worker(targets.leave, code, kind=kind) as worker:
        assert [message async for message in worker] == ["leaving"]
        assert await worker.wait() == expected
        assert worker.exitcode == expected


async def test_an_exception_comes_with_its_traceback_and_exit_code_1(kind: Any) -> None:
    async with Worker(targets.fail, kind=kind) as worker:
        assert [message async for message in worker] == ["failing"]
        with pytest.raises(LookupError, match="it was not there") as caught:
            await worker.wait()
        assert worker.exitcode == 1
    if kind != "thread":
        assert "in fail" in str(caught.value.__cause__)


async def test_an_exception_nobody_waited_for_is_raised_at_the_end_of_the_block(kind: Any) -> None:
    with pytest.raises(LookupError, match="it was not there"):
        async with Worker(targets.fail_at_once, kind=kind) as worker:
            await worker.ready()


async def test_an_exception_that_cannot_be_sent_comes_as_its_text(own_memory: Any) -> None:
    async with Worker(targets.fail_oddly, kind=own_memory) as worker:
        with pytest.raises(RemoteError, match="odd"):
            await worker.wait()


async def test_a_closed_port_tells_why(kind: Any) -> None:
    async with Worker(targets.fail, kind=kind) as worker:
        assert await worker.receive() == "failing"
        with pytest.raises(PortClosed) as caught:
            await worker.receive()
        assert isinstance(caught.value.__cause__, LookupError)
        with pytest.raises(LookupError):
            await worker.wait()


async def test_the_end_is_the_last_thing_and_comes_once(kind: Any) -> None:
    order: list[str] = []

    async def waits() -> None:
        await worker.wait()
        order.append("end")

    async with Worker(targets.say, *range(100), kind=kind) as worker:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(waits)
            await worker.ready()
            order.append("ready")
            async for _ in worker:
                pass
            order.append("messages")
        order.append("left")
    assert order[0] == "ready"
    assert sorted(order[1:3]) == ["end", "messages"]
    assert order[3:] == ["left"]


ENDS = [
    targets.spin,
    targets.swallow,
    targets.block_in_receive,
    targets.block_in_send,
    targets.idle_on_a_loop,
    targets.swallow_on_a_loop,
]


@pytest.mark.parametrize("target", ENDS)
async def test_terminate_ends_every_state_within_its_bound(own_memory: Any, target: Any) -> None:
    async with Worker(target, kind=own_memory) as worker:
        await pid_of(worker)
        start = monotonic()
        code = await worker.terminate()
        assert monotonic() - start < BOUND
        assert code == (-signal.SIGTERM if own_memory == "process" else 1)
        assert await worker.terminate() == code
        assert await worker.wait() == code


async def test_terminate_ends_who_waits_for_shared_things(own_memory: Any) -> None:
    lock, event, buffer = SharedLock(), SharedEvent(), SharedBuffer(8)
    await lock.acquire()
    for target, thing in (
        (targets.block_on_lock, lock),
        (targets.block_on_event, event),
        (targets.block_on_atomic, buffer),
    ):
        async with Worker(target, thing, kind=own_memory) as worker:  # type: ignore[arg-type]
            await pid_of(worker)
            start = monotonic()
            await worker.terminate()
            assert monotonic() - start < BOUND
    lock.release()
    buffer.close()


async def test_terminate_kills_what_ignores_sigterm() -> None:
    async with Worker(targets.ignore_sigterm) as worker:
        await pid_of(worker)
        assert await worker.terminate() == -signal.SIGKILL


async def test_terminate_while_it_starts_and_twice_at_once(own_memory: Any) -> None:
    async with Worker(targets.spin, kind=own_memory) as worker:
        codes: list[int] = []

        async def end() -> None:
            codes.append(await worker.terminate())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end)
            tasks.start_soon(end)
        assert len(set(codes)) == 1
        with pytest.raises(PortClosed, match="terminated"):
            await worker.ready()


async def test_terminate_after_its_own_end_gives_its_own_code(kind: Any) -> None:
    async with Worker(targets.leave, 5, kind=kind) as worker:
        assert await worker.wait() == 5
        assert await worker.terminate() == 5


async def test_terminate_fails_what_waits_for_messages(own_memory: Any) -> None:
    async with Worker(targets.spin, kind=own_memory) as worker:
        await pid_of(worker)
        async with anyio.create_task_group() as tasks:

            async def receive() -> None:
                with pytest.raises(PortClosed):
                    await worker.receive()

            tasks.start_soon(receive)
            await anyio.wait_all_tasks_blocked()
            await worker.terminate()
        with pytest.raises(PortClosed):
            await worker.send(1)


async def test_a_terminated_thread_is_left_to_itself_and_its_port_closed() -> None:
    async with Worker(targets.block_in_receive, kind="thread") as worker:
        await pid_of(worker)
        assert await worker.terminate() == 1
        with pytest.raises(PortClosed):
            await worker.receive()


async def test_leaving_by_an_exception_or_a_cancellation_terminates(own_memory: Any) -> None:
    worker = Worker(targets.swallow, kind=own_memory)

    async def fail() -> None:
        async with worker:
            await pid_of(worker)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert not worker.alive
    with anyio.CancelScope() as scope:
        async with Worker(targets.swallow, kind=own_memory) as worker:
            await pid_of(worker)
            scope.cancel()
    assert not worker.alive


async def test_a_killed_worker_tells_the_signal() -> None:
    async with Worker(targets.spin) as worker:
        os.kill(await pid_of(worker), signal.SIGKILL)
        assert await worker.wait() == -signal.SIGKILL
        with pytest.raises(PortClosed):
            await worker.receive()


@pytest.mark.parametrize("inner_kind", ["process", pytest.param("isolate", marks=no_isolates)])
async def test_terminate_ends_nested_workers_too(own_memory: Any, inner_kind: Any) -> None:
    async with Worker(targets.start_another, inner_kind, kind=own_memory) as worker:
        inner = psutil.Process(await pid_of(worker))
        inner_id = await worker.receive()
        assert inner_id != worker.id
        await worker.terminate()
        if inner_kind == "process":
            await eventually(lambda: not inner.is_running() or inner.status() == "zombie")


@no_isolates
@pytest.mark.parametrize("inner_kind", ["process", "isolate"])
async def test_nested_workers_end_where_the_outer_one_swallows_every_exception(
    inner_kind: Any,
) -> None:
    start = targets.start_another_and_swallow
    for _ in range(5):
        async with Worker(start, inner_kind, kind="isolate") as worker:
            await pid_of(worker)
            await worker.terminate()
            assert await worker.wait() == 1
    # That nothing of the inner one is left is seen after every test.


# --- figures -------------------------------------------------------------------------------------


async def test_utilization_is_0_before_and_after_and_1_for_a_busy_worker(kind: Any) -> None:
    worker = Worker(targets.burn, kind=kind)
    assert worker.utilization().ratio == 0
    async with worker:
        await worker.ready()
        before = worker.utilization()
        await worker.send(0.3)
        await worker.receive()
        busy = worker.utilization(before)
        assert busy.ratio > 0.9
        before = worker.utilization()
        await anyio.sleep(0.3)  # the worker's wait is what is looked at
        assert worker.utilization(before).ratio < 0.1
    assert worker.utilization() == (0, 0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such clocks")
async def test_cpu_time_is_what_it_has_used(kind: Any) -> None:
    async with Worker(targets.burn, kind=kind) as worker:
        await worker.ready()
        before = await worker.cpu_time()
        await worker.send(0.2)
        await worker.receive()
        assert 0.15 < await worker.cpu_time() - before < 2
    with pytest.raises(PortClosed):
        await worker.cpu_time()


async def test_memory_of_a_process_and_of_no_other(kind: Any) -> None:
    async with Worker(targets.echo, kind=kind) as worker:
        await worker.ready()
        if kind == "process":
            assert 4 << 20 < await worker.memory() < 200 << 20
        else:
            with pytest.raises(LoopworkersError, match="cannot be measured"):
                await worker.memory()


async def test_a_pools_calls_are_in_no_worker(kind: Any) -> None:
    async with WorkerPool(kind, max_workers=1) as pool:
        assert await pool.run(current_worker) is None

"""`terminate` ends whatever a worker does, at any time, and all that waits for it."""

from __future__ import annotations

import signal
import socket
from time import monotonic
from typing import Any

import anyio
import pytest
import targets_ends
from contract_help import no_isolates
from worker_help import BOUND, pid_of

from loopworkers import PortClosed, SharedBuffer, SharedEvent, SharedLock, Worker

pytestmark = pytest.mark.anyio


ENDS = [
    targets_ends.spin,
    targets_ends.swallow,
    targets_ends.block_in_receive,
    targets_ends.block_in_send,
    targets_ends.idle_on_a_loop,
    targets_ends.swallow_on_a_loop,
    targets_ends.spin_on_a_loop,
    targets_ends.swallow_in_a_callback,
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
        (targets_ends.block_on_lock, lock),
        (targets_ends.block_on_event, event),
        (targets_ends.block_on_atomic, buffer),
    ):
        async with Worker(target, thing, kind=own_memory) as worker:  # type: ignore[arg-type]
            await pid_of(worker)
            start = monotonic()
            await worker.terminate()
            assert monotonic() - start < BOUND
    lock.release()
    buffer.close()


async def test_terminate_kills_what_ignores_sigterm() -> None:
    async with Worker(targets_ends.ignore_sigterm) as worker:
        await pid_of(worker)
        assert await worker.terminate() == -signal.SIGKILL


@no_isolates
async def test_an_isolate_that_has_stopped_gets_time_to_tidy_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from loopworkers._workers import isolate

    monkeypatch.setattr(isolate, "_HARD_GRACE", 0.1)
    ours, theirs = socket.socketpair()
    with ours:
        async with (
            Worker(targets_ends.tidy_up_when_told, kind="isolate") as worker,
            anyio.create_task_group() as tasks,
        ):
            await worker.send(theirs)
            await pid_of(worker)
            tasks.start_soon(worker.terminate)
            assert await anyio.to_thread.run_sync(ours.recv, 1) == b"!"
            # Longer than it had if it were still running.
            await anyio.sleep(2 * (isolate._SOFT_GRACE + isolate._HARD_GRACE))
            assert worker.alive
            ours.send(b"!")
        assert worker._exit is not None
        assert not worker._exit.stuck


async def test_terminate_while_it_starts_and_twice_at_once(own_memory: Any) -> None:
    async with Worker(targets_ends.spin, kind=own_memory) as worker:
        codes: list[int] = []

        async def end() -> None:
            codes.append(await worker.terminate())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end)
            tasks.start_soon(end)
        assert len(set(codes)) == 1
        with pytest.raises(PortClosed, match="terminated"):
            await worker.ready()


async def test_a_thread_is_terminated_while_it_starts_and_twice_at_once() -> None:
    async with (
        Worker(targets_ends.block_in_receive, kind="thread") as worker,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(worker.terminate)
        tasks.start_soon(worker.terminate)
    assert worker.exitcode == 1
    assert await worker.terminate() == 1


async def test_terminate_after_its_own_end_gives_its_own_code(kind: Any) -> None:
    async with Worker(targets_ends.leave, 5, kind=kind) as worker:
        assert await worker.wait() == 5
        assert await worker.terminate() == 5


async def test_terminate_fails_everything_that_waits_at_once(kind: Any) -> None:
    event, ended = SharedEvent(), []
    async with Worker(targets_ends.block_on_event, event, kind=kind) as worker:
        await pid_of(worker)

        async def receive() -> None:
            with pytest.raises(PortClosed):
                await worker.receive()
            ended.append("receive")

        async def iterate() -> None:
            assert [message async for message in worker] == []
            ended.append("iterate")

        async def send() -> None:
            try:
                while True:
                    await worker.send(bytes(100_000))
            except PortClosed:
                ended.append("send")

        async def wait() -> None:
            await worker.wait()
            ended.append("wait")

        async with anyio.create_task_group() as tasks:
            for waiting in (receive, iterate, send, wait):
                tasks.start_soon(waiting)
            await anyio.wait_all_tasks_blocked()
            assert ended == []
            await worker.terminate()
            event.set()  # a thread goes on, and nobody waits for that
        assert sorted(ended) == ["iterate", "receive", "send", "wait"]
        with pytest.raises(PortClosed):
            await worker.send(1)


async def test_a_terminated_thread_is_left_to_itself_and_its_port_closed() -> None:
    async with Worker(targets_ends.block_in_receive, kind="thread") as worker:
        await pid_of(worker)
        assert await worker.terminate() == 1
        with pytest.raises(PortClosed):
            await worker.receive()


async def test_leaving_by_an_exception_or_a_cancellation_terminates(own_memory: Any) -> None:
    worker = Worker(targets_ends.swallow, kind=own_memory)

    async def fail() -> None:
        async with worker:
            await pid_of(worker)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert not worker.alive
    with anyio.CancelScope() as scope:
        async with Worker(targets_ends.swallow, kind=own_memory) as worker:
            await pid_of(worker)
            scope.cancel()
    assert not worker.alive

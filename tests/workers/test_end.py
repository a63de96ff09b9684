"""How a worker's end is told: code, exception, and in which order."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Any

import anyio
import pytest
import targets
import targets_ends
from worker_help import pid_of

from loopworkers import AtomicInt64, PortClosed, RemoteError, SharedBuffer, Worker

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (7, 7), (None, 0), ("a message", 1)])
async def test_sys_exit_ends_that_worker_with_its_code(kind: Any, code: Any, expected: int) -> None:
    for target in (targets_ends.leave, targets_ends.leave_async):
        async with Worker(target, code, kind=kind) as worker:
            assert [message async for message in worker] == ["leaving"]
            assert await worker.wait() == expected
            assert worker.exitcode == expected


async def test_an_exception_comes_with_its_traceback_and_exit_code_1(kind: Any) -> None:
    async with Worker(targets_ends.fail, kind=kind) as worker:
        assert [message async for message in worker] == ["failing"]
        with pytest.raises(LookupError, match="it was not there") as caught:
            await worker.wait()
        assert worker.exitcode == 1
    if kind != "thread":
        assert "in fail" in str(caught.value.__cause__)


async def test_an_exception_comes_once_to_each_who_waits_for_the_end(kind: Any) -> None:
    told: list[str] = []

    async def wait() -> None:
        try:
            await worker.wait()
        except LookupError:
            told.append("failure")

    async with Worker(targets_ends.fail_async, kind=kind) as worker:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            tasks.start_soon(wait)
        assert told == ["failure"] * 2
        assert worker.exitcode == 1
    # And the block, whose end is the last thing, does not raise it again.


async def test_an_exception_nobody_waited_for_is_raised_at_the_end_of_the_block(kind: Any) -> None:
    with pytest.raises(LookupError, match="it was not there"):
        async with Worker(targets_ends.fail_at_once, kind=kind) as worker:
            await worker.ready()


async def test_an_exception_that_cannot_be_sent_comes_as_its_text(own_memory: Any) -> None:
    async with Worker(targets_ends.fail_oddly, kind=own_memory) as worker:
        with pytest.raises(RemoteError, match="odd"):
            await worker.wait()


async def test_a_closed_port_tells_why(kind: Any) -> None:
    async with Worker(targets_ends.fail, kind=kind) as worker:
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


async def test_a_killed_worker_tells_the_signal() -> None:
    async with Worker(targets_ends.spin) as worker:
        os.kill(await pid_of(worker), signal.SIGKILL)
        assert await worker.wait() == -signal.SIGKILL
        with pytest.raises(PortClosed):
            await worker.receive()


@pytest.mark.parametrize(("how", "code"), [("return", 0), ("exit", 3), ("failure", 1)])
async def test_everything_sent_before_the_end_is_delivered(kind: Any, how: str, code: int) -> None:
    messages = [*range(50), bytes(40_000)]  # what the channel holds: nobody reads them yet
    async with Worker(targets_ends.say_and_end, messages, how, kind=kind) as worker:
        with contextlib.suppress(LookupError):
            await worker.wait()
        # They were not lost with the one who sent them.
        assert [message async for message in worker] == messages
        assert worker.exitcode == code


@pytest.mark.parametrize(("how", "code"), [("os._exit", 4), ("kill", -signal.SIGKILL)])
async def test_messages_come_before_the_end_even_of_a_killed_process(how: str, code: int) -> None:
    messages = [*range(500), bytes(40_000)]
    async with Worker(targets_ends.say_and_end, messages, how) as worker:
        assert [message async for message in worker] == messages
        assert await worker.wait() == code


@pytest.mark.parametrize("target", [targets.count_to, targets.count_to_async])
async def test_what_was_sent_before_the_block_is_left_is_received(kind: Any, target: Any) -> None:
    with SharedBuffer(8) as buffer:
        async with Worker(target, buffer, kind=kind) as worker:
            for number in range(2_000):
                await worker.send(number)
        assert AtomicInt64(buffer).load() == 2_000

"""Threads that share a port, with each other and with tasks."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest
import targets
from contract_help import LONG, eventually

from loopworkers import MessagePort, PortClosed, Worker, channel

pytestmark = pytest.mark.anyio


async def test_threads_of_a_worker_share_its_port(kind: Any) -> None:
    async with Worker(targets.start_thread, kind=kind) as worker:
        assert sorted([message async for message in worker]) == list(range(8))


def test_threads_that_share_a_port_each_get_a_message() -> None:
    for _ in range(100):
        first, second = channel()
        got: list[int] = []

        def receive(second: MessagePort = second, got: list[int] = got) -> None:
            got.append(second.receive(timeout=LONG))

        threads = [threading.Thread(target=receive) for _ in range(2)]
        for thread in threads:
            thread.start()
        first.send(1)
        first.send(2)
        for thread in threads:
            thread.join()
        assert sorted(got) == [1, 2]
        first.close()
        second.close()


async def test_a_task_and_a_thread_share_a_port() -> None:
    first, second = channel()
    got: list[int] = []

    async def in_task() -> None:
        got.append(await second.receive())

    def in_thread() -> None:
        got.append(second.receive(timeout=LONG))

    for _ in range(50):
        got.clear()
        with anyio.fail_after(LONG):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(in_task)
                tasks.start_soon(anyio.to_thread.run_sync, in_thread)
                await anyio.lowlevel.checkpoint()
                await first.send(1)
                await first.send(2)
        assert sorted(got) == [1, 2]
    first.close()
    second.close()


async def test_a_close_from_another_thread_wakes_the_task() -> None:
    first, second = channel()
    async with anyio.create_task_group() as tasks:

        async def receive() -> None:
            with anyio.fail_after(LONG), pytest.raises(PortClosed):
                await second.receive()

        tasks.start_soon(receive)
        await anyio.wait_all_tasks_blocked()
        await anyio.to_thread.run_sync(second.close)
    await eventually(lambda: second.closed)
    first.close()


async def test_a_close_wakes_the_thread_that_waits() -> None:
    first, second = channel()

    def receive() -> None:
        with pytest.raises(PortClosed):
            second.receive(timeout=LONG)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, receive)
        await eventually(second._pipe.turn.locked)
        second.close()
    assert second._pipe.closed
    first.close()

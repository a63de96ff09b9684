"""Ports: receiving from them, and their close."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
import targets
from contract_help import LONG

from loopworkers import PortClosed, SharedEvent, Worker, channel

pytestmark = pytest.mark.anyio


async def test_blocking_receive_has_a_timeout_and_a_nowait_form(kind: Any) -> None:
    async with Worker(targets.receive_nothing, kind=kind) as worker:
        assert await worker.receive() == "nothing yet"
        assert await worker.receive() == "nothing in time"
        await worker.send("now")
        assert await worker.receive() == "now"


async def test_receive_with_a_timeout_on_the_loop() -> None:
    first, second = channel()
    with pytest.raises(TimeoutError):
        await second.receive(timeout=0.01)
    with pytest.raises(BlockingIOError):
        second.receive_nowait()
    await first.send(1)
    assert second.receive_nowait() == 1
    first.close()
    second.close()


async def test_cancelling_a_receive_loses_no_message() -> None:
    first, second = channel()
    got: list[Any] = []

    async def receive() -> None:
        got.append(await second.receive())

    for number in range(50):
        with anyio.move_on_after(0):
            await second.receive()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            await anyio.lowlevel.checkpoint()
            await first.send(number)
            tasks.cancel_scope.cancel()
        if len(got) == number:  # it was cancelled before it had the message
            with anyio.fail_after(LONG):
                await receive()
        assert got[-1] == number
    first.close()
    second.close()


async def test_several_tasks_receive_from_one_port() -> None:
    first, second = channel()
    got: list[int] = []

    async def take() -> None:
        async for message in second:
            got.append(message)

    with anyio.fail_after(LONG):
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(take)
            for number in range(200):
                await first.send(number)
                if number % 7 == 0:
                    await anyio.lowlevel.checkpoint()
            first.close()
    assert sorted(got) == list(range(200))
    second.close()


async def test_close_is_seen_at_the_other_end_and_a_second_one_does_nothing() -> None:
    first, second = channel()
    await first.send("before")
    first.close()
    first.close()
    assert first.closed
    with pytest.raises(PortClosed):
        await first.send(1)
    with pytest.raises(PortClosed):
        await second.send(1)
    assert await second.receive() == "before"
    with pytest.raises(PortClosed):
        await second.receive()
    assert [message async for message in second] == []
    second.close()


async def test_close_wakes_who_waits_at_this_end() -> None:
    first, second = channel()
    async with anyio.create_task_group() as tasks:

        async def receive() -> None:
            with pytest.raises(PortClosed):
                await second.receive()

        tasks.start_soon(receive)
        await anyio.wait_all_tasks_blocked()
        second.close()
    first.close()


async def test_closing_a_port_between_its_messages_loses_nothing_delivered(kind: Any) -> None:
    ours, theirs = channel()
    async with Worker(targets.close_while_receiving, kind=kind) as worker:
        await worker.send(theirs)
        await worker.send(1)
        await worker.send(2)
        assert await ours.receive() == [1, 2]
        assert await worker.wait() == 0
    ours.close()


async def test_send_after_the_peer_closed_raises_in_the_worker(kind: Any) -> None:
    with pytest.raises(LookupError, match="told of the close"):
        async with Worker(targets.send_after_close, kind=kind) as worker:
            await worker.ready()


async def test_closing_a_port_between_its_messages_on_the_loop_ends_the_iteration() -> None:
    first, second = channel()
    got: list[int] = []
    for number in range(5):
        await first.send(number)
    async for message in second:
        got.append(message)
        if message == 2:
            second.close()
    assert got == [0, 1, 2]
    with pytest.raises(PortClosed):
        await first.receive()
    first.close()


@pytest.mark.parametrize("target", [targets.close_early, targets.close_early_async])
async def test_a_close_in_the_worker_is_seen_here_while_it_goes_on(kind: Any, target: Any) -> None:
    event = SharedEvent()
    async with Worker(target, event, kind=kind) as worker:
        assert [message async for message in worker] == ["before"]
        with pytest.raises(PortClosed):
            await worker.send("too late")
        assert worker.alive
        event.set()
        assert await worker.wait() == 0

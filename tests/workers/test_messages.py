"""What is sent arrives, in order, once, as what it was, and no faster than it is read."""

from __future__ import annotations

import array
import os
import threading
from typing import Any

import anyio
import pytest
import targets
from contract_help import LONG, eventually

from loopworkers import (
    AtomicInt64,
    NotTransferable,
    PortClosed,
    SharedBuffer,
    SharedEvent,
    Worker,
    channel,
)

pytestmark = pytest.mark.anyio


VALUES = [
    None,
    3,
    "text",
    b"bytes",
    bytes(49_000),
    os.urandom(3_000_000),
    bytearray(100_000),
    array.array("d", [1.5] * 20_000),
    [1, (2, {3: "x"})],
    targets.Point(1, 2),
    10**6000,
]


@pytest.mark.parametrize("target", [targets.echo, targets.echo_async])
async def test_values_of_all_kinds_and_sizes_come_back_as_they_were(kind: Any, target: Any) -> None:
    async with Worker(target, kind=kind) as worker:
        for value in VALUES:
            await worker.send(value)
            got = await worker.receive()
            assert type(got) is type(value)
            assert got == value


async def test_instances_keep_their_class_and_identity_within_a_message(kind: Any) -> None:
    point = targets.Point(1, 2)
    async with Worker(targets.echo_types, kind=kind) as worker:
        await worker.send(point)
        assert await worker.receive() == ("Point", point)
        cycle: list[Any] = [point, point]
        cycle.append(cycle)
        await worker.send(cycle)
        _, got = await worker.receive()
        assert got[0] is got[1]
        assert got[2] is got


async def test_lambdas_and_local_classes_travel_both_ways(kind: Any) -> None:
    class Local:
        value = 5

    def target(port: Any, factor: int) -> None:
        for function in port:
            port.send((function(factor), Local()))

    async with Worker(target, 7, kind=kind) as worker:
        await worker.send(lambda x: x + 1)
        result, local = await worker.receive()
        assert result == 8
        assert isinstance(local, Local)


async def test_messages_keep_their_order_and_none_is_lost(kind: Any) -> None:
    number = 3_000
    async with Worker(targets.echo, kind=kind) as worker, anyio.create_task_group() as tasks:

        async def feed() -> None:
            for index in range(number):
                await worker.send(index if index % 500 else (index, bytes(200_000)))

        tasks.start_soon(feed)
        for index in range(number):
            got = await worker.receive()
            assert (got if index % 500 else got[0]) == index


async def test_a_message_that_cannot_be_unpickled_raises_there_and_the_next_one_arrives(
    kind: Any,
) -> None:
    async with Worker(targets.say_unloadable, kind=kind) as worker:
        with pytest.raises(ValueError, match="not a number"):
            await worker.receive()
        assert await worker.receive() == 2


async def test_what_cannot_be_sent_raises_at_the_call_and_names_the_culprit(kind: Any) -> None:
    async with Worker(targets.echo, kind=kind) as worker:
        with pytest.raises(NotTransferable, match=r"message\['a'\]\[1\]"):
            await worker.send({"a": [1, threading.Lock()]})
        await worker.send("still good")
        assert await worker.receive() == "still good"


async def test_a_slow_reader_stops_the_writer(kind: Any) -> None:
    with SharedBuffer(8) as buffer:
        async with Worker(targets.count_up, buffer, kind=kind) as worker:
            count = AtomicInt64(buffer)
            await worker.receive()

            async def at_rest() -> int:
                before = -1
                while (now := count.load()) != before:
                    before = now
                    await anyio.sleep(0.1)  # time in which one that is not stopped sends thousands
                return now

            with anyio.fail_after(LONG):
                stopped_at = await at_rest()
                assert stopped_at < 20_000  # what some hundred KiB of small messages are
                for number in range(1, stopped_at):
                    assert await worker.receive() == number
                await eventually(lambda: count.load() > stopped_at)
            worker._port.close()
            with pytest.raises(PortClosed):
                await worker.wait()


async def test_a_full_channel_makes_the_sender_wait_and_the_loop_stays_free(kind: Any) -> None:
    event = SharedEvent()
    async with Worker(targets.receive_late, event, kind=kind) as worker:
        sent = 0

        async def send() -> None:
            nonlocal sent
            while True:
                await worker.send(sent)
                sent += 1

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        assert 0 < sent < 20_000
        event.set()
        await worker.send("last")
        # The one that was cancelled while it waited for room had been sent already.
        assert await worker.receive() == [*range(sent + 1), "last"]


async def test_a_self_feeding_loop_of_messages_starves_nobody() -> None:
    first, second = channel()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await anyio.lowlevel.checkpoint()
            ticks += 1

    with anyio.fail_after(LONG):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tick)
            await first.send(0)
            while ticks < 20:
                await first.send(await second.receive())
            tasks.cancel_scope.cancel()
    first.close()
    second.close()


async def test_capacity_has_its_bounds() -> None:
    for capacity in (0, 1 << 31):
        with pytest.raises(ValueError, match="capacity"):
            channel(capacity)
    first, second = channel(1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first.send, bytes(1_000_000))
        assert await second.receive() == bytes(1_000_000)
    first.close()
    second.close()


async def test_a_self_feeding_loop_of_messages_in_a_worker_starves_nobody(kind: Any) -> None:
    async with Worker(targets.feed_itself, kind=kind) as worker:
        with anyio.fail_after(LONG):
            assert await worker.receive() == "both had their turns"


async def test_a_worker_can_run_trio(kind: Any) -> None:
    async with Worker(targets.echo_on_trio, kind=kind) as worker:
        for value in (1, bytes(1_000_000)):
            await worker.send(value)
            assert await worker.receive() == value

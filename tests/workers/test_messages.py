"""Ports: what is sent arrives, in order, once, as what it was, and no faster than it is read."""

from __future__ import annotations

import array
import os
import signal
import socket
import threading
from typing import Any

import anyio
import pytest
import targets
from contract_help import LONG, eventually

from loopworkers import (
    AtomicInt64,
    MessagePort,
    NotTransferable,
    PortClosed,
    SharedBuffer,
    SharedEvent,
    Worker,
    WorkerDied,
    WorkerPool,
    channel,
    run_in_worker,
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


async def test_everything_sent_before_the_end_is_delivered(kind: Any) -> None:
    messages = [*range(500), bytes(40_000)]
    async with Worker(targets.say, *messages, kind=kind) as worker:
        assert [message async for message in worker] == messages
        assert await worker.wait() == 0


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
        with anyio.move_on_after(0.5) as scope:
            while True:
                await worker.send(sent)
                sent += 1
        assert scope.cancelled_caught
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


async def test_threads_of_a_worker_share_its_port(kind: Any) -> None:
    async with Worker(targets.start_thread, kind=kind) as worker:
        assert sorted([message async for message in worker]) == list(range(8))


# --- ports inside of messages --------------------------------------------------------------------


async def test_a_port_moves_to_a_worker_with_what_it_has_received(kind: Any) -> None:
    ours, theirs = channel()
    await ours.send("early")
    await ours.send(bytes(120_000))
    async with Worker(targets.use_other, kind=kind) as worker:
        await worker.send(theirs)
        assert theirs.closed
        with pytest.raises(PortClosed):
            await theirs.send("no more")
        assert await ours.receive() == ("through the other", "early")
        assert (await ours.receive())[1] == bytes(120_000)
        await ours.send("late")
        assert await ours.receive() == ("through the other", "late")
        ours.close()


async def test_unread_messages_move_along(kind: Any) -> None:
    ours, theirs = channel()
    inner, outer = channel()
    await ours.send(1)
    await ours.send([outer])
    assert await theirs.receive() == 1  # and the second message waits in the port itself
    async with Worker(targets.use_other, kind=kind) as worker:
        await worker.send(theirs)
        _, (moved,) = await ours.receive()
        await moved.send("hello")
        assert await inner.receive() == "hello"
        for port in (ours, inner, moved):
            port.close()


async def test_a_port_comes_back_from_a_worker(kind: Any) -> None:
    async with Worker(targets.give_a_port, kind=kind) as worker:
        port = await worker.receive()
        assert isinstance(port, MessagePort)
        await port.send(targets.Point(3, 4))
        assert await port.receive() == targets.Point(3, 4)
        port.close()


async def test_workers_of_two_kinds_talk_without_the_program(kind: Any, own_memory: Any) -> None:
    one_end, other_end = channel()
    async with (
        Worker(targets.use_other, kind=kind) as answering,
        Worker(targets.ask_other, kind=own_memory) as asking,
    ):
        await answering.send(one_end)
        await asking.send(other_end)
        assert await asking.receive() == ("through the other", "a question")
        assert await answering.wait() == 0


async def test_a_port_as_an_argument_of_a_call(own_memory: Any) -> None:
    ours, theirs = channel()
    async with WorkerPool(own_memory, max_workers=1) as pool:
        call = pool.run(targets.echo, theirs)
        await ours.send("to the call")
        assert await ours.receive() == "to the call"
        ours.close()
        assert await call is None


async def test_a_port_is_not_a_result() -> None:
    with pytest.raises(NotTransferable, match="not returned"):
        await run_in_worker(channel)


async def test_bad_moves_raise_and_move_nothing() -> None:
    first, second = channel()
    third, fourth = channel()
    closed, _ = channel()
    closed.close()
    for value, transfer in (
        ([third, first], ()),
        ([third, second], ()),
        ([third, closed], ()),
        ([third, threading.Lock()], ()),
        ([third], (object(),)),
    ):
        with pytest.raises(NotTransferable):
            await first.send(value, transfer=transfer)
    data = bytearray(10)
    with pytest.raises(ValueError, match="twice"):
        await first.send([third, data], transfer=[data, data])
    with memoryview(data), pytest.raises(NotTransferable, match="memoryview"):
        await first.send([third, data], transfer=[data])
    assert len(data) == 10
    await third.send("alive")
    assert await fourth.receive() == "alive"
    for port in (first, second, third, fourth, _):
        port.close()


async def test_handed_over_buffers_are_unusable_here_and_whole_there(kind: Any) -> None:
    async with Worker(targets.echo, kind=kind) as worker:
        data = bytearray(b"abc" * 50_000)
        await worker.send(data, transfer=[data])
        assert data == b""
        assert await worker.receive() == b"abc" * 50_000
        view = memoryview(b"xyz" * 50_000)
        await worker.send(view, transfer=[view])
        with pytest.raises(ValueError, match="released"):
            view[0]
        assert await worker.receive() == b"xyz" * 50_000


async def test_shared_memory_is_handed_over_without_a_copy(kind: Any) -> None:
    async with Worker(targets.hand_over, kind=kind) as worker:
        buffer = SharedBuffer(1 << 20)
        buffer.view[1] = 5
        inode = os.fstat(buffer._file.fileno()).st_ino
        await worker.send(buffer, transfer=[buffer])
        assert buffer.closed
        with pytest.raises(ValueError, match="released"):
            buffer.view[0]
        with await worker.receive() as back:
            assert (back.view[0], back.view[1]) == (77, 5)
            assert os.fstat(back._file.fileno()).st_ino == inode


async def test_a_socket_moves_to_a_worker(own_memory: Any) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        async with Worker(targets.use_socket, kind=own_memory) as worker:
            await worker.send(theirs)
            assert theirs.fileno() == -1
            ours.settimeout(LONG)
            assert await anyio.to_thread.run_sync(ours.recv, 100) == b"from the worker"


async def test_descriptors_nobody_receives_are_closed() -> None:
    first, second = channel()
    inner, outer = channel()
    await first.send([outer])
    first.close()
    second.close()
    with pytest.raises(PortClosed):
        await inner.receive()
    inner.close()


# --- threads, deaths, limits ---------------------------------------------------------------------


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


async def test_a_call_with_a_port_for_a_worker_that_has_just_died() -> None:
    async with WorkerPool("process", max_workers=1) as pool:
        pid = await pool.run(os.getpid)
        ours, theirs = channel()
        os.kill(pid, signal.SIGKILL)
        call = pool.run(targets.say, theirs, "hello")
        try:
            await call
        except WorkerDied:
            with pytest.raises(PortClosed):  # what the dead worker was given is closed
                await ours.receive()
        else:
            assert await ours.receive() == "hello"
        ours.close()


async def test_a_failed_send_moves_nothing() -> None:
    first, second = channel()
    third, fourth = channel()
    data = bytearray(10)
    second.close()
    with pytest.raises(PortClosed):
        await first.send([third, data], transfer=[data])
    assert len(data) == 10
    await third.send("alive")
    assert await fourth.receive() == "alive"
    for port in (first, third, fourth):
        port.close()


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

"""Ports, sockets and memory that move inside of messages: whole, or not at all."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import socket
import sys
import threading
from typing import Any

import anyio
import numpy
import psutil
import pytest
import targets
import targets_shared
from contract_help import LONG, eventually_sync

from loopworkers import (
    MessagePort,
    NotTransferable,
    PortClosed,
    SharedBuffer,
    Worker,
    WorkerDied,
    WorkerPool,
    channel,
    run_in_worker,
)

pytestmark = pytest.mark.anyio


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


async def test_a_call_with_a_port_that_a_dead_worker_was_not_given_runs_elsewhere() -> None:
    async with WorkerPool("process", max_workers=1) as pool:
        pid = await pool.run(os.getpid)
        ours, theirs = channel()
        os.kill(pid, signal.SIGKILL)
        # While this blocks, the loop does not hear of it.
        assert eventually_sync(lambda: not psutil.pid_exists(pid))
        call = pool.run(targets.say, theirs, "hello")
        assert theirs.closed
        await call
        assert await ours.receive() == "hello"
        ours.close()


async def test_a_call_whose_descriptors_cannot_be_sent_fails_and_the_next_runs(
    own_memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send_fds(*_: Any) -> None:
        raise OSError(errno.ETOOMANYREFS, os.strerror(errno.ETOOMANYREFS))

    async with WorkerPool(own_memory, max_workers=1) as pool:
        await pool.run(abs, 1)
        ours, theirs = channel()
        with monkeypatch.context() as patch, anyio.fail_after(LONG):
            patch.setattr(socket, "send_fds", send_fds)
            with pytest.raises(OSError, match="descriptors"):
                await pool.run(targets.say, theirs, "hello")
        with pytest.raises(PortClosed):
            await ours.receive()
        ours.close()
        ours, theirs = channel()
        await pool.run(targets.say, theirs, "hello")
        assert await ours.receive() == "hello"
        ours.close()


async def test_a_call_with_a_port_is_run_again_with_the_same_port() -> None:
    with SharedBuffer(8) as buffer:
        async with WorkerPool("process", max_workers=1, retries=1) as pool:
            ours, theirs = channel()
            call = pool.run(targets_shared.die_once, theirs, buffer)
            assert await ours.receive() == "first"
            assert await ours.receive() == "second"
            ours.close()
            await call


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


async def test_a_failed_send_leaves_what_it_would_have_handed_over_as_it_was() -> None:
    first, second = channel()
    buffer, bytes_of = SharedBuffer(8), bytearray(b"abc")
    view, plain, data = buffer.view, memoryview(bytes_of), bytearray(100_000)
    size = sys.getsizeof(data)
    transfer = [buffer, plain, data]
    with pytest.raises(NotTransferable):
        await first.send([*transfer, threading.Lock()], transfer=transfer)
    second.close()
    with pytest.raises(PortClosed):
        await first.send(transfer, transfer=transfer)
    first.close()
    view[0] = plain[0]
    assert buffer.view is view
    assert view[0] == ord("a")
    assert len(data) == 100_000
    assert sys.getsizeof(data) == size  # its memory was not moved either
    buffer.close()


@pytest.mark.parametrize("use", [lambda view: view[2:4], pickle.PickleBuffer, numpy.frombuffer])
async def test_memory_in_use_is_not_handed_over_until_it_is_not(use: Any) -> None:
    first, second = channel()
    with first, second:
        buffer = SharedBuffer(8)
        used = use(buffer.view)
        with pytest.raises(NotTransferable, match="in use"):
            await first.send(buffer, transfer=[buffer])
        if isinstance(used, pickle.PickleBuffer):
            used.release()
        del used
        await first.send(buffer, transfer=[buffer])
        assert buffer.closed
        (await second.receive()).close()


async def test_a_view_that_is_lent_is_not_handed_over() -> None:
    first, second = channel()
    with first, second, memoryview(bytearray(8)) as view:
        lent = pickle.PickleBuffer(view)
        with pytest.raises(NotTransferable, match="in use"):
            await first.send(view, transfer=[view])
        lent.release()
        await first.send(view, transfer=[view])
        assert await second.receive() == bytes(8)


async def test_an_empty_bytearray_is_handed_over_unless_it_is_in_use() -> None:
    first, second = channel()
    with first, second:
        for data in (bytearray(), bytearray(b"1")):
            with memoryview(data), pytest.raises(NotTransferable, match="memoryview of it"):
                await first.send(data, transfer=[data])
            content = bytes(data)
            await first.send(data, transfer=[data])
            assert await second.receive() == content
            assert data == b""


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
    async with Worker(targets_shared.hand_over, kind=kind) as worker:
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


async def test_bad_moves_to_a_worker_raise_and_move_nothing(kind: Any) -> None:
    third, fourth = channel()
    closed, other = channel()
    closed.close()
    async with Worker(targets.use_other, kind=kind) as worker:
        for value in ([third, closed], [third, threading.Lock()]):
            with pytest.raises(NotTransferable):
                await worker.send(value)
        data = bytearray(10)
        with pytest.raises(ValueError, match="twice"):
            await worker.send([third, data], transfer=[data, data])
        assert len(data) == 10
        await worker.send(third)
        await fourth.send("alive")
        assert await fourth.receive() == ("through the other", "alive")
        fourth.close()
        other.close()


async def test_a_worker_cannot_move_its_port_through_itself(kind: Any) -> None:
    async with Worker(targets.send_itself, kind=kind) as worker:
        assert [message async for message in worker] == ["NotTransferable"] * 2 + ["alive"]

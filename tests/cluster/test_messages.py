"""Messages between the primary and its workers, and sockets among them."""

from __future__ import annotations

import socket
from typing import Any

import anyio
import members
import pytest
from clients import ask
from contract_help import LONG, eventually

from loopworkers import Cluster, PortClosed

pytestmark = pytest.mark.anyio
LOCAL = "127.0.0.1:0"
LARGE = 5 << 20


async def test_a_message_comes_back(kind: Any) -> None:
    async with Cluster(members.echo, workers=2, kind=kind, grace=0) as cluster:
        await cluster.ready()
        for worker in cluster.workers.values():
            for message in (None, {"a": [1, 2.5]}, "text", worker.id):
                await worker.send(message)
                assert await worker.receive(LONG) == message


async def test_messages_can_be_iterated_over_and_come_in_order(kind: Any) -> None:
    async with Cluster(members.echo, workers=1, kind=kind, grace=0) as cluster:
        await cluster.ready()
        (worker,) = cluster.workers.values()
        for number in range(200):
            await worker.send(number)
        received = []
        async for number in worker:
            received.append(number)
            if number == 199:
                break
        assert received == list(range(200))


async def test_large_messages_go_both_ways_at_once(kind: Any) -> None:
    async with Cluster(members.echo, workers=2, kind=kind, grace=0) as cluster:
        await cluster.ready()

        async def exchange(worker: Any) -> None:
            for number in range(4):
                sent = bytes([number]) * LARGE
                await worker.send(sent)
                assert await worker.receive(LONG) == sent

        async with anyio.create_task_group() as group:
            for worker in cluster.workers.values():
                group.start_soon(exchange, worker)


async def test_sockets_and_large_messages_are_not_mixed_up(kind: Any) -> None:
    async with Cluster(members.write_to_sockets, workers=1, kind=kind, grace=0) as cluster:
        await cluster.ready()
        (worker,) = cluster.workers.values()
        for number in range(12):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                size = LARGE if number % 3 == 0 else number
                await worker.send((b"%d:" % number + b"x" * size, theirs), transfer=[theirs])
                assert theirs.fileno() == -1  # moved
                ours.setblocking(False)
                read = b""
                with anyio.fail_after(LONG):
                    while True:
                        await anyio.wait_readable(ours)
                        data = ours.recv(1 << 20)
                        if not data:  # closed there, so nobody holds a copy here
                            break
                        read += data
                assert read == b"%d:" % number + b"x" * size


async def test_a_worker_that_has_ended_takes_no_message(kind: Any) -> None:
    async with Cluster(members.echo, workers=1, kind=kind, grace=0) as cluster:
        await cluster.ready()
        (worker,) = cluster.workers.values()
        await cluster.kill(worker.id)
        with pytest.raises(PortClosed):
            await worker.send("anybody there?")
        with pytest.raises(PortClosed):
            await worker.receive(LONG)


@pytest.mark.parametrize("which", ["port", "control"])
async def test_rubbish_from_a_worker_does_not_stop_the_others(kind: Any, which: str) -> None:
    cluster = Cluster(
        members.write_rubbish, which, workers=2, kind=kind, listen=LOCAL, backend="asyncio"
    )
    async with cluster:
        await cluster.ready()
        for _ in range(3):
            before = set(cluster.workers)
            worker = next(iter(cluster.workers.values()))
            await worker.send("go on")
            if which == "port":
                with pytest.raises(Exception, match=r"."):
                    await worker.receive(LONG)
            with anyio.fail_after(LONG):
                if worker.id in cluster.workers and which == "port":
                    await cluster.kill(worker.id)
            await eventually(lambda before=before: before - set(cluster.workers))
            await cluster.ready()
            assert (await ask(cluster))[0] in cluster.workers


async def test_messages_wait_for_the_start_of_a_worker(kind: Any) -> None:
    async with Cluster(members.echo, workers=1, kind=kind, grace=0) as cluster:
        (worker,) = cluster.workers.values()  # which nothing has started yet
        await worker.send("early")
        assert await worker.receive(LONG) == "early"


async def test_the_last_words_of_a_worker_can_be_read_after_its_end(kind: Any) -> None:
    async with Cluster(members.count_when_told, workers=1, kind=kind, grace=0) as cluster:
        await cluster.ready()
        (worker,) = cluster.workers.values()
        await worker.send(50)
        await eventually(lambda: worker.id not in cluster.workers)
        assert [number async for number in worker] == list(range(50))
        with pytest.raises(PortClosed):
            await worker.receive(LONG)

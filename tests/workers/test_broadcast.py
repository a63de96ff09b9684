"""`Broadcast`: everybody of the name but the sender hears it, once, and nobody is held up."""

from __future__ import annotations

import os
import time
from typing import Any

import anyio
import pytest
import targets_family
from contract_help import LONG, KindParams, eventually

from loopworkers import (
    AtomicInt64,
    Broadcast,
    NotTransferable,
    PortClosed,
    SharedBuffer,
    Worker,
    channel,
)

pytestmark = pytest.mark.anyio
TARGETS = [
    targets_family.chat,
    targets_family.chat_async,
    targets_family.chat_through_a_nested_worker,
]


@pytest.mark.parametrize("target", TARGETS)
async def test_all_others_of_the_name_hear_it_and_the_sender_never(kind: Any, target: Any) -> None:
    async with (
        Broadcast("family") as here,
        Worker(target, "family", 3, kind=kind) as first,
        Worker(target, "family", 3, kind=kind) as second,
        Broadcast("family") as there,
    ):
        with anyio.fail_after(LONG):
            for worker in (first, second):
                assert await worker.receive() == "joined"
            if target is targets_family.chat_through_a_nested_worker:
                # Their joining comes by way of the outer workers' hubs.
                await eventually(lambda: len(_members("family")) == 4)
            await here.send("here")
            await there.send("there")
            await first.send("first")
            await second.send("second")
            assert await first.receive() == ["here", "second", "there"]
            assert await second.receive() == ["first", "here", "there"]
            assert sorted([await here.receive() for _ in range(3)]) == ["first", "second", "there"]
            assert sorted([await there.receive() for _ in range(3)]) == ["first", "here", "second"]
            for member in (here, there):
                with pytest.raises(BlockingIOError):
                    member.receive_nowait()


async def test_names_are_apart_and_members_that_closed_hear_nothing() -> None:
    async with Broadcast("a") as one, Broadcast("a") as two, Broadcast("b") as other:
        gone = Broadcast("a")
        gone.close()
        await one.send(1)
        assert await two.receive() == 1
        with pytest.raises(BlockingIOError):
            other.receive_nowait()
        with pytest.raises(PortClosed):
            await gone.receive()


async def test_a_member_that_does_not_read_misses_messages_and_holds_up_nobody() -> None:
    count = 3_000
    async with Broadcast("n") as sender, Broadcast("n") as deaf, Broadcast("n") as reader:
        with anyio.fail_after(LONG):
            for number in range(count):
                await sender.send((number, bytes(1000)))
                assert (await reader.receive())[0] == number
            assert reader.missed == 0
            heard = 0
            while True:
                try:
                    with anyio.fail_after(0.2):
                        number, _ = await deaf.receive()
                except TimeoutError:
                    break
                assert number == heard  # the beginning, without a gap
                heard += 1
            assert 0 < heard < count
            await sender.send("again")
            assert await deaf.receive() == "again"
            assert deaf.missed == count - heard


@pytest.mark.parametrize("kind", KindParams("process", "isolate"))
async def test_a_member_that_dies_is_forgotten(kind: Any) -> None:
    async with Broadcast("n") as here:
        async with Worker(targets_family.chat, "n", 1, kind=kind) as worker:
            await worker.receive()
            await worker.terminate()
        async with Broadcast("n") as there:
            await eventually(lambda: len(_members("n")) == 2)
            await here.send("you!")
            assert await there.receive() == "you!"


def _members(name: str) -> Any:
    from loopworkers._hub import hub_here

    return hub_here()._members[name]


async def test_shared_memory_goes_to_all_and_what_moves_is_refused() -> None:
    first, second = channel()
    async with Broadcast("n") as one, Broadcast("n") as two, Broadcast("n") as three:
        with pytest.raises(NotTransferable, match="to many"):
            await one.send([first])
        assert not first.closed
        with SharedBuffer(8) as buffer:
            await one.send(buffer)
            for member in (two, three):
                with await member.receive() as same:
                    AtomicInt64(same).add(1)
            assert AtomicInt64(buffer).load() == 2
    first.close()
    second.close()


async def test_what_a_worker_said_last_is_heard() -> None:
    async with Broadcast("n") as here, Worker(targets_family.say_and_leave, "n") as worker:
        await worker.ready()
        await worker.send("now")
        # The loop finds the end and the last word at the same time.
        _until_it_ended(getattr(worker._host, "pid", 0))
        assert await worker.wait() == 0
        with anyio.fail_after(LONG):
            assert await here.receive() == "the last word"


def _until_it_ended(pid: int) -> None:
    while os.path.exists(f"/proc/{pid}"):
        time.sleep(0.001)


async def test_a_member_that_is_sent_elsewhere_stays_one(kind: Any) -> None:
    async with Broadcast("n") as here, Worker(targets_family.use_member, kind=kind) as worker:
        moving = Broadcast("n")
        await worker.send(moving)
        assert moving.closed
        await here.send("to where it is")
        with anyio.fail_after(LONG):
            assert await worker.receive() == ("n", "to where it is")
            assert await here.receive() == "from where it is now"
            await worker.send("end")


async def test_names_that_nested_workers_have_left_cost_nothing(kind: Any) -> None:
    async with Worker(targets_family.nest_one_that_joins_many, 100, kind=kind) as worker:
        await worker.receive()
        await eventually(lambda: not any(n.startswith("name ") for n in _names()))
        pid = getattr(worker._host, "pid", os.getpid())
        await eventually(lambda: len(os.listdir(f"/proc/{pid}/fd")) < 100)
        await worker.send("end")


def _names() -> Any:
    from loopworkers._hub import hub_here

    return hub_here()._members


async def test_large_messages_reach_who_reads(kind: Any) -> None:
    async with Broadcast("n") as here, Worker(targets_family.count_heard, "n", kind=kind) as worker:
        await worker.receive()
        for _ in range(10):
            await here.send(bytes(1_000_000))
        await here.send("end")
        with anyio.fail_after(LONG):
            assert await worker.receive() == (10, 0)


def test_where_no_loop_runs_there_is_none() -> None:
    with pytest.raises(RuntimeError, match="no event loop"):
        Broadcast("n")


async def test_a_member_that_closed_in_its_worker_hears_nothing(kind: Any) -> None:
    async with (
        Broadcast("n") as here,
        Broadcast("n") as there,
        Worker(targets_family.join_and_close, "n", kind=kind) as worker,
    ):
        assert await worker.receive() == "hears nothing"
        for number in range(300):  # far more than a member that does not read could take
            await here.send((number, bytes(1000)))
            assert (await there.receive())[0] == number
        await worker.send("end")
        assert await worker.wait() == 0

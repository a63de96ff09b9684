"""Workers that broadcast, ask and answer in these tests."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import targets

from loopworkers import (
    Broadcast,
    PortClosed,
    RequestError,
    RequestTimeout,
    SharedEvent,
    Worker,
    on_request,
    request,
)


def chat(port: Any, name: str, others: int) -> None:
    """Say hello to all others when told to, and tell what they have said."""
    with Broadcast(name) as member:
        port.send("joined")
        me = port.receive()
        member.send(me)
        port.send(sorted(member.receive() for _ in range(others)))


async def chat_async(port: Any, name: str, others: int) -> None:
    async with Broadcast(name) as member:
        await port.send("joined")
        await member.send(await port.receive())
        await port.send(sorted([await member.receive() for _ in range(others)]))


async def chat_through_a_nested_worker(port: Any, name: str, others: int) -> None:
    async with Worker(chat, name, others, kind="process") as inner:
        await port.send(await inner.receive())
        await inner.send(await port.receive())
        await port.send(await inner.receive())


def double(value: Any, source: int) -> Any:
    if value == "fail":
        raise LookupError("the handler failed")
    if isinstance(value, SharedEvent):
        return value.wait(), source
    if value == "die":
        os.abort()
    if value == "exit":
        sys.exit(3)
    return value * 2, source


def answer(port: Any) -> None:
    on_request(double)
    port.send("ready")
    for _ in port:
        pass


async def answer_async(port: Any) -> None:
    @on_request
    async def triple(value: Any, source: int) -> Any:
        await asyncio.sleep(0)
        return value * 3, source

    await port.send("ready")
    async for _ in port:
        pass


async def answer_below(port: Any) -> None:
    """Only the nested one answers."""
    async with Worker(answer, kind="process") as inner:
        await inner.receive()
        await port.send(inner.id)
        async for _ in port:
            pass


def ask(port: Any) -> None:
    for worker_id, value, *timeout in port:
        try:
            port.send(request(worker_id, value, timeout=timeout[0] if timeout else 20))
        except RequestError as error:
            port.send(type(error).__name__)


async def ask_async(port: Any) -> None:
    async for worker_id, value, timeout in port:
        try:
            await port.send(await request(worker_id, value, timeout=timeout))
        except RequestError as error:
            await port.send(type(error).__name__)


def join_and_close(port: Any, name: str) -> None:
    member = Broadcast(name)
    member.close()
    try:
        member.receive()
    except PortClosed:
        port.send("hears nothing")
    port.receive()


def say_and_leave(port: Any, name: str) -> None:
    port.receive()
    Broadcast(name).send("the last word")
    sys.exit(0)


def use_member(port: Any) -> None:
    with port.receive() as member:
        port.send((member.name, member.receive()))
        member.send("from where it is now")
        port.receive()


def join_many(port: Any, names: int) -> None:
    for number in range(names):
        Broadcast(f"name {number}").close()
    port.send("done")
    port.receive()


async def nest_one_that_joins_many(port: Any, names: int) -> None:
    async with Worker(join_many, names, kind="thread") as inner:
        await inner.receive()
        await port.send("done")
        await port.receive()
        await inner.send("end")


def count_heard(port: Any, name: str) -> None:
    with Broadcast(name) as member:
        port.send("joined")
        heard = 0
        while member.receive() != "end":
            heard += 1
        port.send((heard, member.missed))


def answer_anew(port: Any) -> None:
    on_request(lambda value, source: "old")
    on_request(lambda value, source: "new")
    port.send("ready")
    for _ in port:
        pass


def answer_late(port: Any, event: SharedEvent) -> None:
    """Begin to answer the requests that have come when it is told to."""

    @on_request
    def wait(value: Any, source: int) -> Any:
        event.wait()
        return value

    port.send("ready")
    for _ in port:
        pass


def ask_in_vain(port: Any, event: SharedEvent) -> None:
    """Ask the program more often than there is room for requests."""
    for _ in range(700):
        try:
            request(0, "late", timeout=0)
        except RequestTimeout:
            pass
    event.set()
    port.receive()
    port.send(request(0, "in time"))


def ask_after_a_loop(port: Any) -> None:
    async def main() -> None:
        async with Worker(targets.echo, kind="thread"):
            pass

    asyncio.run(main())
    port.send(request(0, "asked", timeout=20))
    with Broadcast("after a loop") as member:
        member.send("said")


async def ask_much(port: Any, worker_id: int, count: int) -> None:
    asked = [request(worker_id, number, timeout=60) for number in range(count)]
    await port.send("asked")
    await port.send(await asyncio.gather(*asked))

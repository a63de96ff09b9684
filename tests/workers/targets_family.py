"""Workers that broadcast, ask and answer in these tests."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from loopworkers import (
    Broadcast,
    PortClosed,
    RequestError,
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
    for worker_id, value, timeout in port:
        try:
            port.send(request(worker_id, value, timeout=timeout))
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

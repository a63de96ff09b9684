"""Workers that end in some way, and such that resist their end."""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import sys
from typing import Any

from loopworkers import (
    AtomicInt64,
    SharedBuffer,
    SharedEvent,
    SharedLock,
    Worker,
)


def spin(port: Any) -> None:
    port.send(os.getpid())
    while True:
        pass


def swallow(port: Any) -> None:
    port.send(os.getpid())
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass


def block_in_receive(port: Any) -> None:
    port.send(os.getpid())
    port.receive()


def block_in_send(port: Any) -> None:
    port.send(os.getpid())
    data = bytes(50_000)
    while True:
        port.send(data)


def block_on_lock(port: Any, lock: SharedLock) -> None:
    port.send(os.getpid())
    lock.acquire()


def block_on_event(port: Any, event: SharedEvent) -> None:
    port.send(os.getpid())
    event.wait()


def block_on_atomic(port: Any, buffer: SharedBuffer) -> None:
    port.send(os.getpid())
    AtomicInt64(buffer).wait(0)


async def idle_on_a_loop(port: Any) -> None:
    await port.send(os.getpid())
    await asyncio.sleep(3600)


async def swallow_on_a_loop(port: Any, pause: float = 3600) -> None:
    await port.send(os.getpid())
    while True:
        try:
            await asyncio.sleep(pause)
        except BaseException:
            pass


async def swallow_in_a_callback(port: Any) -> None:
    """Busy in a callback: its loop swallows what the first stage of a stop raises there."""

    def work() -> None:
        while True:
            pass

    await port.send(os.getpid())
    asyncio.get_running_loop().call_soon(work)
    await asyncio.sleep(3600)


def tidy_up_when_told(port: Any) -> None:
    """At its end tell so, and go on when an answer comes."""
    sock = port.receive()

    def tidy_up() -> None:
        sock.send(b"!")
        sock.recv(1)

    atexit.register(tidy_up)
    spin(port)


def ignore_sigterm(port: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    spin(port)


async def start_another(port: Any, kind: Any) -> None:
    """A worker with a worker of its own."""
    async with Worker(spin, kind=kind) as inner:
        await port.send(await inner.receive())
        await port.send(inner.id)
        await inner.wait()


async def start_another_and_swallow(port: Any, kind: Any) -> None:
    async with Worker(spin, kind=kind) as inner:
        await port.send(await inner.receive())
        while True:
            try:
                while True:
                    pass
            except BaseException:
                pass


class Exits:
    """Ends the worker that it comes to."""

    def __reduce__(self) -> Any:
        return os._exit, (7,)


def leave(port: Any, code: Any) -> None:
    port.send("leaving")
    sys.exit(code)


def fail(port: Any) -> None:
    port.send("failing")
    raise LookupError("it was not there")


def fail_at_once(port: Any) -> None:
    raise LookupError("it was not there")


class Unpicklable(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("not to be pickled")


def fail_oddly(port: Any) -> None:
    raise Unpicklable("odd")


async def leave_async(port: Any, code: Any) -> None:
    await port.send("leaving")
    sys.exit(code)


async def fail_async(port: Any) -> None:
    await port.send("failing")
    raise LookupError("it was not there")


def say_and_end(port: Any, messages: list[Any], how: str) -> None:
    for message in messages:
        port.send(message)
    if how == "exit":
        sys.exit(3)
    if how == "failure":
        raise LookupError("after the last message")
    if how == "os._exit":
        os._exit(4)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)


async def spin_on_a_loop(port: Any) -> None:
    await swallow_on_a_loop(port, 0)


async def start_a_chain(port: Any, kinds: list[Any]) -> None:
    """Workers in each other; tell the ids of their processes, the innermost's first."""
    if kinds:
        async with Worker(start_a_chain, kinds[1:], kind=kinds[0]) as inner:
            await port.send([*await inner.receive(), os.getpid()])
            await inner.wait()
    await port.send([os.getpid()])
    while True:
        pass

"""What workers run in these tests: importable, so that they load it as they do a program's."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from typing import Any

from loopworkers import (
    AtomicInt64,
    NotTransferable,
    PortClosed,
    SharedBuffer,
    SharedEvent,
    channel,
    current_worker,
)


class Point:
    """An instance that keeps its class."""

    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and (self.x, self.y) == (other.x, other.y)

    __hash__ = None  # type: ignore[assignment]


class Unloadable:
    """It pickles, and raises where it is unpickled."""

    def __reduce__(self) -> Any:
        return int, ("not a number",)


def echo(port: Any) -> None:
    for message in port:
        port.send(message)


async def echo_async(port: Any) -> None:
    async for message in port:
        await port.send(message)


def echo_types(port: Any) -> None:
    for message in port:
        port.send((type(message).__name__, message))


def say(port: Any, *messages: Any) -> None:
    for message in messages:
        port.send(message)


def say_unloadable(port: Any) -> None:
    say(port, Unloadable(), 2)


def introduce_itself(port: Any) -> None:
    me = current_worker()
    assert me is not None
    assert me.port is port
    port.send((me.id, me.name, me.kind, os.getpid()))


def count_up(port: Any, buffer: SharedBuffer) -> None:
    """Send numbers and note how far it is; nobody has to read them."""
    number = AtomicInt64(buffer)
    while True:
        port.send(number.add(1))


def receive_late(port: Any, event: SharedEvent) -> None:
    """Receive nothing until it is told to."""
    event.wait()
    received = []
    while not received or received[-1] != "last":
        received.append(port.receive())
    port.send(received)


def use_other(port: Any) -> None:
    """Receive a port, and talk through it instead."""
    other = port.receive()
    for message in other:
        other.send(("through the other", message))


def ask_other(port: Any) -> None:
    with port.receive() as other:
        other.send("a question")
        port.send(other.receive())


def receive_nothing(port: Any) -> None:
    try:
        port.receive_nowait()
    except BlockingIOError:
        port.send("nothing yet")
    try:
        port.receive(timeout=0.001)
    except TimeoutError:
        port.send("nothing in time")
    port.send(port.receive())


def give_a_port(port: Any) -> None:
    ours, theirs = channel()
    port.send(theirs)
    echo(ours)


def send_after_close(port: Any) -> None:
    for _ in port:
        pass
    try:
        while True:
            port.send(1)
    except PortClosed:
        raise LookupError("told of the close") from None


def close_while_receiving(port: Any) -> None:
    """Close the port in the middle of its messages; what was received before stays good."""
    received = []
    for message in port:
        received.append(message)
        if len(received) == 3:
            other = received[0]
            port.close()
    other.send(received[1:])


def show_environment(port: Any, *names: str) -> None:
    port.send({name: os.environ.get(name) for name in names})
    os.environ["LOOPWORKERS_TEST_SET_THERE"] = "yes"
    port.send(sys.argv[1:])


def print_and_leave(port: Any, lines: int) -> None:
    for number in range(lines):
        print("line", number)
        print("error", number, file=sys.stderr)
    sys.stdout.write("no end of line")
    sys.exit(3)


def show_name(port: Any) -> None:
    me = current_worker()
    assert me is not None
    path = "/proc/self/comm" if me.kind == "process" else "/proc/thread-self/comm"
    with open(path) as comm:
        port.send(comm.read().strip())


def allocate(port: Any, size: int) -> None:
    port.send("allocating")
    bytearray(size)


def show_limits(port: Any) -> None:
    import resource

    port.send([resource.getrlimit(n)[0] for n in (resource.RLIMIT_CPU, resource.RLIMIT_NOFILE)])


def burn(port: Any) -> None:
    """Work when told to, and wait in between."""
    for seconds in port:
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass
        port.send("burned")


async def burn_async(port: Any) -> None:
    async for seconds in port:
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass
        await port.send("burned")


def use_socket(port: Any) -> None:
    sock = port.receive()
    with sock:
        sock.sendall(b"from the worker")


def start_thread(port: Any) -> None:
    """Helper threads use the port as well."""

    def tell(number: int) -> None:
        port.send(number)

    threads = [threading.Thread(target=tell, args=(n,), daemon=False) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def feed_itself(port: Any) -> None:
    """Tell that another task gets its turns beside an endless chain of messages."""
    first, second = channel()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    task = asyncio.create_task(tick())
    with first, second:
        await first.send(0)
        while ticks < 20:
            await first.send(await second.receive())
    task.cancel()
    await port.send("both had their turns")


def echo_on_trio(port: Any) -> None:
    import trio

    trio.run(echo_async, port)


def count_to(port: Any, buffer: SharedBuffer) -> None:
    """Count the messages; that they come in order is seen by the sum."""
    number = AtomicInt64(buffer)
    for message in port:
        number.compare_exchange(message, message + 1)


async def count_to_async(port: Any, buffer: SharedBuffer) -> None:
    number = AtomicInt64(buffer)
    async for message in port:
        number.compare_exchange(message, message + 1)


def close_early(port: Any, event: SharedEvent) -> None:
    """Close the port, twice, and go on."""
    port.send("before")
    port.close()
    port.close()
    try:
        port.send("after")
    except PortClosed:
        event.wait()


async def close_early_async(port: Any, event: SharedEvent) -> None:
    await port.send("before")
    port.close()
    port.close()
    try:
        await port.send("after")
    except PortClosed:
        await event.wait()


def send_itself(port: Any) -> None:
    ours, theirs = channel()
    for value in (port, [theirs, port]):
        try:
            port.send(value)
        except NotTransferable as error:
            port.send(type(error).__name__)
    ours.send("alive")
    port.send(theirs.receive())
    ours.close()
    theirs.close()


def say_at_the_end(port: Any) -> None:
    """End some time after the port, and print that."""
    for _ in port:
        pass
    sum(range(300_000))
    print("ended", flush=True)

"""What workers run in these tests: importable, so that they load it as they do a program's."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

from loopworkers import (
    AtomicInt64,
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

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
    Broadcast,
    PortClosed,
    RequestError,
    SharedBuffer,
    SharedEvent,
    SharedLock,
    Worker,
    channel,
    current_worker,
    on_request,
    request,
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


# --- plain functions ---------------------------------------------------------------------------


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


# --- what resists its end ----------------------------------------------------------------------


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


def ignore_sigterm(port: Any) -> None:
    import signal

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


# --- what is its own ---------------------------------------------------------------------------


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


# --- broadcasts --------------------------------------------------------------------------------


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


# --- requests ----------------------------------------------------------------------------------


def double(value: Any, source: int) -> Any:
    if value == "fail":
        raise LookupError("the handler failed")
    if value == "never":
        time.sleep(3600)
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


def ask_after_a_loop(port: Any) -> None:
    async def main() -> None:
        async with Worker(echo, kind="thread"):
            pass

    asyncio.run(main())
    port.send(request(0, "asked", timeout=20))
    with Broadcast("after a loop") as member:
        member.send("said")


async def ask_much(port: Any, worker_id: int, count: int) -> None:
    asked = [request(worker_id, number, timeout=60) for number in range(count)]
    await port.send("asked")
    await port.send(await asyncio.gather(*asked))


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
    async for worker_id, value in port:
        try:
            await port.send(await request(worker_id, value, timeout=20))
        except RequestError as error:
            await port.send(type(error).__name__)


# --- shared memory -----------------------------------------------------------------------------


def fill_stripe(port: Any, buffer: SharedBuffer, index: int, stripes: int) -> None:
    size = len(buffer) // stripes
    buffer.view[index * size : (index + 1) * size] = bytes([index + 1]) * size


def increment(port: Any, buffer: SharedBuffer, times: int) -> None:
    number = AtomicInt64(buffer)
    for _ in range(times):
        number.add(1)


def increment_by_exchange(port: Any, buffer: SharedBuffer, times: int) -> None:
    number = AtomicInt64(buffer)
    for _ in range(times):
        while not number.compare_exchange(old := number.load(), old + 1):
            pass


def increment_for_ever(port: Any, buffer: SharedBuffer) -> None:
    number = AtomicInt64(buffer)
    port.send("on")
    while True:
        number.add(1)


def increment_under_lock(port: Any, buffer: SharedBuffer, lock: SharedLock, times: int) -> None:
    cells = buffer.view.cast("q")
    for _ in range(times):
        with lock:
            cells[0] += 1


def hold_for_ever(port: Any, lock: SharedLock) -> None:
    with lock:
        port.send("held")
        while True:
            pass


def look_at_lock(port: Any, lock: SharedLock) -> None:
    port.send("on")
    while True:
        lock.acquire(0)
        lock.locked()


def take_and_give_back(port: Any, lock: SharedLock) -> None:
    port.send("on")
    while True:
        with lock:
            pass


def die_holding(port: Any, lock: SharedLock) -> None:
    lock.acquire()
    port.send("held")
    port.receive()
    os.abort()


def wait_and_tell(port: Any, buffer: SharedBuffer, value: int) -> None:
    port.send("waiting")
    port.send(AtomicInt64(buffer).wait(value))


def wait_for_event(port: Any, event: SharedEvent) -> None:
    port.send("waiting")
    port.send(event.wait())


def hand_over(port: Any) -> None:
    buffer = port.receive()
    buffer.view[0] = 77
    port.send(buffer)


def start_thread(port: Any) -> None:
    """Helper threads use the port as well."""

    def tell(number: int) -> None:
        port.send(number)

    threads = [threading.Thread(target=tell, args=(n,), daemon=False) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

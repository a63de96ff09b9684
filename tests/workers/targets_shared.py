"""What workers do with shared memory in these tests."""

from __future__ import annotations

import os
from typing import Any

from loopworkers import AtomicInt64, SharedBuffer, SharedEvent, SharedLock


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


def wait_too_long(port: Any, buffer: SharedBuffer) -> None:
    port.send(AtomicInt64(buffer).wait(0, timeout=0.01))


async def wait_too_long_async(port: Any, buffer: SharedBuffer) -> None:
    await port.send(await AtomicInt64(buffer).wait(0, timeout=0.01))


def try_lock(port: Any, lock: SharedLock) -> None:
    """Take it if it is free; give up waiting for it; wait for it."""
    port.send(lock.acquire(timeout=0))
    port.send(lock.acquire(timeout=0.01))
    lock.acquire()
    port.send("at last")
    lock.release()


async def try_lock_async(port: Any, lock: SharedLock) -> None:
    await port.send(await lock.acquire(timeout=0))
    await port.send(await lock.acquire(timeout=0.01))
    async with lock:
        await port.send("at last")


def fail_holding(port: Any, lock: SharedLock) -> None:
    lock.acquire()
    raise LookupError("with the lock in its hands")


def die_once(port: Any, buffer: SharedBuffer) -> None:
    if AtomicInt64(buffer).add() == 0:
        port.send("first")
        os._exit(3)
    port.send("second")

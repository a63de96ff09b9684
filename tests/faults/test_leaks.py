"""What is opened, used and closed again and again takes no more in the end than at first."""

from __future__ import annotations

import itertools
import os
import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from loopworkers import WorkerPool

from .helpers import BACKENDS, KINDS, descriptors, nothing_left, resident

if TYPE_CHECKING:
    from collections.abc import Callable

# Allocators keep what was freed: a megabyte or two either way is noise.
NOISE = 6 << 20


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_pools_in_a_row(backend: str, kind: Any) -> None:
    number = {"process": 150, "isolate": 100, "thread": 300}[kind]

    async def one(index: int) -> None:
        async with WorkerPool(kind, max_workers=2) as pool:
            assert await pool.run(abs, -index) == index
            assert await pool.run(len, bytes(100_000)) == 100_000

    async def main() -> None:
        for index in range(40):
            await one(index)
        before = resident(), len(descriptors()), threading.active_count()
        for index in range(number):
            await one(index)
        assert len(descriptors()) <= before[1]
        assert threading.active_count() <= before[2]
        assert resident() - before[0] < NOISE

    with nothing_left():
        anyio.run(main, backend=backend)


def make_adder(number: int) -> Callable[[], int]:
    return lambda: number + 1


def worker_memory() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_lambdas_made_in_a_loop() -> None:
    memory = eval("lambda: " + "int(open('/proc/self/statm').read().split()[1]) * 4096")

    async def main() -> None:
        async with WorkerPool(max_workers=1) as pool:

            async def run(count: int) -> None:
                window: list[Any] = []
                for number in range(count):
                    window.append((number, pool.run(make_adder(number))))
                    if len(window) == 100:
                        for expected, call in window:
                            assert await call == expected + 1
                        window.clear()

            await run(5_000)
            before = resident(), await pool.run(memory)
            await run(40_000)
            # 100 bytes kept of each would be 4 MB; code and closure take several times that.
            assert resident() - before[0] < NOISE
            assert await pool.run(memory) - before[1] < NOISE

    anyio.run(main)


@pytest.mark.parametrize("backend", BACKENDS)
def test_endless_map(backend: str) -> None:
    async def main() -> None:
        taken = 0

        def source() -> Any:
            nonlocal taken
            for _taken in itertools.count():
                yield bytes(10_000)

        before = 0
        async with WorkerPool(max_workers=2) as pool, pool.map(len, source()) as results:
            number = 0
            async for length in results:
                assert length == 10_000
                number += 1
                if number == 2_000:
                    before = resident()
                if number == 20_000:
                    break
        assert taken - number < 200
        assert resident() - before < NOISE

    with nothing_left():
        anyio.run(main, backend=backend)

"""Many workers one after the other."""

from __future__ import annotations

import gc
import threading
from typing import Any

import anyio
import light
import psutil
import pytest

from loopworkers import Worker

# Allocators keep what was freed: a few megabytes either way are noise.
NOISE = 8 << 20


async def one(kind: Any) -> None:
    async with Worker(light.echo, kind=kind) as worker:
        await worker.send(1)
        assert await worker.receive() == 1
        if kind != "thread":
            await worker.terminate()


@pytest.mark.timeout(400)  # it is a lot, and other tests run beside it
def test_500_workers_in_a_row_leave_memory_descriptors_and_threads_as_they_were(kind: Any) -> None:
    async def main() -> None:
        for _ in range(30):
            await one(kind)
        gc.collect()
        process = psutil.Process()
        before = process.memory_info().rss, process.num_fds(), threading.active_count()
        async with Worker(light.echo, kind=kind):  # while one is there they start in no time
            for _ in range(500):
                await one(kind)
        gc.collect()
        assert process.num_fds() <= before[1]
        assert threading.active_count() <= before[2]
        assert process.memory_info().rss - before[0] < NOISE

    anyio.run(main)

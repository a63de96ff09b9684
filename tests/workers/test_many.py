"""Many workers one after the other, and the end of programs that still have some."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import anyio
import light
import psutil
import pytest
from contract_help import no_isolates

import loopworkers
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


PROGRAM = """
import sys, asyncio, targets_ends
from loopworkers import Worker

async def main():
    workers = [Worker(targets_ends.swallow, kind="isolate") for _ in range(3)]
    for worker in workers:
        await worker.__aenter__()
        await worker.receive()
    print("busy", flush=True)
    sys.exit(7)

asyncio.run(main())
"""


@no_isolates
def test_a_program_that_exits_with_busy_isolates_has_its_own_exit_code() -> None:
    root = str(Path(loopworkers.__file__).parents[1])
    path = os.pathsep.join((root, str(Path(__file__).parent)))
    for _ in range(10):
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (ended.returncode, ended.stdout) == (7, "busy\n"), ended.stderr
        assert ended.stderr == ""

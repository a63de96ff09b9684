"""A worker that dies fails only its own call; retries= runs that call again elsewhere."""

import asyncio
import os
import signal
import tempfile
from pathlib import Path

from loopworkers import WorkerDied, WorkerPool


def die():
    os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out


def die_the_first_time(marker):
    if not marker.exists():
        marker.touch()
        die()
    return "the second attempt succeeded"


async def main():
    async with WorkerPool(max_workers=2) as pool:
        neighbour = pool.run(sum, range(1_000_000))
        try:
            await pool.run(die)
        except WorkerDied as error:
            print("WorkerDied:", error)
        print("its neighbour has", await neighbour)

        # Only for calls that may run twice. What the function raises is never a reason to retry.
        with tempfile.TemporaryDirectory() as folder:
            marker = Path(folder, "marker")
            print(await pool.options(retries=1).run(die_the_first_time, marker))

        stats = pool.stats()
        print(f"workers died: {stats.died}, calls run again: {stats.retried}")


asyncio.run(main())

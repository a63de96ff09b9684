"""The same work on each kind of worker that this Python has."""

import asyncio
import os
import time

from loopworkers import IsolateUnsupported, WorkerPool


def work(n):
    total = 0
    for i in range(n):
        total += i * i % 7
    return os.getpid(), total


async def measure(kind):
    started = time.perf_counter()
    async with WorkerPool(kind) as pool:
        pid, _ = await pool.run(work, 1)
        first = time.perf_counter() - started
        started = time.perf_counter()
        async for _ in pool.map(work, [500_000] * 8):
            pass
        rest = time.perf_counter() - started
    where = "in this process" if pid == os.getpid() else "in another process"
    print(f"{kind:<8} {where:<19} first result {first:.3f} s, then 8 calls in {rest:.3f} s")


async def main():
    for kind in ("process", "isolate", "thread"):
        try:
            await measure(kind)
        except IsolateUnsupported as error:
            print(f"{kind:<8} not here: {error}")


asyncio.run(main())

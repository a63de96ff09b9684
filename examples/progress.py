"""Progress: of one call, told by its function; of a map, as a bar on a terminal."""

import asyncio
import time

from loopworkers import WorkerPool, report_progress


def long_job(steps):
    for step in range(steps):
        time.sleep(0.05)
        report_progress(step + 1, steps, f"step {step + 1}")
    return "done"


def short_job(number):
    time.sleep(0.02)
    return number


async def main():
    async with WorkerPool(max_workers=2) as pool:
        future = pool.run(long_job, 10)
        future.add_progress_callback(lambda p: print(f"{p.done} of {p.total}: {p.message}"))
        print("the call is", await future)

        # The bar goes to stderr, and only if that is a terminal.
        numbers = [n async for n in pool.map(short_job, range(100), progress=True)]
        print("sum", sum(numbers))


asyncio.run(main())

"""Cancelling a call stops it, and so does its timeout; both calls here would run for ever."""

import asyncio
import time

from loopworkers import CallTimeout, WorkerPool


def spin():
    while True:
        pass


async def main():
    async with WorkerPool(max_workers=1) as pool:
        # Any kind of cancellation does: wait_for, asyncio.timeout, a task group, trio's scopes.
        started = time.perf_counter()
        try:
            async with asyncio.timeout(0.5):
                await pool.run(spin)
        except TimeoutError:
            print(f"cancelled after {time.perf_counter() - started:.1f} s")

        # The library's own limit counts from the call and raises CallTimeout.
        try:
            await pool.options(timeout=0.5).run(spin)
        except CallTimeout as error:
            print(f"CallTimeout: {error}")

        # The pool's one worker was stopped twice, and another took its place.
        print("the next call gives", await pool.run(pow, 2, 10))
        print("workers stopped:", pool.stats().killed)


asyncio.run(main())

"""Workers see the caller's context variables; their logs, warnings and prints arrive here."""

import asyncio
import logging
import sys
import warnings
from contextvars import ContextVar

from loopworkers import WorkerPool

user = ContextVar("user", default="nobody")
log = logging.getLogger("shop")


def handle(order):
    print("a worker prints", order)
    log.info("order %s of %s", order, user.get())
    if order > 1:
        warnings.warn(f"order {order} is large", stacklevel=1)
    return user.get()


async def request(pool, name, order):
    user.set(name)  # for this task, and for what it calls, in workers too
    assert await pool.run(handle, order) == name


async def main():
    async with WorkerPool(max_workers=2) as pool, asyncio.TaskGroup() as tasks:
        tasks.create_task(request(pool, "ann", 1))
        tasks.create_task(request(pool, "bob", 2))


logging.basicConfig(stream=sys.stdout, level="INFO", format="%(levelname)s %(name)s: %(message)s")
logging.captureWarnings(True)
asyncio.run(main())

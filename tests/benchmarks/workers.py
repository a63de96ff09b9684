"""The measured code of a `Worker`'s life: its start, and what it costs while it idles."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from . import work
from .memory import proportional
from .rounds import spread

if TYPE_CHECKING:
    from .player import Stage

Params = dict[str, Any]
Figures = dict[str, Any]
clock = time.perf_counter


async def worker_start(stage: Stage, params: Params) -> Figures:
    """From making a worker to its first message; its end is not part of that.

    `rest_ms`: how long to do nothing before each.
    """
    from .ours import worker

    samples = []
    for _ in range(params["warm_up"] + params["starts"]):
        if params["rest_ms"]:
            await stage.backend.sleep(params["rest_ms"] / 1000)
        start = clock()
        async with worker(params["kind"], work.hello) as other:
            await other.receive()
            samples.append(clock() - start)
    return spread(samples[params["warm_up"] :])


async def worker_memory(stage: Stage, params: Params) -> Figures:
    """What each further worker adds, once it has answered a message and waits for the next.

    The one that is there before is not counted: what the first brings along (the process that
    others are forked from) all of them share.
    """
    from .ours import worker

    async with AsyncExitStack() as stack:

        async def idle(count: int) -> int:
            for _ in range(count):
                echo = await stack.enter_async_context(worker(params["kind"], work.echo))
                await echo.send("hello")
                await echo.receive()
            await stage.backend.sleep(0.2)
            return proportional()

        before = await idle(1)
        grown = await idle(params["workers"]) - before
    return {"each": grown / params["workers"]}


ROUNDS = {"worker_start": worker_start, "worker_memory": worker_memory}

"""A worker is killed: how long until its replacement has answered."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Any

from . import work

if TYPE_CHECKING:
    from .peers import Side
    from .player import Stage

clock = time.perf_counter


async def _team(stage: Stage, side: Side, workers: int) -> set[int]:
    """The process ids of all workers."""
    seen: set[int] = set()
    give_up = clock() + 10

    async def look() -> None:
        seen.add(await side.call(work.pid_after, 0.02))

    while len(seen) < workers:
        if clock() > give_up:
            raise TimeoutError(f"only {len(seen)} of {workers} workers ever answered")
        async with stage.backend.group() as start:
            for _ in range(workers):
                start(look)
    return seen


async def killed(stage: Stage, params: dict[str, Any]) -> dict[str, Any]:
    """SIGKILL one worker, idle or in a call; one caller per worker then keeps calling.

    A call that fails is made again. A pool that says it is broken for good is replaced by a new
    one, and that time counts: it is what its user would have to do.
    """
    workers, busy, patience = params["workers"], params["busy"], params["patience"]
    async with stage.fresh(workers) as side:
        team = await _team(stage, side, workers)
        victim = min(team)
        replaced_at = 0.0
        begin = give_up = 0.0
        generation = 0

        async def doomed() -> None:
            with contextlib.suppress(Exception):
                await side.call(work.pause, 5.0)

        async def caller() -> None:
            nonlocal replaced_at, generation
            while not replaced_at:
                called_in = generation
                if clock() > give_up:
                    raise TimeoutError(f"no new worker has answered within {patience:g} s")
                try:
                    # With a second worker the calls must last, or the survivor does them all.
                    pid = await side.call(work.pid_after, 0.001 if workers > 1 else 0.0)
                except Exception as error:
                    if side.reopen is not None and "Broken" in _names(error):
                        if called_in == generation:  # else another caller has done it
                            generation += 1
                            side.reopen()
                    else:
                        await stage.backend.sleep(0)
                    continue
                if pid not in team:
                    replaced_at = replaced_at or clock()

        async with stage.backend.group() as start:
            if busy:
                start(doomed)
                await stage.backend.sleep(0.05)
            begin = clock()
            give_up = begin + patience
            os.kill(victim, signal.SIGKILL)
            for _ in range(workers):
                start(caller)
    return {"took": replaced_at - begin}


def _names(error: BaseException) -> str:
    return " ".join(kind.__name__ for kind in type(error).__mro__)


ROUNDS = {"killed": killed}

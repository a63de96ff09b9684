"""Cancelled calls, until no worker runs their bodies."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ._worker import still_has

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ._tasks import Task

# Between two looks, in seconds.
_FIRST, _LAST = 0.02, 0.5


class Stopping:
    """Dask tells nobody when the body of a cancelled task has ended: so those who know are asked.

    All on the client's loop.
    """

    def __init__(
        self,
        client: Any,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        gone: Callable[[Task], None],
    ) -> None:
        self._client = client
        self._spawn = spawn
        self._gone = gone
        self._tasks: dict[str, Task] = {}
        self._cancelled: set[str] = set()

    def __contains__(self, task: Task) -> bool:
        return task.key in self._tasks

    def add(self, task: Task) -> None:
        if not self._tasks:
            self._spawn(self._look_on())
        self._tasks[task.key] = task

    def discard(self, task: Task) -> None:
        self._tasks.pop(task.key, None)
        self._cancelled.discard(task.key)

    async def _look_on(self) -> None:
        pause = _FIRST
        while self._tasks:
            try:
                await self._look()
            except Exception:  # the scheduler is out of reach, and will not come back
                for task in list(self._tasks.values()):
                    self._gone(task)
                return
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, _LAST)

    async def _look(self) -> None:
        states = await self._client.scheduler.get_task_status(keys=list(self._tasks))
        known = {key for key, state in states.items() if state is not None}
        # Not before the scheduler knows a task: it takes its time over a graph, and no note of what
        # it is to cancel in it.
        new = [self._tasks[key] for key in known & self._tasks.keys() - self._cancelled]
        if new:
            self._cancelled |= {task.key for task in new}
            await self._client.cancel([task.remote for task in new])
        left = [key for key in self._cancelled if key in states and key not in known]
        if left:
            answers = await self._client.run(still_has, left, on_error="ignore")
            left_there = {key for keys in answers.values() for key in keys}
            for key in left:
                if key in self._tasks and key not in left_there:
                    self._gone(self._tasks[key])

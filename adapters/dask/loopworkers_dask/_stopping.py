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
# For a worker to tell whether it was given a task after we had looked who has it.
_UNSURE = 1.0


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
        self._is_looking = False
        # Of those that Dask was told to cancel: the workers that may have them, and until when, in
        # the loop's time, workers are asked of which it is not known that they do.
        self._places: dict[str, set[str]] = {}
        self._unsure_until: dict[str, float] = {}
        self._asked: set[str] = set()  # workers that have not answered yet

    def __contains__(self, task: Task) -> bool:
        return task.key in self._tasks

    def add(self, task: Task) -> None:
        self._tasks[task.key] = task
        if not self._is_looking:
            self._is_looking = True
            self._spawn(self._look_on())

    def discard(self, task: Task) -> None:
        self._tasks.pop(task.key, None)
        self._places.pop(task.key, None)
        self._unsure_until.pop(task.key, None)

    async def _look_on(self) -> None:
        pause = _FIRST
        try:
            while self._tasks:
                await self._look()
                await asyncio.sleep(pause)
                pause = min(1.5 * pause, _LAST)
        except Exception:  # the scheduler is out of reach, and will not come back
            for task in list(self._tasks.values()):
                self._gone(task)
        finally:
            self._is_looking = False

    async def _look(self) -> None:
        states = await self._client.scheduler.get_task_status(keys=list(self._tasks))
        known = {key for key, state in states.items() if state is not None}
        # Not before the scheduler knows a task: it takes its time over a graph, and no note of what
        # it is to cancel in it.
        new = [self._tasks[key] for key in known & self._tasks.keys() - self._places.keys()]
        if new:
            await self._cancel(new)
        now = asyncio.get_running_loop().time()
        questions: dict[str, list[str]] = {}
        for key in [key for key in self._places if key in states and key not in known]:
            if self._unsure_until.get(key, now) < now:
                self._gone(self._tasks[key])
                continue
            for address in self._places[key] - self._asked:
                questions.setdefault(address, []).append(key)
        for address, keys in questions.items():
            # Each by itself: one that does not answer must not hold what others have had.
            self._asked.add(address)
            self._spawn(self._ask(address, keys))

    async def _cancel(self, tasks: list[Task]) -> None:
        # Before they are cancelled: afterwards the scheduler does not know them any more.
        processing = await self._client.scheduler.processing(workers=None)
        unsure_until = asyncio.get_running_loop().time() + _UNSURE
        tasks = [task for task in tasks if task in self]  # some have ended meanwhile
        for task in tasks:
            places = {address for address, keys in processing.items() if task.key in keys}
            self._places[task.key] = places or set(processing)
            if not places:  # one may get it before it is cancelled
                self._unsure_until[task.key] = unsure_until
        await self._client.cancel([task.remote for task in tasks])

    async def _ask(self, address: str, keys: list[str]) -> None:
        answers: dict[str, list[str]] = {}
        try:
            answers = await self._client.run(still_has, keys, workers=[address], on_error="ignore")
        except Exception:
            pass  # that worker is gone, and has none
        finally:
            self._asked.discard(address)
        its = answers.get(address, ())
        for key in keys:
            if key in self._places and key not in its:
                self._places[key].discard(address)
                if not self._places[key]:
                    self._gone(self._tasks[key])

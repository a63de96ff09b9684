"""The calls as tasks of Dask's client."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from distributed import KilledWorker

from loopworkers import EngineFailed
from loopworkers.engines import JobLost

from ._once import LOST, MARK
from ._stopping import Stopping
from ._worker import run_task, topic_of

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from loopworkers.engines import Job

# Larger bodies go to a worker as data, ahead of the task: a graph passes through the scheduler.
_SCATTER_MIN = 256 * 1024
# See `Tasks._collect`; seconds, and a multiple of what a fetch takes.
_HOLD_UP = 0.05
_PAUSE = 3


class Task:
    """One call: our future, and Dask's."""

    def __init__(self, job: Job, key: str) -> None:
        self.job = job
        self.key = key
        self.future: Future[bytes] = Future()
        self.remote: Any = None  # once there is one


class Tasks:
    """Made in the client's loop."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._scheduler = client.scheduler.address
        self._connection = client.scheduler_comm
        self._loop = asyncio.get_running_loop()
        self._numbers = count()
        self._prefix = uuid4().hex
        self._topic = topic_of(MARK + self._prefix)
        self._new: deque[Task] = deque()
        self._to_stop: deque[Future[bytes]] = deque()
        self._woken = False
        self._by_future: dict[Future[bytes], Task] = {}
        self._by_key: dict[str, Task] = {}
        self._stopping = Stopping(client, self._spawn, self._on_stopped)
        self._finished: list[Task] = []
        self._all_finished = asyncio.Event()
        self._collecting = False
        self._jobs: set[asyncio.Task[Any]] = set()
        client.subscribe_topic(self._topic, self._on_progress)

    # --- any thread --------------------------------------------------------------------------

    def is_lost(self) -> bool:
        """Whether the connection that it was made with has ended.

        A client may find a scheduler again, which may be another one: without our plugin, and
        without our subscription. One that gives up says of a task neither that it is lost nor that
        it is refused while it closes.
        """
        client = self._client
        return client.status != "running" or client.scheduler_comm is not self._connection

    def submit(self, job: Job) -> Future[bytes]:
        name = job.name.encode("utf-8", "replace").decode()  # it may have half a surrogate pair
        task = Task(job, f"{name}{MARK}{self._prefix}-{next(self._numbers)}")
        self._new.append(task)
        self._wake()
        return task.future

    def stop(self, future: Future[bytes]) -> None:
        self._to_stop.append(future)
        self._wake()

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._look)

    # --- the client's loop: there ---------------------------------------------------------------

    def _look(self) -> None:
        # Before it looks: what comes from now on wakes the loop again.
        self._woken = False
        groups: dict[Any, list[Task]] = {}
        while self._new:
            task = self._new.popleft()
            self._by_future[task.future] = self._by_key[task.key] = task
            if len(task.job.body) >= _SCATTER_MIN:
                self._spawn(self._scatter(task))
            else:
                resources = task.job.resources
                group = frozenset(resources.items()) if resources else None
                groups.setdefault(group, []).append(task)
        for tasks in groups.values():
            self._send(tasks, [task.job.body for task in tasks])
        while self._to_stop:
            stopped = self._by_future.get(self._to_stop.popleft())
            if stopped is not None:
                self._stopping.add(stopped)

    def _spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        job = asyncio.ensure_future(coroutine)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return job

    async def _within(self, seconds: float, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Wait for it, but no longer; it goes on in that case."""
        await asyncio.wait({self._spawn(coroutine)}, timeout=seconds)

    def leave(self) -> None:
        """The client is about to be closed."""
        if not self.is_lost():
            self._client.unsubscribe_topic(self._topic)
        for job in self._jobs:
            job.cancel()

    async def _scatter(self, task: Task) -> None:
        while not self.is_lost():
            if task in self._stopping:
                self._on_stopped(task)
                return
            try:
                body = await self._client.scatter(task.job.body, hash=False)
            except TimeoutError:
                pass  # no worker is there yet; tasks without data wait for one, too
            except Exception as error:
                if not self.is_lost():
                    self._fail(task, error)
                    return
            else:
                self._send([task], [body])
                return
        self._fail(task, self._not_sent(task))

    def _send(self, tasks: list[Task], bodies: Iterable[Any]) -> None:
        """One graph for all that has come meanwhile: each costs the scheduler about the same."""
        if self.is_lost():
            for task in tasks:
                self._fail(task, self._not_sent(task))
            return
        resources = tasks[0].job.resources
        try:
            remotes = self._client.map(
                run_task,
                bodies,
                [task.key.encode() for task in tasks],
                key=[task.key for task in tasks],
                resources=dict(resources) if resources else None,
                pure=False,  # two calls alike are two
            )
        except Exception as error:
            for task in tasks:
                self._fail(task, error)
            return
        for task, remote in zip(tasks, remotes, strict=True):
            task.remote = remote
            self._spawn(self._follow(task))

    # --- and back -------------------------------------------------------------------------------

    async def _follow(self, task: Task) -> None:
        remote = task.remote  # which is dropped when the task ends otherwise
        error = await remote.exception()
        if error is not None:
            self._fail(task, error)
        elif remote.status == "cancelled":
            if task not in self._stopping:  # which knows when its body has ended
                self._fail(task, JobLost("is out of reach, and what it had with it"))
        else:
            self._finished.append(task)
            if len(self._finished) == len(self._by_key):
                self._all_finished.set()
            if not self._collecting:
                self._collecting = True
                self._spawn(self._collect())

    async def _collect(self) -> None:
        """Fetch what is finished, together: it costs scheduler and workers more than the calls do.

        So a fetch is followed by a pause, of a length that leaves most of the time to the calls,
        unless there is nothing else to wait for.
        """
        try:
            while self._finished:
                tasks, self._finished = self._finished, []
                self._all_finished.clear()
                started = perf_counter()
                # One whose worker dies meanwhile may take long.
                await self._within(_HOLD_UP, self._fetch(tasks))
                pause = _PAUSE * (perf_counter() - started)
                await self._within(min(pause, _HOLD_UP), self._all_finished.wait())
        finally:
            self._collecting = False

    async def _fetch(self, tasks: list[Task]) -> None:
        remotes = {task.key: task.remote for task in tasks}
        try:
            answers = await self._client.gather(remotes, errors="skip")
        except Exception as error:
            for task in tasks:
                self._fail(task, error)
            return
        for task in tasks:
            answer = answers.get(task.key)
            if answer is None or answer == LOST:
                self._fail(task, JobLost("ended, and what it had done was lost with it"))
            elif self._take(task):
                task.future.set_result(answer)

    def _fail(self, task: Task, error: Exception) -> None:
        if self._take(task):
            if isinstance(error, KilledWorker):
                error = JobLost(f"at {error.last_worker.address} died")
            task.future.set_exception(error)

    def _not_sent(self, task: Task) -> EngineFailed:
        return EngineFailed(
            f"{task.job.name} cannot be sent: the connection to the Dask scheduler at "
            f"{self._scheduler} has ended; open a new pool, with a new DaskEngine"
        )

    def _on_stopped(self, task: Task) -> None:
        self._fail(task, JobLost("was told to drop it"))

    def _take(self, task: Task) -> bool:
        """Whether the task has not ended yet, which it does herewith."""
        if self._by_key.pop(task.key, None) is None:
            return False  # its result came while it was found to be stopped, or the reverse
        del self._by_future[task.future]
        self._stopping.discard(task)
        task.remote = None  # the last reference: Dask forgets the result
        return True

    def _on_progress(self, event: Any) -> None:
        key, progress = event[1]
        task = self._by_key.get(key)
        if task is not None:
            task.job.tell_progress(progress)

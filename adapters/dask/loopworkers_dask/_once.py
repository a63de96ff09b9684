"""In the scheduler: calls of ours run at most once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dask._task_spec import Task
from distributed.diagnostics.plugin import SchedulerPlugin

if TYPE_CHECKING:
    from distributed import Scheduler

MARK = "-loopworkers-"  # in the key of every call
LOST = b""  # what runs instead of a call the second time returns this; no answer is empty


class RunOnce(SchedulerPlugin):
    """Keeps the scheduler from repeating calls whose workers have died.

    A task whose worker dies while it has it is tried elsewhere until ``allowed-failures`` workers
    have died; ours have used up all but one from the start, so that the first death is the last. A
    task that leaves its worker in another way (a retired worker, a result lost with its worker) may
    be computed again; ours compute nothing then.
    """

    name = "loopworkers-run-once"
    idempotent = True

    async def start(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        if type(key) is not str or MARK not in key:
            return
        task = self._scheduler.tasks[key]
        if finish == "processing":
            task.suspicious = self._scheduler.allowed_failures or 0
        elif finish == "released" and start in ("processing", "memory"):
            task.run_spec = Task(key, bytes)

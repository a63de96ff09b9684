"""What a pool tells about itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PoolStats:
    """A pool at one moment; the counters count from its opening.

    Attributes:
        kind: "process", "isolate" or "thread".
        workers: workers alive, starting ones and those being stopped included.
        idle: of these, how many have nothing to do.
        running: calls that a worker has.
        waiting: calls that wait for a worker.
        completed: calls that returned a value.
        failed: calls that raised an exception, worker deaths included.
        cancelled: calls that were cancelled before they had a result.
        timed_out: calls that ended in `CallTimeout`.
        retried: runs repeated because their worker had died.
        started: workers started.
        died: workers that ended without being told to.
        killed: workers stopped because the call they ran was cancelled or timed out.
        retired: workers replaced after ``max_tasks_per_worker`` or ``max_worker_memory``, or
            let go when idle.
        stuck: isolates and threads that would not stop and were written off.
    """

    kind: str
    workers: int
    idle: int
    running: int
    waiting: int
    completed: int
    failed: int
    cancelled: int
    timed_out: int
    retried: int
    started: int
    died: int
    killed: int
    retired: int
    stuck: int


@dataclass(slots=True)
class Counters:
    """The part of the statistics that only grows."""

    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    timed_out: int = 0
    retried: int = 0
    started: int = 0
    died: int = 0
    killed: int = 0
    retired: int = 0
    stuck: int = 0

"""What a pool tells about itself."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ._workers.base import Worker


@dataclass(frozen=True, slots=True)
class PoolStats:
    """A pool at one moment; the counters count from its opening.

    Attributes:
        kind: "process", "isolate" or "thread".
        workers: workers alive, starting ones and those being stopped included.
        ready: of these, how many have started (initializer and preload included).
        idle: how many have nothing to do; one that still starts may be among them.
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
        busy: seconds in which workers had a call, all workers together; it never falls. 0 of an
            engine, whose workers are its own.
    """

    kind: str
    workers: int
    ready: int
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
    busy: float


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
    busy: float = 0.0


@dataclass(frozen=True, slots=True)
class CallEnd:
    """How one call of a pool ended; see `WorkerPool.observe`.

    Attributes:
        name: module and name of the function.
        outcome: as counted in `PoolStats`; "completed", "failed", "cancelled" or "timed_out".
        waited: seconds from the call until a worker ran it; all of its time if none did.
        ran: seconds it ran, told by the worker; if it was stopped or its worker died, seconds
            since the worker had been given it.
        error: what the call raised, `WorkerDied` and `CallTimeout` included, or None.
    """

    name: str
    outcome: Literal["completed", "failed", "cancelled", "timed_out"]
    waited: float
    ran: float
    error: Exception | None


@dataclass(frozen=True, slots=True)
class WorkerState:
    """What one worker of a pool is doing at a moment; see `WorkerPool.workers`.

    Attributes:
        id: counts from 1 in each pool.
        state: "starting", "idle", "busy" or "stopping".
        call: module and name of the function it runs, or None.
        ran: seconds since it began that, or was given it.
        ahead: calls it was sent beyond that one.
        answered: calls it has ended.
        busy: seconds in which it had a call, its own start included if a call waited for that.
    """

    id: int
    state: Literal["starting", "idle", "busy", "stopping"]
    call: str | None
    ran: float
    ahead: int
    answered: int
    busy: float


def state_of(worker: Worker) -> WorkerState:
    running = next(iter(worker.calls.values()), None) if worker.ready else None
    state: Any = "idle" if running is None else "busy"
    if worker.leaving:
        state = "stopping"
    elif not worker.ready:
        state = "starting"
    return WorkerState(
        id=worker.id,
        state=state,
        call=None if running is None else running.name,
        ran=0.0 if running is None else perf_counter() - worker.moved_at,
        ahead=len(worker.calls) - (running is not None),
        answered=worker.answered,
        busy=worker.busy_for(),
    )

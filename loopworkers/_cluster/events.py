"""What happens in a `Cluster`, in the order in which it happens."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import anyio

if TYPE_CHECKING:
    from .worker import ClusterWorker

#: Why a worker is asked to finish.
Reason: TypeAlias = Literal["reload", "scale", "drain", "requests", "age", "memory", "asked"]
#: Why it is ended by force.
KillReason: TypeAlias = Literal["grace", "unresponsive", "asked", "start_timeout"]


@dataclass(frozen=True, slots=True)
class WorkerStarted:
    """A worker was started; it does not serve yet."""

    worker: ClusterWorker


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """It serves."""

    worker: ClusterWorker


@dataclass(frozen=True, slots=True)
class WorkerDraining:
    """It was asked to finish, and gets no more connections."""

    worker: ClusterWorker
    reason: Reason


@dataclass(frozen=True, slots=True)
class WorkerKilled:
    """It is being ended by force: "grace" when it did not finish in time."""

    worker: ClusterWorker
    reason: KillReason


@dataclass(frozen=True, slots=True)
class WorkerExited:
    """It has ended: the last event of every worker, and `Cluster.workers` has it no more.

    Attributes:
        exitcode: as `Worker.exitcode`.
        voluntary: whether the cluster had asked for it.
        error: what its function raised, or `WorkerDied`; else None.
    """

    worker: ClusterWorker
    exitcode: int
    voluntary: bool
    error: Exception | None


@dataclass(frozen=True, slots=True)
class WorkerRestarting:
    """The place of a worker that has ended by accident is filled again in ``delay`` seconds."""

    worker: ClusterWorker
    delay: float


@dataclass(frozen=True, slots=True)
class ClusterStopped:
    """The last event. ``error`` is what stopped it, None after `Cluster.drain`."""

    error: Exception | None


ClusterEvent: TypeAlias = (
    WorkerStarted
    | WorkerReady
    | WorkerDraining
    | WorkerKilled
    | WorkerExited
    | WorkerRestarting
    | ClusterStopped
)

# Who does not read loses the oldest, rather than keep all for ever.
_KEPT = 1000


class EventStream:
    """What `Cluster.events` returns: iterates over what happens from then on.

    Attributes:
        missed: events that were dropped because 1,000 later ones had not been read.
    """

    def __init__(self) -> None:
        self.missed = 0
        self._events: deque[ClusterEvent] = deque()
        self._came = anyio.Event()
        self._over = False

    def _put(self, event: ClusterEvent) -> None:
        if len(self._events) == _KEPT:
            self._events.popleft()
            self.missed += 1
        self._events.append(event)
        self._over = self._over or isinstance(event, ClusterStopped)
        self._came.set()

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> ClusterEvent:
        while not self._events:
            if self._over:
                raise StopAsyncIteration
            self._came = anyio.Event()
            await self._came.wait()
        return self._events.popleft()

"""An engine that does what a test tells it to, when it is told."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING

from loopworkers.engines import Capabilities, Engine, run_job

if TYPE_CHECKING:
    from loopworkers.engines import Job


NOTHING = Capabilities()


class HandEngine(Engine):
    """Its jobs wait in ``jobs``, in the order in which they came."""

    name = "hand"

    def __init__(self, capabilities: Capabilities = NOTHING, *, size: int = 1) -> None:
        self.capabilities = capabilities
        self.jobs: list[tuple[Job, Future[bytes]]] = []
        self.stopped: list[Future[bytes]] = []
        self.is_open = False
        self._size = size

    def open(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.is_open = False

    def size(self) -> int:
        return self._size

    def submit(self, job: Job) -> Future[bytes]:
        assert self.is_open
        future: Future[bytes] = Future()
        self.jobs.append((job, future))
        return future

    def stop(self, future: Future[bytes]) -> None:
        self.stopped.append(future)

    def run_next(self) -> None:
        job, future = self.jobs.pop(0)
        future.set_result(run_job(job.body))

    def fail_next(self, error: BaseException) -> None:
        self.jobs.pop(0)[1].set_exception(error)

    def drop_next(self) -> None:
        self.jobs.pop(0)[1].cancel()


class EagerEngine(HandEngine):
    """Its futures are done before anybody has seen them, in the loop's own thread."""

    name = "eager"

    def submit(self, job: Job) -> Future[bytes]:
        future = super().submit(job)
        self.run_next()
        return future

"""Any `concurrent.futures.Executor` as an engine."""

from __future__ import annotations

from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import TYPE_CHECKING

from .._child.job import run_job
from .._limits import default_workers
from .engine import Capabilities, Engine

if TYPE_CHECKING:
    from concurrent.futures import Future

    from .engine import Job


class ExecutorEngine(Engine):
    """Runs the calls of a pool on a `concurrent.futures.Executor`: loky's, mpi4py's, executorlib's.

    Args:
        executor: stays yours: closing the pool does not shut it down.
        name: for errors and figures; default: the name of its class.

    The interface has no way to end what runs, nor to ask for resources or to report progress:
    cancelling a call drops it if the executor has not begun it, and abandons it otherwise. Its
    place is taken until the executor's future is done; an executor that lets running calls be
    cancelled, as Dask's does, is believed.
    """

    def __init__(self, executor: Executor, *, name: str | None = None) -> None:
        if not isinstance(executor, Executor):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"executor must be a concurrent.futures.Executor, not {executor!r}")
        self._executor = executor
        self._is_over = False
        self.name = name or type(executor).__name__
        # Others may well run a call again when its worker has died: they are not known to do so.
        once = isinstance(executor, (ThreadPoolExecutor, ProcessPoolExecutor))
        self.capabilities = Capabilities(at_most_once=once)

    def size(self) -> int:
        if self._is_over:
            return 0
        # Not part of the interface, yet the standard library's, loky's and mpi4py's have it.
        known = getattr(self._executor, "_max_workers", None)
        return known if isinstance(known, int) else default_workers()

    def submit(self, job: Job) -> Future[bytes]:
        try:
            return self._executor.submit(run_job, job.body)
        except RuntimeError:  # it is broken, or was shut down, and stays so
            self._is_over = True
            raise

    def stop(self, future: Future[bytes]) -> None:
        future.cancel()

"""The joblib backend "loopworkers": joblib, and so scikit-learn, on the workers of this library.

    import loopworkers.joblib  # registers it
    from joblib import parallel_config

    with parallel_config("loopworkers", n_jobs=-1):
        search.fit(X, y)

Needs joblib 1.5 or newer: ``pip install 'loopworkers[joblib]'``.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import Future
from contextvars import Context, copy_context
from multiprocessing import current_process
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from joblib import parallel as _untyped

from ._child import setup
from ._executor import WorkerExecutor
from ._joblib import kept
from ._joblib.environment import Environment, initialize
from ._joblib.task import Task
from .errors import RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._pool import Kind

joblib: Any = _untyped

__all__ = ["LoopworkersBackend", "shutdown_workers"]

# Of WorkerPool's options those that make sense here. joblib has a timeout of its own, and relies
# on calls being accepted and stopped.
_OPTIONS = {
    "idle_timeout",
    "initargs",
    "initializer",
    "kind",
    "max_tasks_per_worker",
    "max_worker_memory",
    "retries",
}
_IDLE_TIMEOUT = 300.0
_MAPPING_WORKS = hasattr(os, "fork")  # where descriptors can be sent to workers


class _Settings(NamedTuple):
    """Workers are used again by calls with the same."""

    kind: Kind
    n_jobs: int
    environment: dict[str, str] | None
    options: dict[str, Any]


class LoopworkersBackend(joblib.AutoBatchingMixin, joblib.ParallelBackendBase):  # type: ignore[misc]
    """Runs the batches of a `joblib.Parallel` on a `WorkerExecutor`.

    Args, by ``parallel_config("loopworkers", ...)`` or ``Parallel(backend="loopworkers", ...)``:
        kind: "process" or "thread".
        inner_max_num_threads: threads that BLAS, OpenMP and their like may use in a worker
            process; default: the processors shared out among the workers.
        idle_timeout: seconds after which a worker without work ends, default 300.
        initializer, initargs, retries, max_tasks_per_worker, max_worker_memory: as for
            `WorkerPool`; a "call" is a batch of joblib's.

    Of joblib's own options ``max_nbytes``, ``mmap_mode`` and ``temp_folder`` say which arrays
    workers map, and how.

    A task's exception is raised by `Parallel` as itself, and ``WorkerDied`` if a worker died;
    then, and when `Parallel` is interrupted or its ``timeout`` passes, the tasks that still run are
    stopped with their workers. The next call works.
    """

    supports_retrieve_callback = True

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        **options: Any,
    ) -> None:
        _check(options)
        super().__init__(  # pyright: ignore[reportUnknownMemberType]
            nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads, **options
        )
        in_threads = options.get("kind") == "thread"
        self.uses_threads = self.supports_sharedmem = in_threads
        self.supports_inner_max_num_threads = not in_threads
        self.parallel: Any = None
        self._lock = Lock()
        self._used = False  # by a Parallel, from `configure` to `terminate`
        self._settings: _Settings
        self._workers: WorkerExecutor | None = None
        self._reducers: dict[type[Any], Any] = {}
        self._context = Context()

    # --- the life of a Parallel call ------------------------------------------------------------

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many workers ``n_jobs`` means; inside a worker "all processors" is one."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        if n_jobs < 0:
            cpus: int = 1 if setup.depth else joblib.cpu_count()
            return max(cpus + 1 + n_jobs, 1)
        return n_jobs

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: Any = None,
        require: Any = None,
        max_nbytes: int | None = None,
        mmap_mode: str | None = None,
        temp_folder: str | None = None,
        verbose: int = 0,
        context: Any = None,  # joblib's for multiprocessing
        **options: Any,
    ) -> int:
        """Get workers ready for a `Parallel`; how many they are."""
        options = {**self.backend_kwargs, **options}
        _check(options)
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise joblib.FallbackToBackend(
                joblib.SequentialBackend(nesting_level=self.nesting_level)
            )
        with self._lock:
            if self._used:
                # The generator of an earlier Parallel is not at its end, or another thread's
                # is at work: this one gets workers of its own.
                raise joblib.FallbackToBackend(self._another())
            self._used = True
        try:
            self._workers = self._take_workers(n_jobs, **options)
        except BaseException:
            self._used = False
            raise
        self._reducers = {}
        has_arrays = _MAPPING_WORKS and "numpy" in sys.modules
        if has_arrays and max_nbytes is not None and mmap_mode is not None:
            from ._joblib.arrays import Arrays

            folder = temp_folder or os.environ.get("JOBLIB_TEMP_FOLDER")
            self._reducers = Arrays(max_nbytes, mmap_mode, folder).reducers()
        self.parallel = parallel
        return n_jobs

    def _another(self) -> LoopworkersBackend:
        return type(self)(
            nesting_level=self.nesting_level,
            inner_max_num_threads=self.inner_max_num_threads,
            **self.backend_kwargs,
        )

    def _take_workers(self, n_jobs: int, kind: Kind = "process", **options: Any) -> WorkerExecutor:
        environment = self._prepare_worker_env(n_jobs=n_jobs) if kind == "process" else None
        options.setdefault("idle_timeout", _IDLE_TIMEOUT)
        self._settings = _Settings(kind, n_jobs, environment, options)
        return kept.take(self._settings, self._make_workers)

    def _make_workers(self) -> WorkerExecutor:
        kind, n_jobs, environment, options = self._settings
        if environment is not None:
            own = options.get("initializer"), options.get("initargs", ())
            initargs = (Environment(environment, bytes(current_process().authkey)), *own)
            options = {**options, "initializer": initialize, "initargs": initargs}
        return WorkerExecutor(kind, n_jobs, name="joblib", **options)

    def start_call(self) -> None:
        """Tasks see the context variables of their Parallel call, whoever submits them."""
        self._context = copy_context()

    def submit(
        self, func: Callable[[], Any], callback: Callable[[Any], object] | None = None
    ) -> Future[Any]:
        """Run ``func`` in a worker; what goes wrong is the future's."""
        task = Task(func, self._reducers)
        with self._lock:
            if self._workers is None:
                # Called by a task that ended while `Parallel` gave up: nobody waits for it.
                return Future()
            future = self._context.copy().run(self._workers.submit, task)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """The value of a future that is done, or its exception."""
        try:
            return out.result()
        except RemoteError as error:
            if error.type_name == "KeyboardInterrupt":
                # Kept apart from a Ctrl-C everywhere else; joblib's users expect it as it was.
                raise KeyboardInterrupt from error
            raise

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Stop the tasks, and return when none runs any more."""
        with self._lock:
            workers, self._workers = self._workers, None
        if workers is not None:
            workers.kill_workers()
            workers.shutdown()
        if ensure_ready:
            self._workers = kept.take(self._settings, self._make_workers)

    def terminate(self) -> None:
        """Let go of the workers; they stay for the next call."""
        with self._lock:
            workers, self._workers = self._workers, None
            if workers is not None:
                kept.give_back(self._settings, workers)
            self._used = False
        self._reducers = {}
        self._context = Context()
        self.reset_batch_stats()


def _check(options: dict[str, Any]) -> None:
    unknown = sorted(options.keys() - _OPTIONS)
    if unknown:
        raise TypeError(
            f"the joblib backend 'loopworkers' has no option {', '.join(unknown)}; it has "
            f"{', '.join(sorted(_OPTIONS))}, and joblib's own"
        )
    if options.get("kind", "process") not in ("process", "thread"):
        raise ValueError(
            f'kind must be "process" or "thread", not {options["kind"]!r}: joblib does not load '
            "in an isolate"
        )


def shutdown_workers() -> None:
    """End the workers that were kept for the next `Parallel`, and return when they are gone.

    Without it they end when they were idle for ``idle_timeout``, and with the program.
    """
    kept.shutdown()


joblib.register_parallel_backend("loopworkers", LoopworkersBackend)

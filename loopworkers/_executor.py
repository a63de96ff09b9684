"""`WorkerExecutor`: the same workers behind `concurrent.futures`, for synchronous code."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context, copy_context
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ._call import name_of
from ._child.chunks import run_chunk
from ._pool import Kind, WorkerPool
from .errors import PoolClosed, PoolFull

if TYPE_CHECKING:
    from ._loop.future import WorkerFuture

P = ParamSpec("P")
T = TypeVar("T")
Future = concurrent.futures.Future
Job = tuple[Future[Any], Context, Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class WorkerExecutor(concurrent.futures.Executor):
    """A `concurrent.futures.Executor` over a `WorkerPool`.

    Args:
        kind: "process", "isolate" or "thread".
        max_workers: default: the processors this program may use.
        pool_options: the other options of `WorkerPool`, ``initializer`` and ``initargs``
            among them.

    The pool runs on an event loop of its own in a background thread, so the executor can be
    used from any thread, and from coroutines by ``loop.run_in_executor``. It behaves as
    `concurrent.futures` documents, with one difference made on purpose: no executor is ever
    "broken". A worker that dies fails the future of the call it was running, with
    `WorkerDied`; an initializer that fails gives its exception to the futures that wait; and
    the executor goes on.

    A call counts as running, and can no longer be cancelled, when the pool has it: twice as
    many as there are workers, so that a worker finds its next call at once.
    """

    def __init__(
        self, kind: Kind = "process", max_workers: int | None = None, **pool_options: Any
    ) -> None:
        # Validates the arguments now; the thread and the workers come with the first call.
        pool = WorkerPool(kind, max_workers=max_workers, **pool_options)
        self._host = _Host(pool)
        # What submits to a forgotten executor has ended: let its workers go as well.
        self._finalizer = weakref.finalize(self, self._host.shut_down, False)
        self._finalizer.atexit = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Schedule ``fn(*args, **kwargs)``; its future also takes what pickling raised.

        Raises RuntimeError after `shutdown`, PoolFull when ``max_pending`` calls wait, and
        PoolClosed in a fork of the process that made the executor.
        """
        future: Future[T] = Future()
        self._host.add((future, copy_context(), fn, args, kwargs))
        return future

    def map(  # pyright: ignore[reportIncompatibleMethodOverride] - fn by position, as it should
        self,
        fn: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """As `concurrent.futures.Executor.map`, ``buffersize`` on every Python version.

        Args:
            timeout: seconds from now after which waiting for a result raises TimeoutError.
            chunksize: items that make one call.
            buffersize: how many calls may be submitted whose results were not taken yet;
                None submits all at once.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        deadline = None if timeout is None else monotonic() + timeout
        items = zip(*iterables, strict=False)
        jobs: Iterator[Future[Any]]
        if chunksize == 1:
            jobs = (self.submit(fn, *args) for args in items)
        else:
            jobs = (self.submit(run_chunk, fn, chunk) for chunk in _chunks(items, chunksize))
        futures: deque[Future[Any]] = deque()
        try:
            futures.extend(islice(jobs, buffersize))
        except BaseException:  # an iterable's error, or PoolFull: nobody gets these futures
            for future in futures:
                future.cancel()
            raise
        return _results(futures, jobs, deadline, chunked=chunksize > 1)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As `concurrent.futures.Executor.shutdown`.

        Args:
            wait: return only when the calls are done and the workers are gone.
            cancel_futures: cancel the calls that no worker has begun.
        """
        self._finalizer.detach()
        self._host.shut_down(cancel_futures)
        if wait:
            self._host.join()

    def kill_workers(self) -> None:
        """Stop every call and the workers, and shut down; like `ProcessPoolExecutor`'s of 3.14.

        Futures of calls that wait are cancelled, those of calls that run raise PoolClosed. Does
        not wait for that: a `shutdown` after it does.
        """
        self._finalizer.detach()
        self._host.shut_down(True, kill=True)


def _chunks(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while chunk := list(islice(items, size)):
        yield chunk


def _results(
    futures: deque[Future[Any]],
    jobs: Iterator[Future[Any]],
    deadline: float | None,
    chunked: bool,
) -> Iterator[Any]:
    try:
        while futures:
            futures[0].exception(None if deadline is None else deadline - monotonic())
            futures.extend(islice(jobs, 1))
            # Nothing here refers to a result that the consumer has dropped.
            if chunked:
                results = futures.popleft().result()[::-1]
                while results:
                    yield results.pop()
            else:
                yield futures.popleft().result()
    finally:
        for future in futures:
            future.cancel()


class _Host:
    """The background thread: a loop, the pool on it, and the calls on their way to it."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._pid = os.getpid()
        # Reentrant: a collected executor is shut down wherever the collector happens to run.
        self._lock = threading.RLock()
        self._jobs: deque[Job] = deque()
        self._running = 0
        # Calls that the pool has can no longer be cancelled, so it gets few in advance.
        self._most_running = 2 * pool.max_workers
        self._unsettled = 0
        self._most_unsettled = pool._most_unsettled
        if self._most_unsettled is not None:
            self._most_running = min(self._most_running, self._most_unsettled)
        self._woken = False
        self._shut_down = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle: asyncio.Event | None = None
        self._failure: BaseException | None = None

    # --- any thread --------------------------------------------------------------------------

    def add(self, job: Job) -> None:
        if self._pid != os.getpid():
            raise PoolClosed(
                f"this executor was made in process {self._pid} and this is a fork of it: make "
                "one here"
            )
        with self._lock:
            if self._shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            most = self._most_unsettled
            if most is not None and self._unsettled >= most:
                raise PoolFull(
                    f"{self._pool.name} has {most} calls, max_pending allows no more; "
                    f"{name_of(job[2])} was not submitted: try again later"
                )
            if self._thread is None:
                self._start()
            self._unsettled += 1
            self._jobs.append(job)
            self._wake()

    def _start(self) -> None:
        # Before the interpreter waits for its threads, as the standard executors do it.
        _shut_down_at_exit(self)
        started = threading.Event()
        # Not a daemon: it must not be running when the interpreter finalises.
        thread = threading.Thread(
            target=self._run, args=(started,), name=f"loopworkers executor ({self._pool.name})"
        )
        thread.start()
        started.wait()
        failure, self._failure = self._failure, None
        if failure is not None:
            thread.join()
            raise failure  # what it was may be gone at the next call
        self._thread = thread

    def _wake(self) -> None:
        if not self._woken and self._loop is not None:
            self._woken = True
            # Not in a copy of this thread's context: the jobs are of others as well.
            self._loop.call_soon_threadsafe(self._start_jobs, context=Context())

    def shut_down(self, cancel_futures: bool, *, kill: bool = False) -> None:
        if self._pid != os.getpid():
            return  # the thread, its loop and the workers are the parent's
        jobs: list[Job] = []
        with self._lock:
            self._shut_down = True
            while cancel_futures and self._jobs:
                try:
                    jobs.append(self._jobs.popleft())
                except IndexError:  # the loop's thread took the last one meanwhile
                    break
            if kill and self._loop is not None:
                self._loop.call_soon_threadsafe(self._pool.kill_all, context=Context())
            self._wake()
        for future, *_ in jobs:
            future.cancel()
            future.set_running_or_notify_cancel()

    def join(self) -> None:
        thread = self._thread
        if thread is None or thread is threading.current_thread() or self._pid != os.getpid():
            return
        thread.join()

    # --- the loop's thread -------------------------------------------------------------------

    def _run(self, started: threading.Event) -> None:
        try:
            asyncio.run(self._serve(started))
        except BaseException as error:
            self._failure = error
        finally:
            started.set()

    async def _serve(self, started: threading.Event) -> None:
        self._idle = asyncio.Event()
        async with self._pool:
            self._loop = asyncio.get_running_loop()
            started.set()
            try:
                await self._idle.wait()
            finally:
                with self._lock:
                    self._loop = None

    def _start_jobs(self) -> None:
        self._woken = False
        while self._running < self._most_running and self._jobs:
            try:
                job = self._jobs.popleft()
            except IndexError:  # shut_down() took them meanwhile
                break
            self._start_job(*job)
        if self._shut_down and not self._jobs and not self._running:
            assert self._idle is not None
            self._idle.set()

    def _start_job(
        self,
        future: Future[Any],
        context: Context,
        fn: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        if not future.set_running_or_notify_cancel():
            self._settled()
            return
        try:
            inner = context.run(self._pool.run, fn, *args, **kwargs)
        except BaseException as error:
            self._settled()
            future.set_exception(error)
            return
        self._running += 1
        inner.add_done_callback(lambda inner: self._finish(inner, future))

    def _finish(self, inner: WorkerFuture[Any], future: Future[Any]) -> None:
        self._running -= 1
        self._settled()
        if inner.cancelled():
            future.set_exception(PoolClosed("the executor was stopped before the call ended"))
        elif (error := inner.exception()) is not None:
            future.set_exception(error)
        else:
            future.set_result(inner.result())
        self._start_jobs()

    def _settled(self) -> None:
        # Before the future is: who has its result may submit the next call at once.
        with self._lock:
            self._unsettled -= 1


_hosts: weakref.WeakSet[_Host] = weakref.WeakSet()
_registered = _exiting = False


def _shut_down_at_exit(host: _Host) -> None:
    global _registered
    if _exiting:  # a thread started now would still run when the interpreter is gone
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")
    if not _registered:
        threading._register_atexit(_shut_down_all)  # type: ignore[attr-defined]
        _registered = True
    _hosts.add(host)


def _shut_down_all() -> None:
    global _exiting
    _exiting = True
    for host in list(_hosts):
        host.shut_down(False)
        host.join()

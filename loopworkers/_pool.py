"""`WorkerPool`: the public face of a set of workers, and the life of one."""

from __future__ import annotations

import os
from functools import partial
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar
from weakref import ref

from ._backing import Backing, Runner, WorkerOptions
from ._call import Call, CallOptions, OnCancel, name_of
from ._loop import Loop, current
from ._registry import enter, leave, register, unregister
from ._settle import Settler
from ._stats import PoolStats
from ._view import PoolView
from .errors import PoolClosed, PoolFull

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from ._engine.engine import Engine
    from ._stats import CallEnd, WorkerState

P = ParamSpec("P")
T = TypeVar("T")
Kind = Literal["process", "isolate", "thread"]
EngineName = Literal["dask"]  # those whose packages are part of this project

_ids = count(1)


class WorkerPool(PoolView):
    """Workers for CPU work off the event loop, as an async context manager.

    Args:
        kind: "process" (robust, can always be stopped, every package works), "isolate" (a
            subinterpreter with its own GIL, Python 3.14+: lighter, for pure Python and the
            standard library), "thread" (for code that releases the GIL), an
            `loopworkers.engines.Engine`, or the name of one whose package is installed
            ("dask"). An option that an engine cannot honour raises EngineUnsupported.
        max_workers: default: the processors this program may use. Of an engine, how many calls
            it may have at a time; default: all of them, since it has a queue of its own.
        min_workers: how many are kept even when idle, and started at once.
        idle_timeout: seconds after which an idle worker beyond that is let go.
        max_pending: how many calls may wait beyond those that run; then `PoolFull`.
        timeout: seconds a call may take from `run` to its result; then `CallTimeout`.
        retries: how often a call is run again when its worker dies under it. Only for calls
            that may run twice. An exception of the function's is never a reason.
        on_cancel: what cancelling a call, or its timeout, does. "kill": a waiting call is
            dropped, a running one stopped (a process is terminated, then killed; an isolate
            stopped in two stages; a thread abandoned). "wait": the caller waits for the end.
            "abandon": the caller goes on; a call that has begun runs to its end and keeps its
            worker, one that waits is dropped. None, the default, is "kill" where that can be;
            an engine that kills nothing asks the body to stop, if it can, and else abandons it.
        max_tasks_per_worker: calls after which a worker is replaced.
        max_worker_memory: resident bytes after which a worker process is replaced.
        initializer, initargs: called in each worker before its first call. If it fails, the
            calls that wait fail with its exception.
        preload: names of modules imported in each worker beforehand; worker processes share
            the memory of what is preloaded.
        name: for logs and ``repr``.

    Leaving the block waits for the calls; leaving it by an exception or cancellation stops
    them. Afterwards no process, thread, descriptor or shared memory of the pool is left.

    The pool belongs to the event loop it was opened in. Closing it while the loop runs is the
    block's job; a loop that ends first ends the pool's workers as well.
    """

    def __init__(
        self,
        kind: Kind | EngineName | Engine = "process",
        *,
        max_workers: int | None = None,
        min_workers: int = 0,
        idle_timeout: float = 60.0,
        max_pending: int | None = None,
        timeout: float | None = None,
        retries: int = 0,
        on_cancel: OnCancel | None = None,
        max_tasks_per_worker: int | None = None,
        max_worker_memory: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        preload: Iterable[str] = (),
        name: str | None = None,
    ) -> None:
        self._options = CallOptions(timeout=timeout, retries=retries, on_cancel=on_cancel)
        self._pool = self
        self._backing = _backing_of(
            kind,
            WorkerOptions(
                max_workers=max_workers,
                min_workers=min_workers,
                idle_timeout=idle_timeout,
                max_tasks_per_worker=max_tasks_per_worker,
                max_worker_memory=max_worker_memory,
                initializer=initializer,
                initargs=initargs,
                preload=preload,
            ),
        )
        self._backing.check(self._options)
        self._encode = self._backing.encode
        self.kind = self._backing.kind
        self.name = name or f"{kind if isinstance(kind, str) else self.kind} pool {next(_ids)}"
        if max_pending is not None and max_pending < 0:
            raise ValueError(f"max_pending must be 0 or more, not {max_pending}")
        self._max_pending = max_pending
        self._state: Literal["new", "open", "closing", "closed"] = "new"
        self._settler = Settler()
        self._call_ids = count(1)
        self._pid = os.getpid()
        self._token: Any = None
        self._loop: Loop
        self._runner: Runner

    @property
    def max_workers(self) -> int:
        """How many calls can run at a time; of an engine, as far as it is known yet."""
        return self._backing.max_workers

    @property
    def _most_unsettled(self) -> int | None:
        return None if self._max_pending is None else self.max_workers + self._max_pending

    def __repr__(self) -> str:
        return f"<WorkerPool {self.name!r} {self._state}, at most {self.max_workers} workers>"

    # --- opening and closing -----------------------------------------------------------------

    async def __aenter__(self) -> WorkerPool:
        self._open()
        try:
            await self._runner.opened()
        except BaseException:
            await self.aclose(grace=0)
            raise
        self._token = enter(self)
        return self

    def _open(self) -> None:
        if self._state != "new":
            raise PoolClosed(f"{self!r} cannot be opened a second time; make a new one")
        self._loop = current()
        self._runner = self._backing.open(self._loop, self._settler)
        self._state = "open"
        register(self._loop, self)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        leave(self._token)
        if exc_type is not None:
            await self.aclose(grace=0)
        else:
            await self.aclose()

    async def aclose(self, grace: float | None = None) -> None:
        """Take no more calls, wait for those there are, and end the workers.

        Args:
            grace: seconds the calls may still take; those that take longer are cancelled.
                None waits for as long as they take, 0 stops them at once.

        When cancelled it stops the calls, and still returns only when the workers have ended.
        """
        from ._closing import close

        if self._state in ("new", "closed"):
            self._state = "closed"
            return
        self._check_loop()
        self._state = "closing"
        try:
            await close(self._settler, self._runner, self.kill_all, grace)
        finally:
            self._abort()

    def kill_all(self) -> None:
        """Cancel every call, waiting or running, and stop the workers that run them.

        The pool stays open: new workers take the place of those that were stopped.
        """
        if self._state not in ("open", "closing"):
            return
        for call in list(self._settler.unsettled.values()):
            running_on = self._runner.withdraw(call)
            if call.id not in self._settler.unsettled:
                continue  # its answer had come already
            future = call.future
            if call.is_stream:
                self._settler.fail(call, PoolClosed(f"{call.name} was stopped by kill_all()"))
            else:
                self._settler.cancelled(call)
                future.cancel()
            self._stop(call, running_on, force=True)

    def _abort(self) -> None:
        """Free everything without the help of the loop; also called when it has ended."""
        if self._state == "closed":
            return
        self._state = "closed"
        unregister(self._loop, self)
        if self._is_this_process():
            self._runner.kill_now()

    # --- calls ---------------------------------------------------------------------------------

    def _submit(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: CallOptions,
        stream: Any,
    ) -> Any:
        if self._state != "open":
            self._refuse()
        self._check_loop()
        settler = self._settler
        if self._max_pending is not None:
            # A body that goes on though its call has ended has the place of a call.
            taken = len(settler.unsettled) + self._runner.lingering
            if taken >= self.max_workers + self._max_pending:
                raise PoolFull(
                    f"{self.name} has {taken} calls for {self.max_workers} workers, max_pending "
                    f"allows no more; {name_of(fn)} was not sent: try again later"
                )
        if not callable(fn):
            raise TypeError(f"the first argument must be callable, not {fn!r}")
        call = Call(self, next(self._call_ids), fn, self._encode(fn, args, kwargs), options)
        if settler.observers:
            call.made_at = perf_counter()
        future = None
        if stream is None:
            call.future = future = self._loop.new_future(call)
        else:
            # Weakly: a stream that nobody iterates over any more ends its generator.
            call.stream = ref(stream)
            call.is_stream = True
            stream.call = call
        settler.unsettled[call.id] = call
        if options.timeout is not None:
            call.timer = self._loop.call_later(options.timeout, partial(self._time_out, call))
        if options.retries:
            call.freeze()
        self._runner.place(call)
        return future

    def _check_loop(self) -> None:
        if not self._is_this_process():
            raise PoolClosed(
                f"{self.name} was opened in process {self._pid} and this is a fork of it: open a "
                "pool here"
            )
        if not self._loop.is_running_here():
            raise PoolClosed(
                f"{self.name} belongs to another event loop than the one that runs here (if any): "
                "open a pool in each loop, or use WorkerExecutor from other threads"
            )

    def _is_this_process(self) -> bool:
        return self._pid == os.getpid()

    def _refuse(self) -> None:
        if self._state == "new":
            raise PoolClosed(f"{self.name} is not open yet: use `async with WorkerPool(...)`")
        raise PoolClosed(f"{self.name} is closed and takes no more calls")

    def cancel(self, call: Call) -> bool:
        """Asked by a call's future whether it may be cancelled; see `CallOptions.on_cancel`."""
        if call.id not in self._settler.unsettled:
            return True  # kill_all() and this pool's end have dealt with it
        if call.options.on_cancel == "wait":
            return False
        running_on = self._runner.withdraw(call)
        if call.id not in self._settler.unsettled:
            return False  # its answer had come already
        self._settler.cancelled(call)
        self._stop(call, running_on)
        return True

    def _stop(self, call: Call, running_on: Any, force: bool = False) -> None:
        # Only after the call is settled: the end of its worker must find nobody to tell.
        if running_on is not None:
            self._runner.give_up(call, running_on, stop=force or call.options.stops)

    def _close_stream(self, call: Call, grace: float) -> None:
        """End a stream whose consumer has left: by request, and if that is not heard by force."""
        if call.id not in self._settler.unsettled:
            return
        running_on = self._runner.withdraw(call)
        if running_on is None:
            self._settler.cancelled(call)
            return
        self._runner.give_up(call, running_on, stop=False)
        if call.options.stops:
            if call.timer is not None:
                call.timer.cancel()
            call.timer = self._loop.call_later(grace, partial(self._end_stream, call))

    def _end_stream(self, call: Call) -> None:
        running_on = self._runner.withdraw(call)
        self._settler.cancelled(call)
        self._stop(call, running_on)

    def _time_out(self, call: Call) -> None:
        call.timer = None
        if call.options.on_cancel == "wait":
            call.timed_out = True
            return
        running_on = self._runner.withdraw(call)
        self._settler.time_out(call)
        self._stop(call, running_on)

    # --- figures -------------------------------------------------------------------------------

    def stats(self) -> PoolStats:
        """The pool's figures at this moment."""
        is_open = self._state in ("open", "closing")
        if is_open:
            self._runner.count_busy()
        counters = self._settler.counters
        grown = {name: getattr(counters, name) for name in counters.__dataclass_fields__}
        if not is_open:
            return PoolStats(self.kind, 0, 0, 0, 0, 0, **grown)
        now = self._runner.figures()
        return PoolStats(
            kind=self.kind,
            workers=now.workers,
            ready=now.ready,
            idle=now.idle,
            running=len(self._settler.unsettled) - now.waiting,
            waiting=now.waiting,
            **grown,
        )

    def workers(self) -> list[WorkerState]:
        """What each worker is doing at this moment, the oldest first; an engine tells of none."""
        if self._state in ("new", "closed"):
            return []
        return self._runner.states()

    def observe(self, observer: Callable[[CallEnd], object]) -> None:
        """Have ``observer(end)``, with a `CallEnd`, called on the loop at the end of each call.

        It should be quick: it holds up the loop. What it raises is logged.
        """
        self._settler.observers += (observer,)


def _backing_of(kind: Any, options: WorkerOptions) -> Backing:
    if kind in ("process", "isolate", "thread"):
        from ._local import LocalBacking

        return LocalBacking(kind, options)
    from ._engine.backing import EngineBacking
    from ._engine.named import engine_of

    return EngineBacking(engine_of(kind), options)

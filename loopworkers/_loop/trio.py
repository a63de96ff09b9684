"""The trio side: system tasks stand in for asyncio's descriptor callbacks and timers."""

from __future__ import annotations

import logging
from concurrent.futures import CancelledError, InvalidStateError
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import outcome
import trio

from . import Loop
from .future import Progress, WorkerFuture

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from . import Signal, Timer


class TrioLoop(Loop):
    name = "trio"

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._watches: dict[tuple[int, bool], trio.CancelScope] = {}

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        self._watch(fd, False, trio.lowlevel.wait_readable, callback)

    def remove_reader(self, fd: int) -> None:
        self._unwatch(fd, False)

    def add_writer(self, fd: int, callback: Callable[[], None]) -> None:
        self._watch(fd, True, trio.lowlevel.wait_writable, callback)

    def remove_writer(self, fd: int) -> None:
        self._unwatch(fd, True)

    def _watch(self, fd: int, write: bool, wait: Any, callback: Callable[[], None]) -> None:
        scope = trio.CancelScope()
        self._watches[fd, write] = scope

        async def watch() -> None:
            with scope, suppress(trio.ClosedResourceError):
                # The watch may be removed, and the descriptor closed, before this task first
                # runs, by its own callback, or after the descriptor became ready.
                while not scope.cancel_called:
                    await wait(fd)
                    if not scope.cancel_called:
                        callback()

        trio.lowlevel.spawn_system_task(watch, name=f"loopworkers watch of {fd}")

    def _unwatch(self, fd: int, write: bool) -> None:
        scope = self._watches.pop((fd, write), None)
        if scope is not None:
            scope.cancel()
            if (fd, not write) in self._watches:
                return  # it stays open, and the other watch would hear the following as well
            # The descriptor is about to be closed, and its number may be used again before the
            # cancelled task runs: take it out of trio's tables now.
            try:
                trio.lowlevel.notify_closing(fd)
            except RuntimeError:
                pass  # the run is over

    def call_soon(self, callback: Callable[[], None]) -> object:
        self._token.run_sync_soon(callback)
        return None

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        scope = trio.CancelScope()

        async def wait() -> None:
            with scope:
                await trio.sleep(delay)
                callback()

        trio.lowlevel.spawn_system_task(wait, name="loopworkers timer")
        return scope

    def spawn(self, job: Callable[[], Coroutine[Any, Any, None]]) -> Timer:
        scope = trio.CancelScope()

        async def run() -> None:
            with scope:
                await job()

        trio.lowlevel.spawn_system_task(run, context=copy_context())
        return scope

    def new_future(self, call: Any) -> TrioWorkerFuture:
        return TrioWorkerFuture(call)

    def new_signal(self) -> Signal:
        return TrioSignal()

    def at_end(self, callback: Callable[[], None]) -> None:
        async def wait() -> None:
            try:
                await trio.sleep_forever()
            finally:
                callback()

        trio.lowlevel.spawn_system_task(wait, name="loopworkers end of run")

    def is_running_here(self) -> bool:
        return trio.lowlevel.in_trio_run() and (trio.lowlevel.current_trio_token() is self._token)

    @property
    def key(self) -> trio.lowlevel.TrioToken:
        return self._token


_logger = logging.getLogger("loopworkers")

_PENDING, _DONE, _CANCELLED = "pending", "finished", "cancelled"


class TrioSignal:
    __slots__ = ("_set", "_task")

    def __init__(self) -> None:
        self._set = False
        self._task: trio.lowlevel.Task | None = None

    def set(self) -> None:
        self._set = True
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    def __await__(self) -> Generator[Any, Any, None]:
        return self._wait().__await__()

    async def _wait(self) -> None:
        if self._set:
            await trio.lowlevel.checkpoint()
            return
        self._task = trio.lowlevel.current_task()

        def abort(_: Any) -> trio.lowlevel.Abort:
            self._task = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)


class TrioWorkerFuture:
    """A future for trio with the methods of `asyncio.Future`."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._state = _PENDING
        self._outcome: outcome.Outcome[Any] | None = None
        self._tasks: dict[trio.lowlevel.Task, None] = {}
        self._callbacks: list[Callable[[Any], object]] = []
        self.progress: Progress | None = None
        self._progress_callbacks: list[Callable[[Progress], object]] = []

    # --- asyncio.Future's methods ---------------------------------------------------------

    def done(self) -> bool:
        return self._state is not _PENDING

    def cancelled(self) -> bool:
        return self._state is _CANCELLED

    def result(self) -> Any:
        if self._outcome is None:
            raise InvalidStateError("the call has not finished")
        if isinstance(self._outcome, outcome.Error):
            raise self._outcome.error
        return self._outcome.value  # type: ignore[attr-defined]

    def exception(self) -> BaseException | None:
        if self._outcome is None:
            raise InvalidStateError("the call has not finished")
        if self._state is _CANCELLED:
            raise CancelledError("the call was cancelled")
        return self._outcome.error if isinstance(self._outcome, outcome.Error) else None

    def cancel(self, msg: Any = None) -> bool:
        """Stop the call as its ``on_cancel`` says; who awaits it gets a CancelledError."""
        if self.done() or not self._call.cancel():
            return False
        self._finish(outcome.Error(CancelledError(msg or "the call was cancelled")), _CANCELLED)
        return True

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        if self.done():
            trio.lowlevel.current_trio_token().run_sync_soon(callback, self)
        else:
            self._callbacks.append(callback)

    def remove_done_callback(self, callback: Callable[[Any], object]) -> int:
        before = len(self._callbacks)
        self._callbacks = [known for known in self._callbacks if known != callback]
        return before - len(self._callbacks)

    def set_result(self, value: Any) -> None:
        self._finish(outcome.Value(value), _DONE)

    def set_exception(self, error: BaseException) -> None:
        self._finish(outcome.Error(error), _DONE)

    def _finish(self, result: outcome.Outcome[Any], state: str) -> None:
        if self.done():
            raise InvalidStateError("the call has already finished")
        self._outcome, self._state = result, state
        tasks, self._tasks = self._tasks, {}
        for task in tasks:
            trio.lowlevel.reschedule(task)
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback(self)
            except Exception:  # as asyncio does: nobody is there to raise it to
                _logger.exception("a done callback of a WorkerFuture failed")

    # --- awaiting -----------------------------------------------------------------------

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._wait().__await__()

    async def _wait(self) -> Any:
        if self.done():
            await trio.lowlevel.checkpoint()
            return self.result()
        task = trio.lowlevel.current_task()
        self._tasks[task] = None

        def abort(_: Any) -> trio.lowlevel.Abort:
            if not self._call.cancel():
                # on_cancel="wait": the result is waited for, then this task is cancelled.
                return trio.lowlevel.Abort.FAILED
            del self._tasks[task]
            self._finish(outcome.Error(CancelledError("the call was cancelled")), _CANCELLED)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        return self.result()

    def add_progress_callback(self, callback: Callable[[Progress], object]) -> None:
        self._call.check_progress()
        self._progress_callbacks.append(callback)

    def _set_progress(self, progress: Progress) -> None:
        self.progress = progress
        for callback in self._progress_callbacks:
            callback(progress)


WorkerFuture.register(TrioWorkerFuture)

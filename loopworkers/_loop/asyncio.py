"""The asyncio side, for uvloop too."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

import anyio

from . import Loop
from .future import Progress, WorkerFuture

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator

    from . import Signal, Timer

_NEVER = 1e8  # seconds: three years


# asyncio.get_running_loop() without the exception, which a check for every call can't afford.
_running_loop: Callable[[], asyncio.AbstractEventLoop | None] = asyncio._get_running_loop


class AsyncioLoop(Loop):
    name = "asyncio"

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.add_reader = loop.add_reader  # type: ignore[method-assign]
        self.remove_reader = loop.remove_reader  # type: ignore[method-assign, assignment]
        self.add_writer = loop.add_writer  # type: ignore[method-assign]
        self.remove_writer = loop.remove_writer  # type: ignore[method-assign, assignment]
        self.call_soon = loop.call_soon  # type: ignore[method-assign]
        self.call_soon_threadsafe = loop.call_soon_threadsafe  # type: ignore[method-assign]
        self.call_later = loop.call_later  # type: ignore[method-assign]

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        raise AssertionError("bound in __init__")

    def remove_reader(self, fd: int) -> None:
        raise AssertionError("bound in __init__")

    add_writer = add_reader
    remove_writer = remove_reader

    def call_soon(self, callback: Callable[[], None]) -> object:
        raise AssertionError("bound in __init__")

    def call_soon_threadsafe(self, callback: Callable[[], None]) -> object:
        raise AssertionError("bound in __init__")

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        raise AssertionError("bound in __init__")

    def spawn(self, job: Callable[[], Coroutine[Any, Any, None]]) -> Timer:
        task = self._loop.create_task(job())
        _background.add(task)  # the loop refers to its tasks weakly
        task.add_done_callback(_background.discard)
        return task

    def new_future(self, call: Any) -> AsyncioWorkerFuture:
        waits = call.options.on_cancel == "wait"
        future = (AwaitedToTheEnd if waits else AsyncioWorkerFuture)(loop=self._loop)
        future._call = call
        return future

    def new_signal(self) -> Signal:
        return AsyncioSignal(self._loop.create_future())

    def at_end(self, callback: Callable[[], None]) -> None:
        # asyncio.run() closes the async generators that are still open before it closes the
        # loop; no other hook tells that a loop is about to end. A loop closed by hand drops its
        # timers, and with the last reference to this one goes what it would have called.
        loop = ref(self._loop)

        def end() -> None:
            callback()
            # The generators refer to their loop, which would live as long as its entry here.
            if (key := loop()) is not None:
                _generators.pop(key, None)

        self._loop.call_later(_NEVER, _WhenDropped(end))
        generator = _until_closed(end)
        try:
            generator.__anext__().send(None)
        except StopIteration:
            pass
        _keep_alive(self._loop, generator)

    def is_running_here(self) -> bool:
        return _running_loop() is self._loop

    @property
    def key(self) -> asyncio.AbstractEventLoop:
        return self._loop


class TaskWatchingLoop(AsyncioLoop):
    """For loops without `add_reader`, that is, the default one on Windows: tasks watch instead."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._watches: dict[tuple[int, bool], asyncio.Task[None]] = {}
        self.add_reader = partial(self._watch, False)  # type: ignore[method-assign]
        self.add_writer = partial(self._watch, True)  # type: ignore[method-assign]
        self.remove_reader = partial(self._unwatch, False)  # type: ignore[method-assign]
        self.remove_writer = partial(self._unwatch, True)  # type: ignore[method-assign]

    def _watch(self, write: bool, fd: int, callback: Callable[[], None]) -> None:
        self._watches[fd, write] = self._loop.create_task(self._wait(fd, write, callback))

    def _unwatch(self, write: bool, fd: int) -> None:
        task = self._watches.pop((fd, write), None)
        if task is not None:
            anyio.notify_closing(fd)  # its number may be used again before the task has run
            task.cancel()

    async def _wait(self, fd: int, write: bool, callback: Callable[[], None]) -> None:
        this = asyncio.current_task()
        while self._watches.get((fd, write)) is this:
            try:
                await (anyio.wait_writable(fd) if write else anyio.wait_readable(fd))
            except anyio.ClosedResourceError:
                return
            if self._watches.get((fd, write)) is this:
                callback()


def adapter(loop: asyncio.AbstractEventLoop) -> AsyncioLoop:
    proactor = getattr(asyncio, "ProactorEventLoop", None)
    if proactor is not None and isinstance(loop, proactor):
        return TaskWatchingLoop(loop)
    return AsyncioLoop(loop)


class _WhenDropped:
    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback

    def __call__(self) -> None:
        """The timer's turn never comes."""

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self._callback()


async def _until_closed(callback: Callable[[], None]) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        callback()


def _keep_alive(loop: Any, generator: Any) -> None:
    # The loop refers to its generators weakly.
    _generators.setdefault(loop, []).append(generator)


_background: set[asyncio.Task[None]] = set()
_generators: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()


class AsyncioSignal:
    __slots__ = ("_future",)

    def __init__(self, future: asyncio.Future[None]) -> None:
        self._future = future

    def set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    def __await__(self) -> Generator[Any, Any, None]:
        return self._future.__await__()


class AsyncioWorkerFuture(asyncio.Future[Any]):
    """An asyncio future whose cancellation stops the call in its worker."""

    # No __init__: the C one alone is several times as fast, and one runs for every call.
    _call: Any
    progress: Progress | None = None
    _progress_callbacks: tuple[Callable[[Progress], object], ...] = ()

    def cancel(self, msg: Any = None) -> bool:
        """Stop the call as its ``on_cancel`` says.

        Returns False when the call is done, or when ``on_cancel="wait"`` lets it run to its
        end; a task that awaits it is then cancelled after the result has come.
        """
        if self.done() or not self._call.cancel():
            return False
        return super().cancel(msg)

    def add_progress_callback(self, callback: Callable[[Progress], object]) -> None:
        self._call.check_progress()
        self._progress_callbacks += (callback,)

    def _set_progress(self, progress: Progress) -> None:
        self.progress = progress
        for callback in self._progress_callbacks:
            callback(progress)


class AwaitedToTheEnd(AsyncioWorkerFuture):
    """Of a call with ``on_cancel="wait"``."""

    def __await__(self) -> Generator[Any, None, Any]:
        # anyio cancels a task anew at every turn of the loop until it leaves the scope, for as long
        # as this takes: a processor's whole time. A task in a shielded scope it leaves alone.
        with anyio.CancelScope(shield=True):  # noqa: ASYNC100 - it awaits by `yield from`
            return (yield from super().__await__())


WorkerFuture.register(AsyncioWorkerFuture)

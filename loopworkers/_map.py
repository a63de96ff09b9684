"""`WorkerPool.map`: many calls over iterables, in bounded memory."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

from ._child.chunks import run_chunk
from ._progress import Bar
from .errors import PoolFull

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
    from types import TracebackType

    from ._call import CallOptions
    from ._loop import Timer
    from ._loop.future import WorkerFuture
    from ._pool import WorkerPool

T = TypeVar("T")

_IN_FLIGHT_PER_WORKER = 32


class MapIterator(Generic[T]):
    """What `WorkerPool.map` returns: an async iterator, and an async context manager.

    Calls are started while results are consumed, so that at most ``in_flight`` are on their
    way. When it is left early, by ``break`` or otherwise, those are stopped.
    """

    def __init__(
        self,
        pool: WorkerPool,
        options: CallOptions,
        fn: Callable[..., T],
        iterables: tuple[Iterable[Any] | AsyncIterable[Any], ...],
    ) -> None:
        if not iterables:
            raise TypeError("map() needs at least one iterable")
        source = _Source(iterables)
        self._calls = _Calls(pool, options, fn, source)
        self._chunked = (options.chunksize or 1) > 1
        self._ready: deque[T] = deque()
        self._bar = Bar(source.length) if options.progress else None

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        try:
            while not self._ready:
                result = await self._calls.next_result()
                if self._chunked:
                    self._ready.extend(result)
                else:
                    self._ready.append(result)
        except BaseException:
            self._close()
            raise
        if self._bar is not None:
            self._bar.advance()
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Stop the calls that are on their way."""
        self._close()

    async def __aenter__(self) -> MapIterator[T]:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._close()

    def __del__(self) -> None:
        if hasattr(self, "_bar"):
            try:
                self._close()
            except Exception:  # the loop is over, and the pool with it
                pass

    def _close(self) -> None:
        self._ready.clear()
        self._calls.close()
        if self._bar is not None:
            self._bar.finish()


class _Calls:
    """The calls of one map. Callbacks and tasks refer to this, never to the iterator: so that
    is gone as soon as its consumer has left it, and its end ends the calls.
    """

    def __init__(
        self, pool: WorkerPool, options: CallOptions, fn: Callable[..., Any], source: _Source
    ) -> None:
        self._pool = pool
        self._options = options
        self._fn = fn
        self._source = source
        self._chunksize = options.chunksize or 1
        self._in_flight = options.in_flight or _IN_FLIGHT_PER_WORKER * pool.max_workers
        if pool._most_unsettled is not None:
            # A bounded pool is never overrun by its own map.
            self._in_flight = min(self._in_flight, max(1, pool._most_unsettled))
        self._futures: dict[WorkerFuture[Any], None] = {}  # in the order of the items
        self._finished: deque[WorkerFuture[Any]] = deque()  # in the order of their ends
        self._exhausted = False
        self._source_error: BaseException | None = None
        self._held: list[tuple[Any, ...]] = []  # a chunk for which the pool has no room
        self._feeder: Timer | None = None
        self._event: anyio.Event | None = None  # set when anything above has changed
        self._closed = False

    async def next_result(self) -> Any:
        """The result of the next call, or of a chunk; StopAsyncIteration after the last."""
        while not self._closed:
            if self._source.sync is not None:
                self._fill(self._source.sync)
            elif self._feeder is None:
                # In a task of its own: results must not wait for a source that is slow.
                self._feeder = self._pool._loop.spawn(self._feed)
            future = self._next_future()
            if future is None:
                if self._exhausted and not self._held and not self._futures:
                    break
                await self._change()
            elif future.done():
                del self._futures[future]
                self._wake()
                return future.result()
            else:
                try:
                    await future
                except Exception:  # raised by result() in the next round
                    pass
        error, self._source_error = self._source_error, None
        raise error or StopAsyncIteration

    def _next_future(self) -> WorkerFuture[Any] | None:
        if self._options.ordered:
            return next(iter(self._futures), None)
        return self._finished.popleft() if self._finished else None

    async def _change(self) -> None:
        if self._event is None:  # the feeder may be waiting as well
            self._event = anyio.Event()
        await self._event.wait()

    def _wake(self) -> None:
        if self._event is not None:
            self._event.set()
            self._event = None

    # --- starting calls ------------------------------------------------------------------

    def _fill(self, items: Iterator[tuple[Any, ...]]) -> None:
        self._start_held()
        while not (self._exhausted or self._held) and len(self._futures) < self._in_flight:
            try:
                while len(self._held) < self._chunksize:
                    self._held.append(next(items))
            except StopIteration:
                self._exhausted = True
            except Exception as error:
                # What came before it is still delivered.
                self._source_error, self._exhausted = error, True
            self._start_held()

    def _start_held(self) -> None:
        """Start the call of the chunk that is held, if there is one and the pool has room."""
        if not self._held:
            return
        try:
            self._start(self._held)
        except PoolFull:
            # Others share the pool: again after the next end of a call, be it theirs or ours.
            self._pool._settler.on_room.add(self._wake)
            return
        except Exception as error:  # an item that cannot be sent: an error in its turn
            self._source_error, self._exhausted = error, True
        self._held = []

    async def _feed(self) -> None:
        try:
            while not self._exhausted:
                while len(self._futures) >= self._in_flight:
                    await self._change()
                chunk: list[tuple[Any, ...]] = []
                try:
                    while len(chunk) < self._chunksize:
                        chunk.append(await self._source.next_async())
                except StopAsyncIteration:
                    self._exhausted = True
                except BaseException as error:
                    if not self._is_of_source(error):
                        raise
                    self._source_error, self._exhausted = error, True
                if self._closed:
                    return
                self._held = chunk
                self._start_held()
                while self._held:
                    await self._change()
                    self._start_held()
                self._wake()
        finally:
            self._exhausted = True
            self._held = []
            self._wake()

    def _is_of_source(self, error: BaseException) -> bool:
        """Whether the source has failed; otherwise its task is being cancelled."""
        if isinstance(error, Exception):
            return True
        # Under asyncio it may have waited for what somebody else had cancelled. Under trio only
        # the scope of the task itself can be meant.
        is_cancellation = isinstance(error, anyio.get_cancelled_exc_class())
        return is_cancellation and self._pool._loop.name == "asyncio" and not self._closed

    def _start(self, chunk: list[tuple[Any, ...]]) -> None:
        submit = self._pool._submit
        if self._chunksize == 1:
            future = submit(self._fn, chunk[0], {}, self._options, None)
        else:
            future = submit(run_chunk, (self._fn, chunk), {}, self._options, None)
        self._futures[future] = None
        if not self._options.ordered:
            future.add_done_callback(self._note_finished)

    def _note_finished(self, future: WorkerFuture[Any]) -> None:
        self._finished.append(future)
        self._wake()

    # --- the end -------------------------------------------------------------------------

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._feeder is not None:
            self._feeder.cancel()
        self._held = []
        # The last first: what is still waiting is dropped before what runs is stopped, so no
        # worker begins a call only to be stopped in it.
        for future in reversed(list(self._futures)):
            if not future.cancel() and future.done() and not future.cancelled():
                future.exception()  # it failed and nobody will ask: no warning about that
        self._futures.clear()
        self._finished.clear()
        self._wake()


class _Source:
    """The iterables zipped: ``sync`` if all are plain, else `next_async`."""

    def __init__(self, iterables: tuple[Any, ...]) -> None:
        lengths: list[Any] = [len(i) if hasattr(i, "__len__") else None for i in iterables]
        self.length: int | None = None if None in lengths else min(lengths)
        self.sync: Iterator[tuple[Any, ...]] | None = None
        if any(hasattr(iterable, "__aiter__") for iterable in iterables):
            self._iterators: list[Any] = [
                i.__aiter__() if hasattr(i, "__aiter__") else iter(i) for i in iterables
            ]
        else:
            self.sync = zip(*iterables, strict=False)

    async def next_async(self) -> tuple[Any, ...]:
        items: list[Any] = []
        for iterator in self._iterators:
            if hasattr(iterator, "__anext__"):
                items.append(await iterator.__anext__())
            else:
                try:
                    items.append(next(iterator))
                except StopIteration:  # which would leave a coroutine as a RuntimeError
                    raise StopAsyncIteration from None
        return tuple(items)

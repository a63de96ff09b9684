"""The values of a generator in a worker, as an async iterator."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

if TYPE_CHECKING:
    from types import TracebackType

    from ._pool import WorkerPool
    from ._wire.frames import Frame
    from ._workers.base import Worker

T = TypeVar("T")

# How long a generator may take to end after it was closed, before its worker is stopped.
_CLOSE_GRACE = 0.5
# The worker is told of consumed items in lots: one message for each would double the traffic.
_GRANT = 8


class Stream(Generic[T]):
    """What `WorkerPool.stream` returns: an async iterator, and an async context manager.

    It ends its generator when it is left: at the end of an ``async with``, by `aclose`, or
    when the last reference to it is gone, which is what a ``break`` does in
    ``async for value in pool.stream(...)``.
    """

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self.call: Any = None
        self._items: deque[T] = deque()
        self._consumed = 0
        self._ended = False
        self._error: Exception | None = None
        self._event: anyio.Event | None = None
        self._closed = False

    def __aiter__(self) -> Stream[T]:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._ended or self._closed:
                error, self._error = self._error, None
                if error is not None:
                    raise error
                raise StopAsyncIteration
            if self._event is None:  # several may wait for the next value
                self._event = anyio.Event()
            await self._event.wait()
        value = self._items.popleft()
        self._consumed += 1
        if self._consumed >= _GRANT and not self._ended and self.call.worker is not None:
            self.call.worker.grant(self.call, self._consumed)
            self._consumed = 0
        return value

    async def aclose(self) -> None:
        """End the generator; the values it has sent already are dropped."""
        self._close()

    async def __aenter__(self) -> Stream[T]:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._close()

    def __del__(self) -> None:
        if self.call is not None and not self._ended:
            try:
                self._close()
            except Exception:  # the loop is over, and the pool with it
                pass

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._items.clear()
        self._wake()
        if not self._ended:
            self._pool._close_stream(self.call, _CLOSE_GRACE)

    # --- called by the pool -------------------------------------------------------------------

    def on_item(self, worker: Worker, frame: Frame, body: Any) -> None:
        if self._closed or self._ended:  # ended: an item before this one could not be rebuilt
            return
        try:
            self._items.append(worker.value(frame, body))
        except BaseException as error:
            from ._settle import broken_result

            self._error = broken_result(self.call, error)
            self._ended = True
            self._pool._close_stream(self.call, _CLOSE_GRACE)
        self._wake()

    def on_end(self, error: Exception | None) -> None:
        if not self._ended:
            self._error = error
            self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._event is not None:
            self._event.set()
            self._event = None

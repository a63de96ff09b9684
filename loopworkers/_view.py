"""Running calls: `run`, `map`, `stream`, under the options of a pool or of a view of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Coroutine, Iterable

    from ._call import CallOptions
    from ._loop.future import WorkerFuture
    from ._map import MapIterator
    from ._pool import WorkerPool
    from ._stream import Stream

P = ParamSpec("P")
T = TypeVar("T")


class PoolView:
    """Runs calls on a pool under options of its own; see `WorkerPool.options`."""

    _pool: WorkerPool
    _options: CallOptions

    @overload
    def run(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> WorkerFuture[T]: ...
    @overload
    def run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> WorkerFuture[T]: ...
    def run(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> WorkerFuture[Any]:
        """Start ``fn(*args, **kwargs)`` in a worker; await the future for its value.

        Args:
            fn: any callable; ``async def`` functions run to their end on a loop of the
                worker's own. What the worker cannot import travels by value.

        Raises, at once:
            PoolFull: ``max_pending`` calls are waiting.
            PoolClosed: the pool is closed, or is not this loop's or this process's.
            NotTransferable: the function or an argument cannot be pickled.

        The future raises what ``fn`` raised, `WorkerDied`, `CallTimeout`, or `NotTransferable`
        if the result cannot be pickled. Cancelling it stops the call as ``on_cancel`` says.
        """
        return self._pool._submit(fn, args, kwargs, self._options, None)  # type: ignore[no-any-return]

    @overload
    def map(
        self,
        fn: Callable[..., Coroutine[Any, Any, T]],
        /,
        *iterables: Iterable[Any] | AsyncIterable[Any],
        chunksize: int | None = None,
        in_flight: int | None = None,
        ordered: bool | None = None,
        progress: bool | None = None,
    ) -> MapIterator[T]: ...
    @overload
    def map(
        self,
        fn: Callable[..., T],
        /,
        *iterables: Iterable[Any] | AsyncIterable[Any],
        chunksize: int | None = None,
        in_flight: int | None = None,
        ordered: bool | None = None,
        progress: bool | None = None,
    ) -> MapIterator[T]: ...
    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any] | AsyncIterable[Any],
        chunksize: int | None = None,
        in_flight: int | None = None,
        ordered: bool | None = None,
        progress: bool | None = None,
    ) -> MapIterator[Any]:
        """Call ``fn`` with the items of the iterables, in workers, and iterate over the results.

        Args:
            iterables: sync or async, zipped as by `map`; may be endless: items are taken only
                as results are consumed.
            chunksize: how many items make one call, default 1. Several share the cost of a
                call, and its fate: if the worker dies, they all fail.
            in_flight: how many calls may be on their way, default 32 for each worker.
            ordered: results in the order of the items (default), or as they come.
            progress: show a bar on stderr, if that is a terminal.

        The iteration raises the first exception of a call, in order. Leaving it, by ``break``,
        an exception or cancellation, stops the calls that are on their way.
        """
        from ._map import MapIterator

        given = {
            "chunksize": chunksize,
            "in_flight": in_flight,
            "ordered": ordered,
            "progress": progress,
        }
        options = self._options.but(**{k: v for k, v in given.items() if v is not None})
        return MapIterator(self._pool, options, fn, iterables)

    @overload
    def stream(
        self, genfn: Callable[P, AsyncIterable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Stream[T]: ...
    @overload
    def stream(
        self, genfn: Callable[P, Iterable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Stream[T]: ...
    def stream(self, genfn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Stream[Any]:
        """Run a generator function in a worker and iterate over its values as they come.

        The generator is at most 16 values ahead of the consumer, then it waits. Leaving the
        ``async for`` closes it; if it does not end within half a second its worker is stopped
        (unless ``on_cancel`` says otherwise). Raises as `run` does, what the generator raises
        from the iteration. The worker serves no other call meanwhile. An engine runs no
        generators: EngineUnsupported.
        """
        from ._stream import Stream

        self._pool._backing.check_streams()
        stream: Stream[Any] = Stream(self._pool)
        self._pool._submit(genfn, args, kwargs, self._options, stream)
        return stream

    def options(self, **overrides: Any) -> PoolView:
        """A view of the pool whose calls have other options.

        Args:
            overrides: ``timeout``, ``retries``, ``on_cancel``, and for `map` ``chunksize``,
                ``in_flight``, ``ordered``, ``progress``; ``resources``, a mapping of names to
                amounts, for engines that know of resources.
        """
        view = PoolView()
        view._pool = self._pool
        try:
            view._options = self._options.but(**overrides)
        except TypeError:
            known = ", ".join(type(self._options).__dataclass_fields__)
            raise TypeError(
                f"unknown call options in {sorted(overrides)}; known are {known}"
            ) from None
        self._pool._backing.check(view._options)
        return view

"""Calls of the workers of an application, under options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from loopworkers import PoolFull

from ._iterations import begun

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Coroutine, Iterable
    from types import TracebackType

    from loopworkers import WorkerFuture

    from ._workers import Workers

try:
    from ._telemetry import run_traced, traced
except ImportError:  # opentelemetry-api is not installed

    def run_traced(
        view: Any, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return view.run(fn, *args, **kwargs)

    def traced(fn: Callable[..., Any]) -> Callable[..., Any]:
        return fn


P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Values(Protocol[T_co]):
    """What `Calls.map` and `Calls.stream` return: an async iterator that can be closed early."""

    def __aiter__(self) -> Values[T_co]: ...
    async def __anext__(self) -> T_co: ...
    async def aclose(self) -> None: ...
    async def __aenter__(self) -> Values[T_co]: ...
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None: ...


class Calls:
    """Runs calls in the workers of an application; see `Calls.options`."""

    def __init__(self, workers: Workers, overrides: dict[str, Any]) -> None:
        self._workers = workers
        self._overrides = overrides

    @property
    def _view(self) -> Any:
        pool = self._workers.pool
        return pool.options(**self._overrides) if self._overrides else pool

    @overload
    def run(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> WorkerFuture[T]: ...
    @overload
    def run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> WorkerFuture[T]: ...
    def run(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> WorkerFuture[Any]:
        """Start ``fn(*args, **kwargs)`` in a worker; as `loopworkers.WorkerPool.run`.

        Raises at once `PoolFull`, `PoolClosed` outside of the application's lifetime, and
        `NotTransferable`. The future raises what ``fn`` raised, `WorkerDied` or `CallTimeout`.
        Cancelling it, or the handler that awaits it, stops the call.
        """
        try:
            return run_traced(self._view, fn, args, kwargs)  # type: ignore[no-any-return]
        except PoolFull:
            self._workers._on_refused()
            raise

    @overload
    def map(
        self,
        fn: Callable[..., Coroutine[Any, Any, T]],
        /,
        *iterables: Iterable[Any] | AsyncIterable[Any],
        **options: Any,
    ) -> Values[T]: ...
    @overload
    def map(
        self,
        fn: Callable[..., T],
        /,
        *iterables: Iterable[Any] | AsyncIterable[Any],
        **options: Any,
    ) -> Values[T]: ...
    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any] | AsyncIterable[Any],
        **options: Any,
    ) -> Values[Any]:
        """Call ``fn`` with the items, in workers, and iterate over the results.

        Args:
            iterables: sync or async, zipped; may be endless.
            options: ``chunksize``, ``in_flight``, ``ordered``, ``progress``; as in
                `loopworkers.WorkerPool.map`.

        Leaving the iteration, as a cancelled handler does, stops the calls on their way.
        """
        return begun(self._view.map(traced(fn), *iterables, **options))  # type: ignore[no-any-return]

    @overload
    def stream(
        self, genfn: Callable[P, AsyncIterable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Values[T]: ...
    @overload
    def stream(
        self, genfn: Callable[P, Iterable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Values[T]: ...
    def stream(self, genfn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Values[Any]:
        """Run a generator function in a worker and iterate over its values as they come.

        As `loopworkers.WorkerPool.stream`: at most 16 values ahead of the consumer, closed when
        it leaves. Raises as `run` does.
        """
        genfn = traced(genfn)
        try:
            return begun(self._view.stream(genfn, *args, **kwargs))  # type: ignore[no-any-return]
        except PoolFull:
            self._workers._on_refused()
            raise

    def options(self, **overrides: Any) -> Calls:
        """The same workers under other options, for single calls.

        Args:
            overrides: ``timeout``, ``retries``, ``on_cancel``, and for `map` ``chunksize``,
                ``in_flight``, ``ordered``, ``progress``; checked when the first call is made.
        """
        return Calls(self._workers, {**self._overrides, **overrides})

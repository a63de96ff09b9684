"""`run_in_worker` and the pool it runs on when none is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from . import _registry
from ._loop import current
from ._pool import EngineName, Kind, WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ._loop.future import WorkerFuture

P = ParamSpec("P")
T = TypeVar("T")


@overload
def run_in_worker(
    fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
) -> WorkerFuture[T]: ...
@overload
def run_in_worker(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> WorkerFuture[T]: ...
def run_in_worker(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> WorkerFuture[Any]:
    """Start ``fn(*args, **kwargs)`` in a worker of the current pool; see `WorkerPool.run`.

    The pool is that of the innermost ``async with WorkerPool(...)`` around the call, else the
    event loop's own pool of worker processes, which is opened at first use and ends with the
    loop.
    """
    return current_pool().run(fn, *args, **kwargs)


def current_pool(kind: Kind | EngineName | None = None) -> WorkerPool:
    """The innermost open pool, else this loop's default pool of that kind.

    Args:
        kind: "process", "isolate", "thread" or the name of an engine; None takes any open
            pool, and processes if there is none.

    Raises RuntimeError where no event loop runs.
    """
    loop = current()
    pool = _registry.innermost(loop, kind)
    if pool is not None:
        return pool

    def make() -> WorkerPool:
        pool = WorkerPool(kind or "process", name=f"default {kind or 'process'} pool")
        pool._open()
        return pool

    return _registry.default(loop, kind or "process", make)

"""Which pools are open in which loop: the default ones, and the innermost of a block."""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

if TYPE_CHECKING:
    from typing import Protocol

    from ._loop import Loop
    from ._pool import WorkerPool

    class Ending(Protocol):
        """A pool or a worker: what must end with its loop."""

        def _abort(self) -> None: ...


_entered: ContextVar[tuple[WorkerPool, ...]] = ContextVar("loopworkers_entered", default=())
_open: WeakKeyDictionary[Any, dict[Ending, None]] = WeakKeyDictionary()
_default: WeakKeyDictionary[Any, dict[str, WorkerPool]] = WeakKeyDictionary()


def enter(pool: WorkerPool) -> Token[tuple[WorkerPool, ...]]:
    return _entered.set((*_entered.get(), pool))


def leave(token: Token[tuple[WorkerPool, ...]]) -> None:
    try:
        _entered.reset(token)
    except ValueError:
        pass  # left in another task than it was entered in, as fixtures do


def register(loop: Loop, pool: Ending) -> None:
    pools = _open.get(loop.key)
    if pools is None:
        pools = _open[loop.key] = {}
        key = ref(loop.key)
        loop.at_end(lambda: _end(key, pools))
    pools[pool] = None


def unregister(loop: Loop, pool: Ending) -> None:
    pools = _open.get(loop.key)
    if pools is not None:
        pools.pop(pool, None)


def _end(key: ref[Any], pools: dict[Ending, None]) -> None:
    for pool in reversed(list(pools)):  # what the last was started from, the first may be
        pool._abort()
    # They refer to their loop, which would live as long as its entry here.
    if (ended := key()) is not None:
        _default.pop(ended, None)


def innermost(loop: Loop, kind: str | None) -> WorkerPool | None:
    """The pool of the innermost block around the caller, of this kind if one is named."""
    for pool in reversed(_entered.get()):
        if pool._state == "open" and pool._loop.key is loop.key and kind in (None, pool.kind):
            return pool
    return None


def default(loop: Loop, kind: str, make: Any) -> WorkerPool:
    """The loop's own pool of this kind, opened at first use."""
    pools = _default.setdefault(loop.key, {})
    pool = pools.get(kind)
    if pool is None or pool._state != "open" or not pool._is_this_process():
        pool = pools[kind] = make()
    return pool

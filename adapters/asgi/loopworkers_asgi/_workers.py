"""`Workers`: one pool for an application's lifetime."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from loopworkers import LoopDelay, PoolClosed, PoolStats, WorkerPool, loop_delay

from ._calls import Calls
from ._metrics import CallFigures, render

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from loopworkers import CallEnd
    from loopworkers.engines import Engine

    Kind: TypeAlias = "Literal['process', 'isolate', 'thread', 'dask'] | Engine"

_STARTED_HERE = ("process", "isolate", "thread")


class Readiness(NamedTuple):
    """Whether requests should be sent here, and in a few words why or why not."""

    is_ready: bool
    why: str


class Workers(Calls):
    """The workers of an application: a `loopworkers.WorkerPool` that opens and closes with it.

    Made where the application is, opened in its lifespan (``async with workers``, or
    `Lifespan`), and used in its handlers. It can be opened again after it was closed.

    Args:
        kind: "process", "isolate" or "thread"; or an engine, as `loopworkers.WorkerPool` takes it.
            One that is an object serves one life of the application, one by name any number.
        min_workers: how many are started with the application and kept; until they have
            started, `readiness` says no. Default: 1. An engine starts its workers itself, and
            is ready while it has one.
        grace: seconds that calls may still take when the application ends, before they are
            stopped. None: as long as they take.
        measure_loop: whether to measure how late the event loop is, for `metrics`.
        name: for logs and for the label ``pool`` of `metrics`.
        pool_options: the other options of `loopworkers.WorkerPool`, ``max_workers``,
            ``max_pending`` and ``timeout`` among them. They are checked here.

    With several server processes each has workers of its own.
    """

    def __init__(
        self,
        kind: Kind = "process",
        *,
        min_workers: int | None = None,
        grace: float | None = 10.0,
        measure_loop: bool = True,
        name: str = "workers",
        **pool_options: Any,
    ) -> None:
        super().__init__(self, {})
        self.name = name
        if min_workers is None and kind in _STARTED_HERE:
            min_workers = 1
        if min_workers is not None:
            pool_options["min_workers"] = min_workers
        self._options: dict[str, Any] = {"kind": kind, "name": name, **pool_options}
        WorkerPool(**self._options)  # raises for what is wrong with them
        self._min_workers = 1 if min_workers is None else min_workers
        self._grace = grace
        self._measure_loop = measure_loop
        self._pool: WorkerPool | None = None
        self._stack = AsyncExitStack()
        self._delay: LoopDelay | None = None
        self._figures = CallFigures()
        self._observers: list[Callable[[CallEnd], object]] = []
        self._is_warm = False
        self._is_draining = False

    def __repr__(self) -> str:
        return f"<Workers {self.name!r} {self.readiness().why}>"

    # --- opening and closing -------------------------------------------------------------------

    async def __aenter__(self) -> Workers:
        if self._pool is not None:
            raise RuntimeError(
                f"{self!r} are open already: each application, and each event loop, needs Workers "
                "of its own"
            )
        pool = WorkerPool(**self._options)
        self._figures = CallFigures()
        self._is_warm = self._is_draining = False
        pool.observe(self._figures)
        for observer in self._observers:
            pool.observe(observer)
        await self._stack.enter_async_context(pool)
        if self._measure_loop:
            self._delay = self._stack.enter_context(loop_delay())
        self._pool = pool
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.drain()
        pool, self._pool = self._pool, None
        try:
            if pool is not None:
                await pool.aclose(self._grace if exc_type is None else 0)
        finally:
            await self._stack.aclose()

    @property
    def is_open(self) -> bool:
        """Whether this is within the application's life."""
        return self._pool is not None

    @property
    def pool(self) -> WorkerPool:
        """The open pool; before and after the application's life it raises `PoolClosed`."""
        if self._pool is None:
            raise PoolClosed(
                f"{self!r}: they live from the application's start-up to its shutdown. Open them "
                "in its lifespan (`async with workers:`), or wrap it: `with_workers(app, workers)`"
            )
        return self._pool

    def drain(self) -> None:
        """Say from now on that no more requests should be sent here; calls go on as before."""
        self._is_draining = True

    def _on_refused(self) -> None:
        self._figures.refused += 1

    def observe(self, observer: Callable[[CallEnd], object]) -> None:
        """Have ``observer(end)`` called at the end of each call, in this life and later ones.

        See `loopworkers.WorkerPool.observe`.
        """
        self._observers.append(observer)
        if self._pool is not None:
            self._pool.observe(observer)

    # --- figures ---------------------------------------------------------------------------------

    def stats(self) -> PoolStats:
        """The pool's figures at this moment; raises as `pool` does."""
        return self.pool.stats()

    def readiness(self) -> Readiness:
        """Whether requests should be sent here.

        That is so once ``min_workers`` have started, while at least one is there, and until
        `drain` or the end of the application.
        """
        if self._pool is None:
            return Readiness(False, "not open")
        if self._is_draining:
            return Readiness(False, "draining")
        needed = min(1, self._min_workers) if self._is_warm else self._min_workers
        ready = self._pool.stats().ready
        if not ready and self._options["kind"] not in _STARTED_HERE:
            return Readiness(False, "the engine has no workers, or is out of reach")
        if ready < needed:
            return Readiness(False, f"{ready} of {needed} workers have started")
        self._is_warm = True
        return Readiness(True, "ready")

    def metrics(self) -> str:
        """The figures since the opening, in Prometheus's text format; raises as `pool` does."""
        stats = self.stats()
        return render(self.name, stats, self._figures, self._delay, self.readiness().is_ready)

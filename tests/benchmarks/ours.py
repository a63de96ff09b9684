"""loopworkers, through its public names only."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from loopworkers import Worker, WorkerPool

from .peers import Opener, Side

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from typing import Any


@asynccontextmanager
async def _pool(kind: str, workers: int) -> AsyncIterator[Side]:
    async with WorkerPool(kind, max_workers=workers) as pool:
        yield Side(call=pool.run, map=pool.map)


def opener(key: str) -> Opener:
    """`process`, `isolate`, `thread`; what follows a dash names the loop, not the pool."""
    kind = key.partition("-")[0]
    if kind == "isolate":
        # 3.11-3.13 have no isolates: say so before anything is measured.
        from concurrent.futures import InterpreterPoolExecutor  # noqa: F401
    return partial(_pool, kind)


def worker(key: str, target: Callable[..., Any]) -> Worker:
    """One that stays, of a kind as in `opener`."""
    kind: Any = key.partition("-")[0]
    return Worker(target, kind=kind)

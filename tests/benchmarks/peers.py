"""The peers: each behind the same two-line contract, called as its own documentation shows it.

What a peer needs to be imported is imported in `opener`, before any clock runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any


@dataclass
class Side:
    """An open pool: `await side.call(fn, *args)`."""

    call: Callable[..., Awaitable[Any]]
    map: Callable[..., Any] | None = None
    # For pools that a worker's death breaks for good: put a new one in the place of the old.
    reopen: Callable[[], None] | None = None

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """The same as a coroutine, for what wants one and not just something to await."""
        return await self.call(function, *args)

    async def burst(self, function: Callable[..., Any], calls: int) -> None:
        """So many calls, all of them started before one is awaited."""
        for started in [self.call(function) for _ in range(calls)]:
            await started


Opener = Callable[[int], AbstractAsyncContextManager[Side]]


@asynccontextmanager
async def _executor(make: Callable[[int], Any], workers: int) -> AsyncIterator[Side]:
    import asyncio

    loop = asyncio.get_running_loop()
    executor = make(workers)

    def call(function: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        return loop.run_in_executor(executor, function, *args)

    def reopen() -> None:
        nonlocal executor
        executor.shutdown(wait=False)
        executor = make(workers)

    try:
        yield Side(call, reopen=reopen)
    finally:
        await asyncio.to_thread(executor.shutdown)


def _ppe() -> Opener:
    from concurrent.futures import ProcessPoolExecutor

    return partial(_executor, ProcessPoolExecutor)


def _ipe() -> Opener:
    from concurrent.futures import InterpreterPoolExecutor

    return partial(_executor, InterpreterPoolExecutor)


def _tpe() -> Opener:
    from concurrent.futures import ThreadPoolExecutor

    return partial(_executor, ThreadPoolExecutor)


def _loky() -> Opener:
    from loky import ProcessPoolExecutor

    return partial(_executor, ProcessPoolExecutor)


def _anyio(name: str) -> Opener:
    import importlib

    import anyio

    run_sync = importlib.import_module(f"anyio.{name}").run_sync
    if name == "to_interpreter":
        # It raises on the first call only, and its module imports everywhere.
        from concurrent.futures import InterpreterPoolExecutor  # noqa: F401

    @asynccontextmanager
    async def open_side(workers: int) -> AsyncIterator[Side]:
        yield Side(partial(run_sync, limiter=anyio.CapacityLimiter(workers)))

    return open_side


def _trio_parallel() -> Opener:
    import trio
    import trio_parallel

    @asynccontextmanager
    async def open_side(workers: int) -> AsyncIterator[Side]:
        async with trio_parallel.open_worker_context() as context:
            yield Side(partial(context.run_sync, limiter=trio.CapacityLimiter(workers)))

    return open_side


_OPENERS: dict[str, Callable[[], Opener]] = {
    "ppe": _ppe,
    "ipe": _ipe,
    "tpe": _tpe,
    "loky": _loky,
    "anyio-process": partial(_anyio, "to_process"),
    "anyio-isolate": partial(_anyio, "to_interpreter"),
    "trio-parallel": _trio_parallel,
}


def opener(key: str) -> Opener:
    """Import the peer and give back what opens it; its absence is the ImportError to report."""
    return _OPENERS[key]()

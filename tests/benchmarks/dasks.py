"""A Dask cluster for each contender, and the ways to call it: through a pool, and bare."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .peers import Opener, Side

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator


@contextmanager
def _process(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", *command, "--no-dashboard"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def _cluster(workers: int) -> Iterator[str]:
    """A scheduler and workers of one thread each, on loopback; the file that says where."""
    from distributed import Client

    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        file = str(Path(folder) / "scheduler.json")
        where = ("--host", "127.0.0.1", "--scheduler-file", file)
        stack.enter_context(_process("scheduler", *where, "--port", "0", "--no-show"))
        for number in range(workers):
            own = ("--nthreads", "1", "--no-nanny", "--local-directory", f"{folder}/{number}")
            stack.enter_context(_process("worker", *where, *own))
        with Client(scheduler_file=file, set_as_default=False, timeout=60) as client:
            client.wait_for_workers(workers)
        yield file


class _Bare(Side):
    """All calls by one request for all results, as Dask's users have it fastest."""

    client: Any
    start: Callable[[Callable[..., Any], int], list[Any]]

    async def burst(self, function: Callable[..., Any], calls: int) -> None:
        await self.client.gather(self.start(function, calls))


def _submit(client: Any, function: Callable[..., Any], calls: int) -> list[Any]:
    return [client.submit(function, pure=False) for _ in range(calls)]


def _map(client: Any, function: Callable[..., Any], calls: int) -> list[Any]:
    # It takes an argument for each call; nobody needs it.
    return client.map(lambda _: function(), range(calls), pure=False)


@asynccontextmanager
async def _bare(start: Any, workers: int) -> AsyncIterator[Side]:
    from distributed import Client

    with _cluster(workers) as file:
        async with Client(scheduler_file=file, asynchronous=True) as client:
            side = _Bare(partial(client.submit, pure=False))
            side.client, side.start = client, partial(start, client)
            yield side


@asynccontextmanager
async def _pool(workers: int) -> AsyncIterator[Side]:
    from loopworkers_dask import DaskEngine

    from loopworkers import WorkerPool

    with _cluster(workers) as file:
        async with WorkerPool(DaskEngine(scheduler_file=file)) as pool:
            yield Side(pool.run, map=pool.map)


def opener(key: str) -> Opener:
    """Import what it takes, whose absence is the ImportError to report."""
    import distributed  # noqa: F401

    if key.startswith("dask-pool"):
        import loopworkers_dask  # noqa: F401

        return _pool
    return partial(_bare, {"dask-submit": _submit, "dask-map": _map}[key])

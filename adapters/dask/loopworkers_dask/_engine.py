"""`DaskEngine`: the connection to a cluster."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Future
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Any

import dask.config
from distributed import Client

from loopworkers import EngineFailed
from loopworkers.engines import Capabilities, Engine

from ._once import RunOnce
from ._tasks import Tasks
from ._versions import check_versions

if TYPE_CHECKING:
    from distributed.security import Security

    from loopworkers.engines import Job

_logger = logging.getLogger("loopworkers")

_COUNT_EVERY = 2.0  # seconds


class DaskEngine(Engine):
    """Runs the calls of a pool on the workers of a Dask cluster.

    Args:
        address: of the scheduler, "tcp://host:8786" or "tls://host:8786", or a Dask cluster object.
            Default: where Dask's own client finds it, that is, its configuration or
            ``DASK_SCHEDULER_ADDRESS``.
        security: a `distributed.Security`, for TLS.
        timeout: seconds in which the scheduler must answer; opening takes four times that at most.
        at_most_once: never run a call a second time, whatever dies. Dask itself repeats a task
            whose worker has died, or whose result was lost with its worker; a small plugin in the
            scheduler keeps it from doing so with these calls. False leaves the scheduler alone.
        client_options: for `distributed.Client`.

    The scheduler and the workers need the versions of Python, loopworkers and loopworkers-dask that
    are here.

    Dask cannot end a body that runs. When its call is cancelled or times out, the next
    `report_progress` in it raises CallStopped; without one it runs to its end. Either way the call
    keeps its place until then.
    """

    name = "dask"

    def __init__(
        self,
        address: Any = None,
        *,
        security: Security | None = None,
        timeout: float = 5.0,
        at_most_once: bool = True,
        **client_options: Any,
    ) -> None:
        self.capabilities = Capabilities(at_most_once=at_most_once, resources=True, progress=True)
        self._address = address
        self._timeout = timeout
        self._options = {"security": security, **client_options}
        self._size = 0
        self._thread: Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._closing: asyncio.Event
        self._tasks: Tasks

    def open(self) -> None:
        if self._thread is not None:
            raise EngineFailed("this DaskEngine has had a pool: make one for each pool")
        opened: Future[None] = Future()
        self._thread = Thread(
            target=lambda: asyncio.run(self._serve(opened)), name="loopworkers dask", daemon=True
        )
        self._thread.start()
        try:
            opened.result()
        except BaseException:
            self._thread.join()
            raise

    def close(self) -> None:
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    def size(self) -> int:
        return 0 if self._tasks.is_lost() else self._size

    def submit(self, job: Job) -> Future[bytes]:
        return self._tasks.submit(job)

    def stop(self, future: Future[bytes]) -> None:
        self._tasks.stop(future)

    # --- the thread --------------------------------------------------------------------------

    async def _serve(self, opened: Future[None]) -> None:
        """A loop for Dask's client alone: it knows asyncio only, and the pool may be on trio."""
        try:
            client = await self._connect()
        except BaseException as error:
            opened.set_exception(error)
            return
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        opened.set_result(None)
        counting = asyncio.ensure_future(self._count(client))
        await self._closing.wait()
        counting.cancel()
        self._tasks.leave()
        await _close(client, self._timeout)

    async def _connect(self) -> Any:
        config: Any = dask.config
        address = self._address or config.get("scheduler-address", None)
        if address is None and "scheduler_file" not in self._options:
            # Dask would start a cluster of its own on this machine.
            raise EngineFailed(
                "which Dask scheduler? Pass its address, DaskEngine('tcp://...'), or set "
                "DASK_SCHEDULER_ADDRESS"
            )
        make: Any = Client
        client = make(
            address,
            asynchronous=True,
            set_as_default=False,
            timeout=self._timeout,
            **self._options,
        )
        try:
            # The client's own limit is for the first answer; of later ones the same is expected.
            await asyncio.wait_for(_started(client), 2 * self._timeout)
            await asyncio.wait_for(self._set_up(client), 2 * self._timeout)
        except BaseException as error:  # a TypeError, for one, if TLS is wanted and not set up
            await _close(client, self._timeout)
            if isinstance(error, EngineFailed) or not isinstance(error, Exception):
                raise
            raise EngineFailed(
                f"no Dask scheduler answers at {address} within {self._timeout} s "
                f"({str(error) or 'it has begun to, and says no more'}); see that it runs, and "
                "whether it wants TLS"
            ) from error
        return client

    async def _set_up(self, client: Any) -> None:
        await check_versions(client, self._timeout)
        if self.capabilities.at_most_once:
            await client.register_plugin(RunOnce())
        self._size = sum((await client.nthreads()).values())
        self._tasks = Tasks(client)

    async def _count(self, client: Any) -> None:
        """Workers come and go."""
        while True:
            await asyncio.sleep(_COUNT_EVERY)
            with suppress(Exception):  # the scheduler is gone, which `Tasks.is_lost` tells
                self._size = sum((await client.nthreads()).values())


async def _started(client: Any) -> None:
    await client


async def _close(client: Any, timeout: float) -> None:
    try:
        await asyncio.wait_for(client.close(), timeout)
    except Exception as error:  # nobody to tell, and nothing that could be done about it
        _logger.debug("closing Dask's client failed: %r", error)

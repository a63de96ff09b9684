"""The primary of `loopworkers serve`: a cluster, and the signals that people expect."""

from __future__ import annotations

import logging
import signal
import sys
from typing import TYPE_CHECKING, Any

import anyio

from .._cluster.cluster import Cluster
from .._cluster.events import (
    WorkerDraining,
    WorkerKilled,
    WorkerReady,
    WorkerRestarting,
)
from ..errors import ClusterFailed
from . import worker
from .application import ApplicationError
from .watch import changes

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from .._cluster.events import EventStream
    from .._cluster.options import Recycle
    from .._cluster.policies import Policy

_logger = logging.getLogger("loopworkers.serve")


async def serve(
    name: str,
    options: dict[str, Any],
    *,
    bind: Sequence[str],
    workers: int | None,
    kind: Any,
    policy: Policy,
    backend: Any,
    recycle: Recycle | None,
    max_connections: int | None,
    unresponsive: float | None,
    reload_on: Sequence[str],
) -> int:
    """Serve until told to stop by a signal; the program's exit code."""
    cluster = Cluster(
        worker.serve,
        name,
        options,
        workers=workers,
        kind=kind,
        listen=bind,
        policy=policy,
        backend=backend,
        recycle=recycle,
        max_connections=max_connections,
        unresponsive=unresponsive,
        grace=options["grace"],
        backlog=options["backlog"],
    )
    failure: Exception | None = None
    with anyio.open_signal_receiver(*_SIGNALS) as signals:
        async with anyio.create_task_group() as group:
            try:
                async with cluster:
                    group.start_soon(_report, cluster.events())
                    group.start_soon(_obey, cluster, signals, group.start_soon)
                    await cluster.ready()
                    for url in cluster.addresses:
                        _logger.info("serving %s on %s", name, _http(url, options))
                    if reload_on:
                        group.start_soon(_reload_on_change, cluster, reload_on)
                    await cluster.wait()
            except (ClusterFailed, OSError, ValueError) as error:  # of addresses, too
                failure = error
            group.cancel_scope.cancel()
    if failure is not None:
        print(f"error: {_reason(failure)}", file=sys.stderr)
    return 0 if failure is None else 1


def _http(url: str, options: dict[str, Any]) -> str:
    return url.replace("tcp://", "https://" if options["certfile"] else "http://")


def _reason(failure: Exception) -> str:
    cause = failure.__cause__
    return str(cause if type(cause).__name__ == ApplicationError.__name__ else failure)


# --- signals ----------------------------------------------------------------------------------

_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGTTIN", "SIGTTOU")
    if hasattr(signal, name)
]


async def _obey(cluster: Cluster, signals: Any, start: Callable[..., object]) -> None:
    is_finishing = False
    async for number in signals:
        name = signal.Signals(number).name
        if number in (signal.SIGINT, signal.SIGTERM):
            # Who types Ctrl-C again is impatient. Programs send TERM twice without that in mind:
            # timeout(1) does, to the process and to its group.
            if not is_finishing:
                is_finishing = True
                _logger.info("%s: finishing", name)
                start(cluster.drain)
            elif number == signal.SIGINT:
                _logger.info("%s: ending at once", name)
                start(cluster.drain, 0)
        elif name == "SIGHUP":
            start(_try, name, cluster.reload)
        else:
            step = 1 if name == "SIGTTIN" else -1
            start(_try, name, lambda step=step: cluster.scale(max(1, cluster.size + step)))


async def _try(name: str, action: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        await action()
    except (ClusterFailed, RuntimeError) as error:
        _logger.error("%s: %s", name, error.__cause__ or error)


async def _reload_on_change(cluster: Cluster, folders: Sequence[str]) -> None:
    async for path in changes(folders):
        _logger.info("%s changed: reloading", path)
        await _try("reload", cluster.reload)


# --- what is logged ---------------------------------------------------------------------------


async def _report(events: EventStream) -> None:
    async for event in events:
        if isinstance(event, WorkerReady):
            _logger.info("worker %s is ready", _name(event.worker))
        elif isinstance(event, WorkerDraining):
            _logger.info("worker %s finishes (%s)", _name(event.worker), event.reason)
        elif isinstance(event, WorkerKilled):
            _logger.warning("worker %s is ended by force (%s)", _name(event.worker), event.reason)
        elif isinstance(event, WorkerRestarting):
            _logger.info("worker %s is replaced in %.1f s", event.worker.id, event.delay)


def _name(worker: Any) -> str:
    return f"{worker.id} (process {worker.pid})" if worker.pid else str(worker.id)

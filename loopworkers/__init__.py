"""CPU work in async Python that never blocks the event loop.

    from loopworkers import run_in_worker

    value = await run_in_worker(fn, *args)

The names below are loaded at first use: worker processes import this package before their
first call, and need none of them. Layers, each of which imports only from those before it:

    errors, _wire       what both sides share: frames, values, failures
    _loop               where asyncio and trio differ
    _ports, _shared     messages and memory between any two places
    _child              the worker's side
    _workers            one worker as the loop sees it: channel, process, isolate, thread
    _call, _settle, _dispatch, _pool, ...    calls, their placing and their ends
    _engine, engines    calls that run elsewhere
    _cluster            listening sockets shared among workers
    _serve, _cli        the command line
    joblib, _joblib     a backend for joblib; imported by its name only
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._broadcast import Broadcast as Broadcast
    from ._child.reports import report_progress as report_progress
    from ._child.resident import current_worker as current_worker
    from ._cluster.cluster import Cluster as Cluster
    from ._cluster.events import ClusterEvent as ClusterEvent
    from ._cluster.events import ClusterStopped as ClusterStopped
    from ._cluster.events import EventStream as EventStream
    from ._cluster.events import WorkerDraining as WorkerDraining
    from ._cluster.events import WorkerExited as WorkerExited
    from ._cluster.events import WorkerKilled as WorkerKilled
    from ._cluster.events import WorkerReady as WorkerReady
    from ._cluster.events import WorkerRestarting as WorkerRestarting
    from ._cluster.events import WorkerStarted as WorkerStarted
    from ._cluster.member import Member as Member
    from ._cluster.member import Stopping as Stopping
    from ._cluster.options import Recycle as Recycle
    from ._cluster.options import Restart as Restart
    from ._cluster.worker import ClusterWorker as ClusterWorker
    from ._engine.executor import ExecutorEngine as ExecutorEngine
    from ._executor import WorkerExecutor as WorkerExecutor
    from ._figures import Utilization as Utilization
    from ._loop.future import Progress as Progress
    from ._loop.future import WorkerFuture as WorkerFuture
    from ._loop_delay import LoopDelay as LoopDelay
    from ._loop_delay import loop_delay as loop_delay
    from ._pool import WorkerPool as WorkerPool
    from ._ports.port import BlockingPort as BlockingPort
    from ._ports.port import MessagePort as MessagePort
    from ._ports.port import channel as channel
    from ._request import on_request as on_request
    from ._request import request as request
    from ._run import current_pool as current_pool
    from ._run import run_in_worker as run_in_worker
    from ._shared.atomic import AtomicInt64 as AtomicInt64
    from ._shared.buffer import SharedBuffer as SharedBuffer
    from ._shared.event import SharedEvent as SharedEvent
    from ._shared.lock import SharedLock as SharedLock
    from ._stats import CallEnd as CallEnd
    from ._stats import PoolStats as PoolStats
    from ._stats import WorkerState as WorkerState
    from ._worker import Worker as Worker
    from ._workers.identity import PIPE as PIPE
    from .errors import CallStopped as CallStopped
    from .errors import CallTimeout as CallTimeout
    from .errors import ClusterFailed as ClusterFailed
    from .errors import EngineFailed as EngineFailed
    from .errors import EngineUnsupported as EngineUnsupported
    from .errors import HandlerFailed as HandlerFailed
    from .errors import IsolateUnsupported as IsolateUnsupported
    from .errors import LoopworkersError as LoopworkersError
    from .errors import NoHandler as NoHandler
    from .errors import NotTransferable as NotTransferable
    from .errors import PoolClosed as PoolClosed
    from .errors import PoolFull as PoolFull
    from .errors import PortClosed as PortClosed
    from .errors import RemoteError as RemoteError
    from .errors import RequestError as RequestError
    from .errors import RequestTimeout as RequestTimeout
    from .errors import RequestToSelf as RequestToSelf
    from .errors import UnknownWorker as UnknownWorker
    from .errors import WorkerDied as WorkerDied
    from .errors import WorkerStuck as WorkerStuck

_MODULES = {
    "AtomicInt64": "_shared.atomic",
    "BlockingPort": "_ports.port",
    "Broadcast": "_broadcast",
    "CallEnd": "_stats",
    "CallStopped": "errors",
    "CallTimeout": "errors",
    "Cluster": "_cluster.cluster",
    "ClusterEvent": "_cluster.events",
    "ClusterFailed": "errors",
    "ClusterStopped": "_cluster.events",
    "ClusterWorker": "_cluster.worker",
    "EngineFailed": "errors",
    "EngineUnsupported": "errors",
    "EventStream": "_cluster.events",
    "ExecutorEngine": "_engine.executor",
    "HandlerFailed": "errors",
    "IsolateUnsupported": "errors",
    "LoopDelay": "_loop_delay",
    "LoopworkersError": "errors",
    "Member": "_cluster.member",
    "MessagePort": "_ports.port",
    "NoHandler": "errors",
    "NotTransferable": "errors",
    "PIPE": "_workers.identity",
    "PoolClosed": "errors",
    "PoolFull": "errors",
    "PoolStats": "_stats",
    "PortClosed": "errors",
    "Progress": "_loop.future",
    "Recycle": "_cluster.options",
    "RemoteError": "errors",
    "RequestError": "errors",
    "RequestTimeout": "errors",
    "RequestToSelf": "errors",
    "Restart": "_cluster.options",
    "SharedBuffer": "_shared.buffer",
    "SharedEvent": "_shared.event",
    "SharedLock": "_shared.lock",
    "Stopping": "_cluster.member",
    "UnknownWorker": "errors",
    "Utilization": "_figures",
    "Worker": "_worker",
    "WorkerDied": "errors",
    "WorkerDraining": "_cluster.events",
    "WorkerExecutor": "_executor",
    "WorkerExited": "_cluster.events",
    "WorkerFuture": "_loop.future",
    "WorkerKilled": "_cluster.events",
    "WorkerPool": "_pool",
    "WorkerReady": "_cluster.events",
    "WorkerRestarting": "_cluster.events",
    "WorkerStarted": "_cluster.events",
    "WorkerState": "_stats",
    "WorkerStuck": "errors",
    "channel": "_ports.port",
    "current_pool": "_run",
    "current_worker": "_child.resident",
    "loop_delay": "_loop_delay",
    "on_request": "_request",
    "report_progress": "_child.reports",
    "request": "_request",
    "run_in_worker": "_run",
}

__all__ = list(_MODULES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'loopworkers' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})

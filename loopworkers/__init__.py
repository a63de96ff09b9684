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
    _cli                the commands
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._broadcast import Broadcast as Broadcast
    from ._child.reports import report_progress as report_progress
    from ._child.resident import current_worker as current_worker
    from ._executor import WorkerExecutor as WorkerExecutor
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
    from ._stats import PoolStats as PoolStats
    from ._worker import PIPE as PIPE
    from ._worker import Utilization as Utilization
    from ._worker import Worker as Worker
    from .errors import CallTimeout as CallTimeout
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
    "CallTimeout": "errors",
    "HandlerFailed": "errors",
    "IsolateUnsupported": "errors",
    "LoopDelay": "_loop_delay",
    "LoopworkersError": "errors",
    "MessagePort": "_ports.port",
    "NoHandler": "errors",
    "NotTransferable": "errors",
    "PIPE": "_worker",
    "PoolClosed": "errors",
    "PoolFull": "errors",
    "PoolStats": "_stats",
    "PortClosed": "errors",
    "Progress": "_loop.future",
    "RemoteError": "errors",
    "RequestError": "errors",
    "RequestTimeout": "errors",
    "RequestToSelf": "errors",
    "SharedBuffer": "_shared.buffer",
    "SharedEvent": "_shared.event",
    "SharedLock": "_shared.lock",
    "UnknownWorker": "errors",
    "Utilization": "_worker",
    "Worker": "_worker",
    "WorkerDied": "errors",
    "WorkerExecutor": "_executor",
    "WorkerFuture": "_loop.future",
    "WorkerPool": "_pool",
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

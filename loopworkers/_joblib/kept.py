"""Executors between two calls of joblib's: their workers have imported what the next will need."""

from __future__ import annotations

import os
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._executor import WorkerExecutor

# Calls in several threads have executors of their own: so many are kept, and no more, because each
# has a thread even when its workers have ended for want of work.
_MOST = 2

# Settings are compared, not hashed: an initializer's arguments may be lists.
_idle: list[tuple[Any, WorkerExecutor]] = []
_lock = Lock()


def take(settings: Any, make: Callable[[], WorkerExecutor]) -> WorkerExecutor:
    """An executor for the caller alone, until `give_back`: an idle one if there is one.

    Those with other settings that are idle are ended to make room.
    """
    with _lock:
        for at, (known, executor) in enumerate(_idle):
            if _same(known, settings):
                del _idle[at]
                return executor
        others = _take_all()
    for executor in others:
        executor.shutdown()
    return make()


def give_back(settings: Any, executor: WorkerExecutor) -> None:
    """Keep it for the next call, in the place of the one that has been idle longest if need be."""
    with _lock:
        _idle.append((settings, executor))
        too_many = [_idle.pop(0)[1]] if len(_idle) > _MOST else []
    for each in too_many:
        each.shutdown()


def shutdown() -> None:
    """End the workers that are idle, and return when they are gone."""
    with _lock:
        executors = _take_all()
    for executor in executors:
        executor.shutdown()


def _same(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # NumPy arrays among an initializer's arguments
        return False


def _take_all() -> list[WorkerExecutor]:
    executors = [executor for _, executor in _idle]
    _idle.clear()
    return executors


def _forget() -> None:
    global _lock
    _lock = Lock()
    _idle.clear()  # the parent's: of no use here, and not to be ended by this process


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)

"""What is said of workers that have ended by accident."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..errors import ClusterFailed, WorkerDied

if TYPE_CHECKING:
    from .worker import ClusterWorker

_logger = logging.getLogger("loopworkers")


def log_end(worker: ClusterWorker) -> None:
    """If it was an accident: nobody has to read events to learn of it."""
    if worker._ready_at is None or worker._killed_for is not None:
        return  # raised as `ClusterFailed`, or told before
    pid = f" (process {worker._served_as})" if worker._served_as else ""
    error = worker._error
    if error is not None and not isinstance(error, WorkerDied):
        _logger.error("worker %s%s failed", worker.id, pid, exc_info=error)
    elif not worker.voluntary:
        _logger.error("worker %s%s ended unasked, with code %s", worker.id, pid, worker.exitcode)


def failure_of(worker: ClusterWorker) -> ClusterFailed:
    """What is raised for a worker that has never served."""
    error, code = worker._error, worker.exitcode
    what = f"raised {error!r}" if error is not None else f"ended with code {code}"
    failure = ClusterFailed(f"a worker of the cluster {what} before it called member.ready()")
    failure.__cause__ = error
    return failure


def first_of(errors: BaseExceptionGroup[Exception]) -> Exception:
    first = errors.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first

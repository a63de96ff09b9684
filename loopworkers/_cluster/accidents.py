"""What is said of workers that have ended by accident."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .._wire.values import find_culprit
from ..errors import ClusterFailed, NotTransferable, WorkerDied

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
    if isinstance(error, NotTransferable) and not worker._runs:
        # It names the culprit by where it is in what the cluster itself sends.
        culprit = find_culprit(worker._asked_for, "(target, *args)")
        what = f"could not be started: {culprit} cannot be sent: {error.__cause__!r}"
    elif error is not None:
        what = f"raised {error!r} before it called member.ready()"
    else:
        what = f"ended with code {code} before it called member.ready()"
    failure = ClusterFailed(f"a worker of the cluster {what}")
    failure.__cause__ = error
    return failure


def first_of(errors: BaseExceptionGroup[Exception]) -> Exception:
    first = errors.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first

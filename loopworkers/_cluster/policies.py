"""Who gets the next connection."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from .worker import ClusterWorker

_logger = logging.getLogger("loopworkers")

#: ``policy(peer, workers)``: the worker that gets the connection from this address.
PolicyFunction: TypeAlias = "Callable[[Any, list[ClusterWorker]], ClusterWorker]"
Policy: TypeAlias = "Literal['shared', 'round_robin', 'least_busy', 'reuse_port'] | PolicyFunction"
Choose: TypeAlias = "Callable[[Any, Collection[ClusterWorker]], ClusterWorker | None]"

POLICIES = ("shared", "round_robin", "least_busy", "reuse_port")

# What a worker may have untaken: enough for all that it can accept in one turn of its loop, which
# costs less than a turn for each. The kernel has room for some 250.
_CREDIT = 32
# Where only this worker will do.
_CREDIT_OF_CHOSEN = 200


def chooser(policy: Policy, max_connections: int | None) -> Choose:
    """None is chosen while nobody has room.

    What chooses is given the workers in the order of their turns: who got one last is last.
    """
    most = sys.maxsize if max_connections is None else max_connections
    if policy == "least_busy":
        return _LeastBusy(_CREDIT, most)
    if callable(policy):
        return _Asked(policy, _RoundRobin(_CREDIT_OF_CHOSEN, most))
    return _RoundRobin(_CREDIT, most)  # or nobody asks: the kernel chooses


def _punctual(workers: Collection[ClusterWorker]) -> Collection[ClusterWorker]:
    """Late ones are for when all are: the others have room sooner, even if they have none now."""
    return [worker for worker in workers if not worker._is_late] or workers


class _RoundRobin:
    """One after the other."""

    def __init__(self, credit: int, most: int) -> None:
        self.credit = credit
        self.most = most

    def __call__(self, peer: Any, workers: Collection[ClusterWorker]) -> ClusterWorker | None:
        for worker in _punctual(workers):
            if worker._ledger.has_room(self.credit, self.most):
                return worker
        return None


class _LeastBusy(_RoundRobin):
    """The one with the fewest open connections; in turn among equals."""

    def __call__(self, peer: Any, workers: Collection[ClusterWorker]) -> ClusterWorker | None:
        best, least = None, sys.maxsize
        for worker in _punctual(workers):
            ledger = worker._ledger
            if (load := ledger.load) < least and ledger.has_room(self.credit, self.most):
                best, least = worker, load
        return best


class _Asked:
    """Whom the user's function names. While that one has no room, its connections wait."""

    def __init__(self, function: PolicyFunction, otherwise: _RoundRobin) -> None:
        self._function = function
        self._otherwise = otherwise

    def __call__(self, peer: Any, workers: Collection[ClusterWorker]) -> ClusterWorker | None:
        if not workers:
            return None
        choice = None
        try:
            choice = self._function(peer, sorted(workers, key=lambda worker: worker.seat))
        except Exception:
            _logger.exception("the cluster's policy failed for a connection from %r", peer)
        else:
            if choice not in workers:
                _logger.error(
                    "the cluster's policy chose %r for a connection from %r, which is none of the "
                    "workers that it was given",
                    choice,
                    peer,
                )
                choice = None
        if choice is None:
            return self._otherwise(peer, workers)
        has_room = choice._ledger.has_room(self._otherwise.credit, self._otherwise.most)
        return choice if has_room else None

"""Who gets the next connection."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
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

# What a worker may have untaken: a few keep it busy, more would only wait behind each other.
_CREDIT = 8
# Where only this worker will do. The kernel has room for some 250.
_CREDIT_OF_CHOSEN = 200


def chooser(policy: Policy, max_connections: int | None) -> Choose:
    """None is chosen while nobody has room."""
    most = float("inf") if max_connections is None else max_connections
    credit = _CREDIT_OF_CHOSEN if callable(policy) else _CREDIT

    def has_room(worker: ClusterWorker) -> bool:
        untaken = worker.untaken
        return untaken < credit and untaken + worker.connections < most

    if policy == "least_busy":
        return _LeastBusy(has_room)
    if callable(policy):
        return _Asked(policy, _RoundRobin(has_room), has_room)
    return _RoundRobin(has_room)  # or nobody asks: the kernel chooses


def _punctual(workers: Collection[ClusterWorker]) -> Collection[ClusterWorker]:
    """Late ones are for when all are: the others have room sooner, even if they have none now."""
    return [worker for worker in workers if not worker._is_late] or workers


class _InTurn(ABC):
    """The best one by `rank`, lower is better; in turn, by seats, among equals."""

    def __init__(self, has_room: Callable[[ClusterWorker], bool]) -> None:
        self._has_room = has_room
        self._last = -1

    @abstractmethod
    def rank(self, worker: ClusterWorker) -> int: ...

    def __call__(self, peer: Any, workers: Collection[ClusterWorker]) -> ClusterWorker | None:
        best, best_key = None, None
        for worker in _punctual(workers):
            if self._has_room(worker):
                key = self.rank(worker), worker.seat <= self._last, worker.seat
                if best_key is None or key < best_key:
                    best, best_key = worker, key
        if best is not None:
            self._last = best.seat
        return best


class _RoundRobin(_InTurn):
    """One after the other."""

    def rank(self, worker: ClusterWorker) -> int:
        return 0


class _LeastBusy(_InTurn):
    """The one with the fewest open connections."""

    def rank(self, worker: ClusterWorker) -> int:
        return worker.untaken + worker.connections


class _Asked:
    """Whom the user's function names. While that one has no room, its connections wait."""

    def __init__(
        self, function: PolicyFunction, otherwise: _RoundRobin, has_room: Callable[..., bool]
    ) -> None:
        self._function = function
        self._otherwise = otherwise
        self._has_room = has_room

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
        return choice if self._has_room(choice) else None

"""Keeps the places of a cluster filled: starts workers, replaces, retires and buries them."""

from __future__ import annotations

import logging
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

import anyio

from ..errors import ClusterFailed
from .accidents import failure_of, first_of, log_end
from .events import (
    WorkerDraining,
    WorkerExited,
    WorkerKilled,
    WorkerReady,
    WorkerRestarting,
    WorkerStarted,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._loop import Loop, Timer
    from .dealer import Dealer
    from .events import ClusterEvent, KillReason, Reason
    from .options import Recycle, Restart
    from .worker import ClusterWorker

_logger = logging.getLogger("loopworkers")

# How often workers are looked at: their loops asked, their age and memory compared.
_CHECK_EVERY = 1.0
# What a worker gets to write its stacks before it is killed.
_STACKS_PATIENCE = 0.5


class Supervisor:
    """The seats of a cluster and who is in them.

    Attributes:
        workers: all that live, by id; some of them drain.
        seats: who serves in each place; None while a successor is waited for.
    """

    def __init__(
        self,
        loop: Loop,
        make: Callable[[int], ClusterWorker],
        dealer: Dealer,
        tell: Callable[[ClusterEvent], None],
        fail: Callable[[ClusterFailed], None],
        *,
        restart: Restart,
        recycle: Recycle | None,
        start_timeout: float,
        unresponsive: float | None,
        grace: float,
    ) -> None:
        self.workers: dict[int, ClusterWorker] = {}
        self.seats: dict[int, ClusterWorker | None] = {}
        self.ending = False  # nobody is replaced any more
        self._loop = loop
        self._make = make
        self._dealer = dealer
        self._tell = tell
        self._fail = fail
        self._restart = restart
        self._recycle = recycle
        self._start_timeout = start_timeout
        self._unresponsive = unresponsive
        self._grace = grace
        self._accidents: dict[int, int] = {}  # in a row, by seat
        self._failures: dict[int, int] = {}  # the same, of those that never served
        self._checking: Timer | None = None

    # --- starting --------------------------------------------------------------------------

    def fill(self, seat: int) -> None:
        """Start a worker in this place, and keep it filled from now on."""
        self.seats[seat] = self._spawn(seat)

    async def start(self, seat: int) -> ClusterWorker:
        """A worker that serves, but is in no place yet. Raises ClusterFailed."""
        if self.ending:  # those that live are being retired, and nobody would retire this one
            raise ClusterFailed("the cluster is about to end and starts no more workers")
        worker = self._spawn(seat)
        try:
            await worker._settled.wait()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.retire(worker, "asked", 0)
            raise
        if worker.voluntary:
            raise ClusterFailed("the cluster ended before the new worker served")
        if worker.state != "ready":
            raise failure_of(worker)
        return worker

    async def replace(self, seat: int) -> ClusterWorker | None:
        """Put a new worker in this place; the one to be retired, if there is one."""
        worker = await self.start(seat)
        if seat not in self.seats:  # the cluster was scaled down in the meantime
            return worker
        old, self.seats[seat] = self.seats[seat], worker
        return old

    def _spawn(self, seat: int) -> ClusterWorker:
        worker = self._make(seat)
        self.workers[worker.id] = worker
        self._loop.spawn(partial(self._tend, worker))
        if self._checking is None:
            self._check_soon()
        return worker

    async def _tend(self, worker: ClusterWorker) -> None:
        """The whole life of one worker."""
        self._tell(WorkerStarted(worker))
        try:
            # It may be retired or killed as soon as it is made.
            if not worker.voluntary and worker._killed_for is None:
                async with worker._worker, anyio.create_task_group() as group:
                    worker._begin()
                    group.start_soon(self._hear, worker)
                    group.start_soon(self._must_settle, worker)
                    try:
                        await worker._worker.wait()
                    finally:
                        worker._keep_last_words()
                    group.cancel_scope.cancel()
        except* Exception as errors:
            worker._error = worker._error or first_of(errors)
        finally:
            self._bury(worker)

    async def _hear(self, worker: ClusterWorker) -> None:
        def on_ready() -> None:
            self._failures[worker.seat] = 0
            self._tell(WorkerReady(worker))
            self._dealer.add(worker)

        await worker._hear(on_ready, self._dealer.go_on)

    async def _must_settle(self, worker: ClusterWorker) -> None:
        with anyio.move_on_after(self._start_timeout):
            await worker._settled.wait()
            return
        worker._error = TimeoutError(
            f"{worker!r} did not call member.ready() within {self._start_timeout} seconds"
        )
        await self._kill(worker, "start_timeout")

    # --- ending ----------------------------------------------------------------------------

    async def retire(self, worker: ClusterWorker, reason: Reason, grace: float) -> None:
        """Ask a worker to finish; end it by force after ``grace`` seconds."""
        if worker.state == "ended":
            return
        if not worker.voluntary:
            worker.voluntary = True
            self._tell(WorkerDraining(worker, reason))
        worker.state = "draining"
        if worker._ready_at is None:  # it has nothing to finish
            await worker._terminate()
            await worker._ended.wait()
            return
        with anyio.move_on_after(grace):
            if self.ending:  # or what it has not taken is for others
                await self._dealer.let_take(worker)
            self._dealer.remove(worker)
            worker._ask("drain")
            await worker._ended.wait()
            return
        # Who gets no time is not asked what it does with it.
        await self._kill(worker, "grace", tells_stacks=grace > 0)

    async def kill(self, worker: ClusterWorker) -> None:
        await self._kill(worker, "asked", tells_stacks=False)

    async def _kill(
        self, worker: ClusterWorker, reason: KillReason, *, tells_stacks: bool = True
    ) -> None:
        """By force, with a word on what it was doing."""
        if worker._killed_for is None:
            worker._killed_for = reason
            self._tell(WorkerKilled(worker, reason))
            if tells_stacks:
                _logger.error("%r is killed (%s); its stacks follow on its stderr", worker, reason)
                await worker._write_stacks(_STACKS_PATIENCE)
        await worker._terminate()
        await worker._ended.wait()

    def _bury(self, worker: ClusterWorker) -> None:
        if self.workers.pop(worker.id, None) is None:
            return  # by `abort`
        self._dealer.remove(worker)
        worker._end()
        code = worker.exitcode
        self._tell(
            WorkerExited(worker, 0 if code is None else code, worker.voluntary, worker._error)
        )
        log_end(worker)
        if self.ending or self.seats.get(worker.seat) is not worker:
            return
        seat = worker.seat
        self.seats[seat] = None
        if worker._killed_for == "asked":
            self._fill_later(seat, 0.0)
            self._tell(WorkerRestarting(worker, 0.0))
            return
        if worker._ready_at is None:
            failures = self._failures[seat] = self._failures.get(seat, -1) + 1
            failure = failure_of(worker)
            # A seat that nobody has served in yet, or that nobody can serve in any more.
            if failures == 0 or failures >= self._restart.failures:
                self._fail(failure)
                return
            _logger.error("%s", failure)
        elif monotonic() - worker._ready_at >= self._restart.stable:
            self._accidents[seat] = 0
        delay = self._delay_of(seat)
        self._fill_later(seat, delay)
        self._tell(WorkerRestarting(worker, delay))

    def abort(self) -> None:
        """The loop has ended, and with it the tasks that would have buried them."""
        while self.workers:
            self.workers.popitem()[1]._end()

    def _delay_of(self, seat: int) -> float:
        """After one accident more."""
        self._accidents[seat] = self._accidents.get(seat, 0) + 1
        return self._restart.delay_after(self._accidents[seat])

    def _fill_later(self, seat: int, delay: float) -> None:
        self._loop.call_later(delay, partial(self._fill_again, seat))

    def _fill_again(self, seat: int) -> None:
        if self.ending or seat not in self.seats or self.seats[seat] is not None:
            return
        try:
            self.fill(seat)
        except OSError as error:  # no descriptor is left, say
            _logger.error("cannot start a worker: %s; tried again later", error)
            self._fill_later(seat, self._delay_of(seat))

    # --- those that live -------------------------------------------------------------------

    def _check_soon(self) -> None:
        self._checking = self._loop.call_later(_CHECK_EVERY, self._check)

    def _check(self) -> None:
        if self.ending:
            return
        self._check_soon()
        for worker in list(self.workers.values()):
            if worker.state == "ready":
                worker._ping()
                if self._unresponsive is not None and worker._silent_for > self._unresponsive:
                    worker.state = "draining"
                    self._loop.spawn(partial(self._kill, worker, "unresponsive"))
                elif self._recycle is not None and not worker._is_recycled:
                    self._loop.spawn(partial(self._recycle_if_due, worker, self._recycle))

    async def _recycle_if_due(self, worker: ClusterWorker, recycle: Recycle) -> None:
        reason = await recycle.due(worker)
        if (
            reason is None
            or self.ending
            or worker._is_recycled
            or self.seats.get(worker.seat) is not worker
        ):
            return
        worker._is_recycled = True
        try:
            old = await self.replace(worker.seat)
        except ClusterFailed as error:
            _logger.error("%r goes on: %s", worker, error)
            worker._is_recycled = False
            return
        if old is not None:
            await self.retire(old, reason, self._grace)

"""Which call runs where: the queue, the workers, and what becomes of calls when those end.

The invariant is that no worker is idle while a call waits. Calls are sent ahead to busy
workers so that one finds its next call without waiting for the loop; a call sent ahead that
turns out to sit behind a long one is taken back (see `_workers/channel.py`) and given to the
first worker that has nothing to do.
"""

from __future__ import annotations

import logging
from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ._backing import Figures, Runner
from ._settle import MOST_AHEAD
from ._stats import state_of
from ._wire.frames import RETIRE, Frame
from ._workers.base import Exit, Listener, Worker

if TYPE_CHECKING:
    from ._call import Call
    from ._loop import Loop
    from ._settle import Settler
    from ._stats import WorkerState
    from ._workers.settings import Settings

# A call that runs this much longer (seconds) than its like do has nothing behind it any more.
_LATE = 0.001
# New workers that ended before they were ready, in a row, after which starting is given up:
# for the calls that wait if no other worker serves them, else until some time has passed. What
# exits by itself will do so again; a signal may have come from outside and by chance.
_MOST_FAILED_STARTS = 3
_MOST_KILLED_STARTS = 10
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0
_MEMORY_IDLE = 5.0  # seconds after which an idle worker's transport memory is given back

_logger = logging.getLogger("loopworkers")


class Dispatcher(Runner, Listener):
    """The callback side of a pool; everything runs on the loop's thread, nothing waits."""

    def __init__(
        self,
        loop: Loop,
        worker_type: type[Worker],
        settings: Settings,
        settler: Settler,
        *,
        max_workers: int,
        min_workers: int,
        idle_timeout: float,
        max_tasks: int | None,
    ) -> None:
        self.loop = loop
        self.settler = settler
        self.counters = settler.counters
        self.workers: dict[int, Worker] = {}
        self.ending = False  # no worker is started any more
        self._type = worker_type
        self._settings = settings
        self._max_workers = max_workers
        self._min_workers = min_workers
        self._idle_timeout = idle_timeout
        self._max_tasks = max_tasks
        self._queue: deque[Call] = deque()
        self._idle: list[Worker] = []  # the most recently used last, and used first
        self._looked_at = 0.0
        self._dropped = 0  # calls of the queue that were cancelled
        self._failed_starts = 0
        self._start_error: Exception | None = None
        self._pause: Any = None  # the timer after which a worker is started again
        self._worker_ids = 0
        self._busy_of_gone = 0.0  # seconds
        self._timer: Any = None

    # --- placing calls -------------------------------------------------------------------

    def place(self, call: Call) -> None:
        """Give a new call to a worker, or queue it."""
        call.surroundings = self._settings.surroundings()
        if not self._queue:
            worker = (
                (self._take_idle() if self._idle else None)
                or (self._start_worker() if len(self.workers) < self._max_workers else None)
                or self._least_loaded(call)
            )
            if worker is not None:
                worker.send(call)
                return
            if not self.workers:
                self.settler.fail(
                    call,
                    self.settler.death(
                        call, Exit(reason=f"could not be started ({self._start_error!r})")
                    ),
                )
                return
        # Otherwise everybody has as much as may be sent ahead, or there would be no queue.
        call.freeze()
        self._queue.append(call)

    def _take_idle(self) -> Worker | None:
        while self._idle:
            worker = self._idle.pop()
            if worker.takes_calls:
                return worker
        return None

    def _least_loaded(self, call: Call) -> Worker | None:
        """The busy worker to send the call ahead to."""
        best: Worker | None = None
        now = perf_counter()
        for worker in self.workers.values():
            if (
                worker.calls
                and (best is None or len(worker.calls) < len(best.calls))
                and worker.can_take_ahead
                and not self._is_late(worker, now)
            ):
                best = worker
        return best if best is not None and len(best.calls) < self._depth(call, best) else None

    def _is_late(self, worker: Worker, now: float) -> bool:
        """Whether what it runs takes longer than such calls do: nothing should wait behind it."""
        running = next(iter(worker.calls.values()))
        return now - worker.moved_at > max(_LATE, 2 * self.settler.expected(running))

    def _free_the_waiting(self, now: float) -> None:
        """Queue again what was sent ahead to workers that are late; it is older than the queue."""
        self._looked_at = now
        for worker in self.workers.values():
            if len(worker.calls) > 1 and self._is_late(worker, now):
                taken_back = worker.take_back()
                if not worker.calls:  # late because it had no processor yet
                    worker.send(taken_back.pop(0))
                self._queue.extendleft(reversed(taken_back))

    def _depth(self, call: Call, worker: Worker) -> int:
        """How many calls the worker may have, this one included."""
        if not worker.calls:
            return 1
        if call.is_stream or not worker.can_take_ahead or not call.is_small:
            return 0
        ahead = self.settler.ahead
        running = next(iter(worker.calls.values()))
        depth = ahead.get(call.key, 2)
        if running.key is not call.key:
            depth = min(depth, ahead.get(running.key, 2))
        if self._max_tasks is not None:
            depth = min(depth, self._max_tasks - worker.answered)
        return depth

    def _feed(self, worker: Worker) -> None:
        """Give the worker what it may have; if that is nothing, what others may not begin."""
        if not worker.takes_calls:
            return
        queue = self._queue
        now = perf_counter()
        if now - self._looked_at > _LATE:
            self._free_the_waiting(now)
        while queue and len(worker.calls) < MOST_AHEAD:
            call = queue[0]
            if call.id not in self.settler.unsettled:
                queue.popleft()  # cancelled while it waited
            elif len(worker.calls) < self._depth(call, worker):
                queue.popleft()
                worker.send(call)
            else:
                return
        if not worker.calls and not self._steal_for(worker):
            worker.moved_at = now
            self._idle.append(worker)
            self._watch_idle()

    def _steal_for(self, idle: Worker) -> bool:
        for victim in self.workers.values():
            if len(victim.calls) > 1:
                call = victim.take_back_one()
                if call is not None:
                    idle.send(call)
                    return True
        return False

    def return_calls(self, calls: list[Call]) -> None:
        """Queue calls that were taken back, before all others and in their old order."""
        for call in reversed(calls):
            if call.id in self.settler.unsettled:
                self._queue.appendleft(call)
        while self._queue:
            worker = self._take_idle() or self._start_worker()
            if worker is None:
                break
            self._feed(worker)
        if self._queue and not self.workers:
            # There is no worker whose end would start the next one.
            self._failed_starts += 1
            if self._failed_starts < _MOST_KILLED_STARTS:
                self._pause_starting()
                return
            self._failed_starts = 0
            exit = Exit(reason=f"could not be started ({self._start_error!r})")
            waiting, self._queue = self._queue, deque()
            for call in waiting:
                self.settler.fail(call, self.settler.death(call, exit, started=False))

    # --- taking calls back -----------------------------------------------------------------

    def withdraw(self, call: Call) -> Worker | None:
        """Take the call out of the queue or back from its worker.

        Returns the worker if it has begun the call. It is on hold then: it is sent nothing, so
        that stopping it stops this call or, if that has just ended, nothing. `give_up` must
        follow. A call that turns out to be answered already is settled by this.
        """
        worker = call.worker
        if worker is None:
            # It is skipped there once it is settled; now and then such calls are swept out.
            self._dropped += 1
            if self._dropped > 64 and 2 * self._dropped > len(self._queue):
                self._dropped = 0
                unsettled = self.settler.unsettled
                self._queue = deque(c for c in self._queue if c.id in unsettled)
            return None
        worker.on_hold = True
        taken_back = worker.take_back()
        begun = call not in taken_back
        if begun:
            worker.read_answers()
        else:
            taken_back.remove(call)
        self.return_calls(taken_back)
        if begun and call.worker is worker:
            return worker
        self.release(worker)
        return None

    def release(self, worker: Worker) -> None:
        """Let a worker that `withdraw` holds go on."""
        worker.on_hold = False
        if worker not in self._idle:
            self._feed(worker)

    def give_up(self, call: Call, running_on: Worker, *, stop: bool) -> None:
        if stop and running_on.runs(call):
            self.counters.killed += 1
            running_on.stop()
            return
        if call.is_stream:
            # Nobody takes its items any more: it would wait for that for ever.
            running_on.close_stream(call)
        self.release(running_on)

    # --- workers ---------------------------------------------------------------------------

    def _start_worker(self) -> Worker | None:
        if len(self.workers) >= self._max_workers or self.ending:
            return None
        if (
            self._pause is not None
            and self._failed_starts >= _MOST_FAILED_STARTS
            and self._has_ready()
        ):
            return None
        self._worker_ids += 1
        worker: Worker | None = None
        try:
            worker = self._type(self.loop, self._worker_ids, self._settings, self)
            worker.start()
        except Exception as error:  # no descriptors, no memory, no processes left
            self._start_error = error
            if worker is not None:
                worker.discard()
            return None
        self.workers[worker.id] = worker
        self.counters.started += 1
        return worker

    def keep_minimum(self) -> None:
        while len(self.workers) < self._min_workers:
            worker = self._start_worker()
            if worker is None:
                return
            self._feed(worker)

    def on_ready(self, worker: Worker) -> None:
        self._failed_starts = 0

    def on_answer(self, worker: Worker, call: Call, frame: Frame, body: Any) -> None:
        self.settler.answer(worker, call, frame, body)
        if worker.leaving:
            return
        if frame.flags & RETIRE or worker.answered == self._max_tasks:
            self._retire(worker)
        else:
            self._feed(worker)

    def _retire(self, worker: Worker) -> None:
        taken_back = worker.take_back()
        worker.leave()
        self.counters.retired += 1
        self.return_calls(taken_back)

    def on_setup_failed(self, worker: Worker, error: Exception) -> None:
        # Its initializer or preload failed, as that of the next would: who waits is told so,
        # instead of starting workers for ever. The next call tries again.
        error.add_note("raised while a loopworkers worker was set up (initializer or preload)")
        worker.leaving = True
        worker.setup_error = error
        waiting = [*worker.calls.values(), *self._queue]
        worker.calls.clear()
        self._queue.clear()
        if not waiting:
            _logger.error("a worker could not be set up", exc_info=error)
        for call in waiting:
            self.settler.fail(call, error)

    def on_gone(self, worker: Worker, exit: Exit, untouched: list[Call]) -> None:
        if self.workers.pop(worker.id, None) is not None:
            self._busy_of_gone += worker.busy_for()
            self.count_busy()
        if worker in self._idle:
            self._idle.remove(worker)
        if exit.stuck:
            self.counters.stuck += 1
        if not worker.leaving:
            self.counters.died += 1
            if not worker.ready:
                self._failed_starts += 1
        if worker.setup_error is not None:
            for call in untouched:
                self.settler.fail(call, worker.setup_error)
            untouched = []
        for call in [call for call in untouched if _has_lost_handles(call)]:
            untouched.remove(call)
            self.settler.fail(call, self.settler.death(call, exit, started=True))
        returned = [*self._bereaved(worker, exit), *untouched]
        if self._failed_starts:
            self._pause_starting()
        most = _MOST_FAILED_STARTS if exit.signal is None else _MOST_KILLED_STARTS
        if self._failed_starts >= most and not self._has_ready():
            self._failed_starts = 0
            for call in [*returned, *self._queue]:
                self.settler.fail(call, self.settler.death(call, exit, started=False))
            returned = []
            self._queue.clear()
        self.return_calls(returned)
        if worker.setup_error is None and not self._failed_starts:
            self.keep_minimum()
        if self.on_worker_gone is not None:
            self.on_worker_gone()

    def _has_ready(self) -> bool:
        return any(worker.ready and not worker.leaving for worker in self.workers.values())

    def _pause_starting(self) -> None:
        if self._pause is None and not self.ending:
            delay = min(_FIRST_PAUSE * 2.0**self._failed_starts, _LONGEST_PAUSE)
            self._pause = self.loop.call_later(delay, self._start_again)

    def _start_again(self) -> None:
        self._pause = None
        self.keep_minimum()
        self.return_calls([])

    def _bereaved(self, worker: Worker, exit: Exit) -> list[Call]:
        """Settle what the worker was running; the calls that are to be run again."""
        again: list[Call] = []
        for call in worker.calls.values():
            call.worker = None
            if call.id in self.settler.unsettled:
                if call.retries > 0:
                    call.retries -= 1
                    self.counters.retried += 1
                    again.append(call)
                else:
                    self.settler.fail(call, self.settler.death(call, exit))
        worker.calls.clear()
        return again

    # --- idle workers ------------------------------------------------------------------------

    def _watch_idle(self) -> None:
        if self._timer is None and not self.ending:
            delay = min(self._idle_timeout, _MEMORY_IDLE)
            self._timer = self.loop.call_later(delay, self._look_at_idle)

    def _look_at_idle(self) -> None:
        self._timer = None
        now = perf_counter()
        for worker in list(self._idle):  # the longest idle first
            idle_for = now - worker.moved_at
            if idle_for >= _MEMORY_IDLE:
                worker.give_back_memory()
            if idle_for >= self._idle_timeout and len(self.workers) > self._min_workers:
                self._idle.remove(worker)
                self._retire(worker)
        if len(self.workers) > self._min_workers or any(w.holds_memory for w in self._idle):
            self._watch_idle()

    # --- the end -----------------------------------------------------------------------------

    def end(self) -> None:
        """Let all workers go; each tells `on_worker_gone`."""
        self.ending = True
        self._cancel_timer()
        for worker in list(self.workers.values()):
            if not worker.leaving:
                worker.leave()

    def is_busy(self) -> bool:
        return any(worker.calls for worker in self.workers.values())

    def is_gone(self) -> bool:
        return not self.workers

    def stop_all(self) -> None:
        for worker in list(self.workers.values()):
            worker.stop()

    def kill_now(self) -> None:
        """End everything without the loop's help, which may be over."""
        self.ending = True
        self._timer = self._pause = None
        for worker in self.workers.values():
            worker.kill_now()
        self.workers.clear()
        self._idle.clear()
        self._queue.clear()
        self._type.release(self._settings)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    # --- figures -----------------------------------------------------------------------------

    def figures(self) -> Figures:
        unsettled = self.settler.unsettled
        return Figures(
            workers=len(self.workers),
            ready=sum(worker.ready and not worker.leaving for worker in self.workers.values()),
            idle=len(self._idle),
            waiting=sum(call.id in unsettled for call in self._queue),
        )

    def count_busy(self) -> None:
        busy = self._busy_of_gone + sum(worker.busy_for() for worker in self.workers.values())
        # It never falls, not even when a worker's only call is taken back before it has begun.
        self.counters.busy = max(self.counters.busy, busy)

    def states(self) -> list[WorkerState]:
        return [state_of(worker) for worker in self.workers.values()]


def _has_lost_handles(call: Call) -> bool:
    """Whether its descriptors went with a worker that died before it received the call."""
    handles = getattr(call.body, "handles", None)
    return handles is not None and not handles.files

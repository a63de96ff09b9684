"""How calls end: exactly once, with a value, an error, a timeout or a cancellation."""

from __future__ import annotations

import logging
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ._stats import CallEnd, Counters
from ._wire.frames import RESULT, Frame
from .errors import CallTimeout, NotTransferable, WorkerDied

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from ._call import Call
    from ._workers.base import Exit

    class Answerer(Protocol):
        """What can read the answers that come from it: a worker, or an engine's runner."""

        def value(self, frame: Frame, body: Any) -> Any: ...

        def failure(self, body: Any) -> Exception: ...


# A worker is sent ahead about this much work, in seconds: long enough for the loop to answer
# in, short enough to cost little when it has to be taken back.
_AHEAD = 0.001
MOST_AHEAD = 16
# Behind a call that runs longer (seconds) nothing is sent, nor is it sent ahead itself: the gap
# between two calls costs a share of it that does not matter.
_LONG = 0.02
_MOST_KEYS = 1024

_logger = logging.getLogger("loopworkers")


class Settler:
    """The calls of a pool that have not ended, and the ways in which they can.

    A call is in ``unsettled`` until one of these methods takes it out; what comes for it
    afterwards (a late answer, the death of its worker) finds nobody.
    """

    def __init__(self) -> None:
        self.unsettled: dict[int, Call] = {}
        self.counters = Counters()
        self._estimates: dict[Any, float] = {}  # seconds that calls of a key run
        self.ahead: dict[Any, int] = {}  # how many of them a worker may have at a time
        self.on_empty: Callable[[], None] | None = None
        self.on_room: set[Callable[[], None]] = set()  # called once, at the end of any call
        self.observers: tuple[Callable[[CallEnd], object], ...] = ()

    def answer(self, worker: Answerer, call: Call, frame: Frame, body: Any) -> None:
        if not self._take(call):
            self._changed()  # the body of an abandoned call has ended
            return
        if call.timed_out:
            self._count_timeout(call, frame.extra)
            return
        if frame.kind == RESULT:
            self._learn(call.key, frame.extra / 1e6)
            try:
                value = worker.value(frame, body)
            except BaseException as error:
                self._count_failure(call, broken_result(call, error), frame.extra)
                return
            self.counters.completed += 1
            if self.observers:
                self._tell(call, "completed", None, frame.extra)
            self._end(call, value, None)
        else:
            self._count_failure(call, worker.failure(body), frame.extra)

    def room_was_made(self) -> None:
        """The body of a call that had ended has ended as well."""
        self._changed()
        self._call_for_room()

    def fail(self, call: Call, error: Exception) -> None:
        if self._take(call):
            self._count_failure(call, error)

    def _count_failure(self, call: Call, error: Exception, micros: int | None = None) -> None:
        self.counters.failed += 1
        if self.observers:
            self._tell(call, "failed", error, micros)
        self._end(call, None, error)

    def time_out(self, call: Call) -> None:
        if self._take(call):
            self._count_timeout(call)

    def _count_timeout(self, call: Call, micros: int | None = None) -> None:
        self.counters.timed_out += 1
        error = timeout_of(call)
        if self.observers:
            self._tell(call, "timed_out", error, micros)
        self._end(call, None, error)

    def cancelled(self, call: Call) -> None:
        """The future is cancelled by who asked; only the books are kept here."""
        if self._take(call):
            self.counters.cancelled += 1
            if self.observers:
                self._tell(call, "cancelled", None)
            call.let_go()

    def _tell(
        self, call: Call, outcome: Any, error: Exception | None, micros: int | None = None
    ) -> None:
        ran = call.ran_for() if micros is None else micros / 1e6
        waited = max(perf_counter() - call.made_at - ran, 0.0) if call.made_at else 0.0
        end = CallEnd(call.name, outcome, waited, ran, error)
        for observer in self.observers:
            try:
                observer(end)
            except Exception:  # it must not keep the call from its end
                _logger.exception("an observer failed at the end of %s", call.name)

    def _take(self, call: Call) -> bool:
        if self.unsettled.pop(call.id, None) is None:
            return False
        if call.timer is not None:
            call.timer.cancel()
            call.timer = None
        if not self.unsettled:
            self._changed()
        if self.on_room:
            self._call_for_room()
        return True

    def _call_for_room(self) -> None:
        waiting, self.on_room = self.on_room, set()
        for callback in waiting:
            callback()

    def _changed(self) -> None:
        if self.on_empty is not None:
            self.on_empty()

    def _end(self, call: Call, value: Any, error: Exception | None) -> None:
        future, stream = call.future, call.stream
        call.let_go()
        if stream is not None:
            stream = stream()
            if stream is not None:
                stream.on_end(error)
        elif future.done():
            pass  # cancelled in the moment of its end
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)

    def _learn(self, key: Any, seconds: float) -> None:
        known = self._estimates.get(key)
        if known is not None and known < 2 * seconds < 4 * known:
            return
        if known is None:
            if len(self._estimates) >= _MOST_KEYS:
                self._estimates.clear()
                self.ahead.clear()
            known = seconds
        known += (seconds - known) / 8
        self._estimates[key] = known = max(known, 1e-6)
        self.ahead[key] = min(max(int(_AHEAD / known), 2), MOST_AHEAD) if known < _LONG else 1

    def expected(self, call: Call) -> float:
        """How many seconds calls of this kind run; 0 if that is not known."""
        return self._estimates.get(call.key, 0.0)

    def death(self, call: Call, exit: Exit, started: bool = True) -> WorkerDied:
        reason = exit.reason
        if not started:
            reason = f"{reason or 'ended while it started'}, as did those before it,"
        return WorkerDied(
            call.name,
            kind=call.pool.kind,
            exitcode=exit.code,
            signal=exit.signal,
            ran_for=call.ran_for(),
            reason=reason,
        )


def timeout_of(call: Call) -> CallTimeout:
    return CallTimeout(f"{call.name} did not finish within its timeout of {call.options.timeout} s")


def broken_result(call: Call, error: BaseException) -> NotTransferable:
    broken = NotTransferable(f"{call.name} returned a value that cannot be rebuilt here: {error!r}")
    broken.__cause__ = error
    return broken

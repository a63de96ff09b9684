"""What the page tells: the figures of this moment, and the failures of late."""

from __future__ import annotations

import os
import secrets
import time
import traceback
from collections import deque
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from loopworkers.errors import RemoteTraceback

if TYPE_CHECKING:
    from collections.abc import Iterable

    from loopworkers import CallEnd, LoopDelay

    from .._workers import Workers

_RECENT_CALLS = 1000
_MOST_FAILURES = 50
_MOST_WORKERS = 64
_LONGEST_NAME = 200
_LONGEST_TRACEBACK = 8000


class Recorder:
    """An observer of the workers, from the moment it is made.

    It keeps nothing of a call but the name of its function, its times, and what it raised, as
    text: an exception itself would keep alive all that its frames refer to.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        # Those who read on ask for what is new; the numbers of another process are none of ours.
        self._source = secrets.token_hex(4)
        self._times: deque[tuple[float, float]] = deque(maxlen=_RECENT_CALLS)
        self._failures: deque[dict[str, Any]] = deque(maxlen=_MOST_FAILURES)
        self._count = 0
        workers.observe(self._on_end)

    def _on_end(self, end: CallEnd) -> None:
        self._times.append((end.waited, end.ran))
        if end.error is not None:
            self._count += 1
            self._failures.append(
                {
                    "number": self._count,
                    "at": time.time(),
                    "call": end.name[:_LONGEST_NAME],
                    "outcome": end.outcome,
                    "waited": end.waited,
                    "ran": end.ran,
                    "error": _shortened(_summary(end.error), 300),
                    "traceback": _shortened(_traceback_of(end.error), _LONGEST_TRACEBACK),
                }
            )

    @property
    def is_open(self) -> bool:
        return self._workers.readiness().why != "not open"

    def event(self, delay: LoopDelay, mark: str | None) -> dict[str, Any]:
        """All there is to tell now; of the failures those since the event with this ``mark``.

        Raises `loopworkers.PoolClosed` when the workers are not open.
        """
        workers = self._workers
        pool = workers.pool
        states = pool.workers()
        known = self._number_in(mark)
        return {
            "source": self._source,
            "mark": f"{self._source}-{self._count}",
            "now": time.perf_counter(),
            "process": os.getpid(),
            "name": workers.name,
            "kind": pool.kind,
            "status": workers.readiness().why,
            "max_workers": pool.max_workers,
            "max_pending": workers._options.get("max_pending"),
            "counts": asdict(pool.stats()) | {"refused": workers._figures.refused},
            "workers": [asdict(state) for state in states[:_MOST_WORKERS]],
            "more_workers": max(len(states) - _MOST_WORKERS, 0),
            "waited": _percentiles(waited for waited, _ in self._times),
            "ran": _percentiles(ran for _, ran in self._times if ran),
            "loop_delay": _figures_of(delay),
            "failures": [failure for failure in self._failures if failure["number"] > known],
        }

    def _number_in(self, mark: str | None) -> int:
        source, _, number = (mark or "").partition("-")
        is_ours = source == self._source and number.isascii() and number.isdigit()
        return int(number[:18]) if is_ours else 0


def _summary(error: Exception) -> str:
    try:
        text = str(error)
    except Exception:  # of a __str__ that is broken
        text = "(its text cannot be had)"
    return f"{type(error).__qualname__}: {text}" if text else type(error).__qualname__


def _traceback_of(error: Exception) -> str:
    """As the worker saw it, if the worker raised it."""
    last: BaseException = error
    while last.__cause__ is not None:
        last = last.__cause__
    if isinstance(last, RemoteTraceback):
        return last.text
    return "".join(traceback.format_exception(error))


def _shortened(text: str, most: int) -> str:
    """Without its middle: the end of a traceback tells most, then its beginning."""
    if len(text) <= most:
        return text
    head, tail = most // 4, most - most // 4
    return f"{text[:head]}\n[... {len(text) - most} characters ...]\n{text[-tail:]}"


def _percentiles(values: Iterable[float]) -> dict[str, float] | None:
    found = sorted(values)
    if not found:
        return None
    last = len(found) - 1
    return {"p50": found[round(0.5 * last)], "p99": found[round(0.99 * last)], "max": found[last]}


def _figures_of(delay: LoopDelay) -> dict[str, float] | None:
    if not delay.count:
        return None
    return {"p50": delay.percentile(50), "p99": delay.percentile(99), "max": delay.max}

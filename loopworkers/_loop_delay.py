"""How late the event loop is, and what made it late."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from array import array
from functools import partial
from math import sqrt
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import anyio

from ._loop import current

if TYPE_CHECKING:
    from types import FrameType

_logger = logging.getLogger("loopworkers")

# A bucket is a power of two cut into 32 parts: a value is told to about 3 %, as in an HDR
# histogram (http://hdrhistogram.org) with two digits, whatever its size.
_BITS = 5
_PARTS = 1 << _BITS


def _bucket(value: int) -> int:
    shift = max(value.bit_length() - _BITS - 1, 0)
    return (shift << _BITS) + (value >> shift)


def _upper_end(bucket: int) -> int:
    shift = max((bucket >> _BITS) - 1, 0)
    return ((bucket - (shift << _BITS) + 1) << shift) - 1


class LoopDelay:
    """A histogram of how late an event loop runs what is due; see `loop_delay`.

    All values are seconds. Percentiles are told to about 3 %.
    """

    count: int  # how often the loop was looked at
    _sum: int  # these in nanoseconds
    _sum_of_squares: int
    _least: int
    _most: int

    def __init__(self, resolution: float, warn_after: float | None) -> None:
        if not resolution > 0:
            raise ValueError(f"resolution must be a positive number of seconds, not {resolution}")
        if warn_after is not None and not warn_after > 0:
            raise ValueError(f"warn_after must be a positive number of seconds, not {warn_after}")
        self._resolution = resolution
        self._warn_after = warn_after
        self._timer: Any = None
        self._watcher: _Watcher | None = None
        self.reset()

    def __repr__(self) -> str:
        return (
            f"<LoopDelay of {self.count} looks, p50 {self.percentile(50):.6f} s, "
            f"p99 {self.percentile(99):.6f} s, max {self.max:.6f} s>"
        )

    # --- measuring -------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to measure the loop that runs here; it ends with the loop at the latest."""
        if self._timer is not None:
            return
        loop = current()
        if self._warn_after is not None:
            self._watcher = _Watcher(self._warn_after)
        self._timer = loop.spawn(partial(self._measure, self._watcher))

    def stop(self) -> None:
        """Measure no more; the figures stay. A task of the same loop must call it."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            self._stop_watcher()

    def __enter__(self) -> LoopDelay:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def _measure(self, watcher: _Watcher | None) -> None:
        pause = int(self._resolution * 1e9)
        try:
            while True:
                due = perf_counter_ns() + pause
                if watcher is not None:
                    watcher.expect(due)
                await anyio.sleep(self._resolution)
                self._record(max(perf_counter_ns() - due, 0))
        finally:
            if watcher is self._watcher:
                self._timer = None  # it has ended with its loop: it can be started in the next
            if watcher is not None:
                watcher.stop()

    def _stop_watcher(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.stop()

    def _record(self, late: int) -> None:
        bucket = _bucket(late)
        if bucket >= len(self._counts):
            self._counts.extend([0] * (bucket + 1 - len(self._counts)))
        self._counts[bucket] += 1
        self.count += 1
        self._sum += late
        self._sum_of_squares += late * late
        self._least = min(self._least, late) if self.count > 1 else late
        self._most = max(self._most, late)

    # --- figures ---------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget what was measured so far."""
        self._counts = array("Q")
        self.count = self._sum = self._sum_of_squares = self._least = self._most = 0

    @property
    def min(self) -> float:
        return self._least / 1e9

    @property
    def max(self) -> float:
        return self._most / 1e9

    @property
    def mean(self) -> float:
        return self._sum / self.count / 1e9 if self.count else 0.0

    @property
    def stddev(self) -> float:
        if not self.count:
            return 0.0
        mean = self._sum / self.count
        return sqrt(max(self._sum_of_squares / self.count - mean * mean, 0.0)) / 1e9

    def percentile(self, percent: float) -> float:
        """The delay that ``percent`` (above 0, at most 100) of the looks did not exceed."""
        if not 0 < percent <= 100:
            raise ValueError(f"a percentile is above 0 and at most 100, not {percent}")
        wanted = self.count * percent / 100
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                return min(_upper_end(bucket), self._most) / 1e9
        return 0.0


class _Watcher:
    """A thread that looks what the loop's thread is doing when it does not come back in time."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._loop_thread = threading.get_ident()
        self._due: int | None = None
        self._reported: int | None = None
        self._places: set[tuple[str, int]] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._watch, name="loopworkers loop delay", daemon=True
        )
        self._thread.start()

    def expect(self, due: int) -> None:
        self._due = due

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        pause = self._threshold / 2
        while not self._stop.wait(pause):
            due = self._due
            pause = self._threshold / 2
            if due is None or due == self._reported:
                continue
            late = (perf_counter_ns() - due) / 1e9
            if late < self._threshold:
                pause = min(pause, self._threshold - late)
                continue
            self._reported = due
            frame = sys._current_frames().get(self._loop_thread)
            if frame is not None:
                self._tell(late, frame)

    def _tell(self, late: float, frame: FrameType) -> None:
        place = frame.f_code.co_filename, frame.f_lineno
        if place in self._places or len(self._places) > 1000:
            return
        self._places.add(place)
        _logger.warning(
            "the event loop has been blocked for %.3f s so far, by %s at %s:%d; if that is work "
            "for the processor, `await run_in_worker(...)` takes it off the loop\n%s",
            late,
            frame.f_code.co_qualname,
            *place,
            "".join(traceback.format_stack(frame)),
        )


def loop_delay(resolution: float = 0.01, *, warn_after: float | None = None) -> LoopDelay:
    """Measure how late the event loop runs what is due, as Node's ``monitorEventLoopDelay``.

    Args:
        resolution: seconds between two looks. 0.01 costs about 0.2 % of one core.
        warn_after: log a warning, with the stack, when the loop has been blocked for this many
            seconds; once for each place in the code. A thread watches for that, so it is told
            while the loop is still blocked.

    Use it as ``with loop_delay() as delay: ...``, or call its ``start`` and ``stop``.
    """
    return LoopDelay(resolution, warn_after)

"""Blocking until a descriptor is ready, where no event loop runs.

A blocked thread of an isolate hears no order to stop, so it waits for the isolate's alarm as well.
"""

from __future__ import annotations

import select
from _thread import _local
from time import monotonic

from ..errors import PortClosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")

READABLE, WRITABLE = 1, 4  # POLLIN and POLLOUT


# Rings when the isolate is told to stop; see `_child/stop.py`.
alarm: int | None = None
# ``here.clock`` counts how long the thread of a `Worker` waits; see `idle.py`.
here: Any = _local()
# Only in a worker with a core of its own: a thread that looks would take the GIL from the loop.
may_spin = False


def new_spinner(look: Any) -> Any:
    if not may_spin:
        return None
    from .._wire.spin import Spinner

    return Spinner(look, 1)


def counted(wait: Callable[[], T]) -> T:
    """Call what waits, and count the time as idle if this is the thread of a `Worker`."""
    clock = getattr(here, "clock", None)
    if clock is None:
        return wait()
    clock.begin()
    try:
        return wait()
    finally:
        clock.end()


def until(fd: int, what: int, timeout: float | None = None) -> bool:
    """Block until ``fd`` is ready for it or at its end; False when ``timeout`` seconds passed."""
    return counted(lambda: until_ready(fd, what, timeout))


def until_ready(fd: int, what: int, timeout: float | None = None) -> bool:
    """`until` for those who count themselves."""
    if fd < 0:
        return True  # another thread has just closed it, which is something to look at
    ready = _poll(fd, what, timeout)
    if alarm is not None and alarm in ready:
        # Stage 1 of a stop raises once, and this can be a `finally` block after that.
        raise PortClosed("the isolate is being stopped")
    return bool(ready)


def _poll(fd: int, what: int, timeout: float | None) -> list[int]:
    if not hasattr(select, "poll"):  # Windows
        reading, writing = ([fd], []) if what == READABLE else ([], [fd])
        return [fd for found in select.select(reading, writing, [], timeout) for fd in found]
    poller = select.poll()
    poller.register(fd, what)
    if alarm is not None:
        poller.register(alarm, READABLE)
    milliseconds = None if timeout is None else max(0, -int(-timeout * 1000 // 1))
    return [found for found, _ in poller.poll(milliseconds)]


def has_hung_up(fd: int) -> bool:
    """Whether the other end of this socket is closed, whatever is still to be read."""
    poller = select.poll()
    poller.register(fd, 0)
    return bool(poller.poll(0))


class Deadline:
    """Seconds from now, or never."""

    def __init__(self, timeout: float | None) -> None:
        self._end = None if timeout is None else monotonic() + timeout

    def left(self) -> float | None:
        return None if self._end is None else max(0.0, self._end - monotonic())

"""How much of its time a worker waits, kept where its parent can read it without asking.

Three numbers in shared memory, written by the worker alone: when it came online, how long it has
waited so far, and since when it has been waiting (0 while it works).
"""

from __future__ import annotations

from time import monotonic_ns  # one clock for all processes of a machine

from . import waiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .._shared.buffer import SharedBuffer

SIZE = 24
_ONLINE, _IDLE, _SINCE = range(3)


class IdleClock:
    """The worker's side: `begin` and `end` around everything that waits for work."""

    def __init__(self, buffer: SharedBuffer) -> None:
        self._buffer = buffer  # keeps the memory
        self._cells = buffer._cells

    def online(self) -> None:
        self._cells[_ONLINE] = monotonic_ns()

    def begin(self) -> None:
        self._cells[_SINCE] = monotonic_ns()

    def end(self) -> None:
        cells = self._cells
        cells[_IDLE] += monotonic_ns() - cells[_SINCE]
        cells[_SINCE] = 0

    def counting(self, wait: Callable[..., Any]) -> Callable[..., Any]:
        """`begin` and `end` around every call of ``wait``, at half their cost."""
        cells, now = self._cells, monotonic_ns

        def counted(*args: Any) -> Any:
            cells[_SINCE] = since = now()
            try:
                return wait(*args)
            finally:
                cells[_IDLE] += now() - since
                cells[_SINCE] = 0

        return counted


def read(buffer: SharedBuffer) -> tuple[int, int]:
    """Nanoseconds since the worker came online, and how many of them it has waited."""
    online, idle, since = buffer._cells[:3].tolist()
    if not online:
        return 0, 0
    now = monotonic_ns()
    return now - online, idle + (now - since if since else 0)


def new_loop() -> Any:
    """An event loop for this worker: its waiting is counted, and an isolate's alarm ends it."""
    import asyncio

    clock = getattr(waiting.here, "clock", None)
    loop = asyncio.new_event_loop() if clock is None else _counting_loop(clock)
    if waiting.alarm is not None:
        # Awake, it runs into what the stop raises; see `_child/stop.py`. The first stage can hit a
        # callback, whose exceptions the loop only logs: it must not fall asleep before the second.
        loop.add_reader(waiting.alarm, int)
    return loop


def _counting_loop(clock: IdleClock) -> Any:
    import asyncio
    import selectors

    look = selectors.DefaultSelector.select
    wait = clock.counting(look)

    class Selector(selectors.DefaultSelector):
        def select(self, timeout: float | None = None) -> Any:
            return (wait if timeout is None or timeout > 0 else look)(self, timeout)

    return asyncio.SelectorEventLoop(Selector())

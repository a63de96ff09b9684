"""An event for many waiters, of a loop's signals: anyio's would cost a first `Worker` 20 ms."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import Loop, Signal


class Gate:
    """Opens once; not thread-safe."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._waiting: list[Signal] = []
        self.is_open = False

    def open(self) -> None:
        self.is_open = True
        for signal in self._waiting:
            signal.set()

    async def wait(self) -> None:
        """Return when it is open, at once if it is already."""
        if self.is_open:
            return
        signal = self._loop.new_signal()
        self._waiting.append(signal)
        try:
            await signal
        finally:
            self._waiting.remove(signal)

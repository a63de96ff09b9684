"""Waiting for a pipe in tasks: one watch of its socket serves all who wait."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from .._loop import current
from ..errors import PortClosed

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._loop import Signal
    from .pipe import Message, Outgoing, Pipe

# So often a task that always finds what it wants lets others run, and notices a cancellation.
_TURNS = 32


class LoopSide:
    """A pipe's use by the tasks of one event loop."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._loop = current()
        self._fd = pipe.socket.fileno()
        self._readers: deque[Signal] = deque()
        self._writers: deque[Signal] = deque()
        self._watches_in = False
        self._watches_out = False
        self._turns = 0

    def is_here(self) -> bool:
        return self._loop.is_running_here()

    def call_soon_threadsafe(self, callback: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(callback)

    def wake_reader(self) -> None:
        """There are messages, which another thread has received together with its own."""
        if self._readers and self._pipe.inbox:
            self._readers[0].set()

    # --- receiving -----------------------------------------------------------------------

    async def receive(self) -> Message:
        """The next message; raises PortClosed after the last."""
        pipe = self._pipe
        if pipe.inbox:
            self._turns += 1
            if self._turns >= _TURNS:
                await self._give_way()
        while not pipe.inbox:
            if not pipe.ended:
                pipe.fill()
            if pipe.inbox:
                break
            if pipe.ended:
                raise pipe.end_of_messages()
            await self._until_readable()
        message = pipe.inbox.popleft()
        if self._readers and pipe.inbox:
            self._readers[0].set()
        return message

    async def _until_readable(self) -> None:
        signal = self._loop.new_signal()
        self._readers.append(signal)
        if not self._watches_in:
            self._watches_in = True
            self._loop.add_reader(self._fd, self._on_readable)
        self._turns = 0
        try:
            await signal
        finally:
            # One who was woken and cancelled in the same moment leaves the message to the next.
            if self._readers and self._readers[0] is signal and self._pipe.inbox:
                self._readers.popleft()
                if self._readers:
                    self._readers[0].set()
            elif signal in self._readers:
                self._readers.remove(signal)

    def _on_readable(self) -> None:
        if not self._readers:
            # Nobody wants more now, and the socket is the better place for it to wait.
            self._stop_reading()
            return
        self._pipe.fill()
        if self._pipe.ended:
            self._stop_reading()
            for reader in self._readers:
                reader.set()
        elif self._pipe.inbox:
            self._readers[0].set()

    def _stop_reading(self) -> None:
        if self._watches_in:
            self._watches_in = False
            self._loop.remove_reader(self._fd)

    # --- sending -------------------------------------------------------------------------

    async def sent(self, outgoing: Outgoing | None) -> None:
        """Return when the socket has taken the message; raises PortClosed if it never will."""
        if outgoing is None:
            self._turns += 1
            if self._turns >= _TURNS:
                await self._give_way()
            return
        while not outgoing.sent:
            if self._pipe.broken:
                raise PortClosed("the other end of the port was closed before it took the message")
            signal = self._loop.new_signal()
            self._writers.append(signal)
            self.flush_later()
            try:
                await signal
            finally:
                self._writers.remove(signal)

    def flush_later(self) -> None:
        """Send what the socket has not taken as soon as there is room."""
        if not self._watches_out:
            self._watches_out = True
            self._loop.add_writer(self._fd, self._on_writable)

    def _on_writable(self) -> None:
        # Also for a message whose sender was cancelled: it may be half-way out.
        self._pipe.flush()
        if not self._pipe.is_sending:
            self._stop_writing()
        for writer in self._writers:
            writer.set()

    def _stop_writing(self) -> None:
        if self._watches_out:
            self._watches_out = False
            self._loop.remove_writer(self._fd)

    # --- both ----------------------------------------------------------------------------

    async def _give_way(self) -> None:
        from anyio.lowlevel import checkpoint

        self._turns = 0
        await checkpoint()

    @property
    def is_waited_for(self) -> bool:
        return bool(self._readers or self._writers)

    def close(self) -> None:
        """Before the socket is closed or handed on: who waits is told by what is left."""
        self._stop_reading()
        self._stop_writing()
        for signal in (*self._readers, *self._writers):
            signal.set()

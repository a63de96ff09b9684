"""What a client sent and the handler has not taken yet, within a bound."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from ._types import Message


class Inbox:
    """Between the one task that reads from the server and whoever reads in the handler.

    Args:
        limit: bytes from which on the server is asked for no more until some are taken. One
            message goes beyond it, however large.
        at_once: whether to read before the handler has asked for anything.
    """

    def __init__(self, limit: int, *, at_once: bool) -> None:
        self._limit = limit
        self._asked = at_once
        self._messages: deque[Message] = deque()
        self._size = 0
        self._end: Message | Exception | None = None
        self._change: anyio.Event | None = None
        self.readers = 0  # how many wait in `get`

    async def room(self) -> None:
        """Wait until the handler can be brought another message."""
        while not self._asked or self._size >= self._limit:
            await self._changed()

    def put(self, message: Message) -> None:
        self._messages.append(message)
        self._size += _size_of(message)
        self._wake()

    def end(self, end: Message | Exception) -> None:
        """After what there is, every `get` gives this message or raises this exception."""
        self._end = end
        self._wake()

    async def get(self) -> Message:
        """The next message; loses none when cancelled, and may be called by several at a time."""
        if not self._asked:
            self._asked = True
            self._wake()
        self.readers += 1
        try:
            while not self._messages and self._end is None:
                await self._changed()
        finally:
            self.readers -= 1
        if self._messages:
            message = self._messages.popleft()
            self._size -= _size_of(message)
            self._wake()
            return message
        if isinstance(self._end, Exception):
            raise self._end
        assert self._end is not None
        return self._end

    async def _changed(self) -> None:
        if self._change is None:
            self._change = anyio.Event()
        await self._change.wait()

    def _wake(self) -> None:
        if self._change is not None:
            self._change.set()
            self._change = None


def _size_of(message: Message) -> int:
    return len(message.get("body") or message.get("bytes") or message.get("text") or b"")

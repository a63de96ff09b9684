"""What a worker writes to its stdout or stderr, as an async stream of bytes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class OutputStream:
    """``async for chunk in stream``, until the worker has closed it or ended."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd: int | None = fd

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """At least one byte; raises `anyio.EndOfStream` at the end."""
        while self._fd is not None:
            try:
                data = os.read(self._fd, max_bytes)
            except BlockingIOError:
                await anyio.wait_readable(self._fd)
                continue
            if not data:
                self.close()
                break
            return data
        raise anyio.EndOfStream

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    def close(self) -> None:
        """Stop listening; a worker that goes on writing gets a BrokenPipeError."""
        fd, self._fd = self._fd, None
        if fd is not None:
            anyio.notify_closing(fd)
            os.close(fd)

    def __del__(self) -> None:
        if self._fd is not None:
            os.close(self._fd)


def open_pipe() -> tuple[OutputStream, int]:
    """The stream, and the descriptor to write to."""
    reader, writer = os.pipe()
    return OutputStream(reader), writer

"""Learns of the end of a connection, which aiohttp tells nobody."""

from __future__ import annotations

import asyncio
from typing import Any


class Connection(asyncio.Protocol):
    """Stands before aiohttp's protocol of a connection, from its first request to its end."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self._task: asyncio.Task[Any] | None = None

    @classmethod
    def of(cls, transport: asyncio.Transport) -> Connection:
        protocol = transport.get_protocol()
        if not isinstance(protocol, cls):
            protocol = cls(protocol)
            transport.set_protocol(protocol)
        return protocol

    def cancel_at_end(self, task: asyncio.Task[Any]) -> None:
        """Cancel ``task`` if the connection ends before it; one task at a time."""
        self._task = task
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        if self._task is task:
            self._task = None

    # --- what the transport calls ----------------------------------------------------------------

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)
        task = self._task
        # With `handler_cancellation` aiohttp has just done it. Twice would count as two requests to
        # cancel, of which a handler's own `asyncio.timeout` or task group takes back but one.
        if task is not None and not task.cancelling():
            task.cancel()

    def data_received(self, data: bytes) -> None:
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        result: bool | None = self._protocol.eof_received()
        return result

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

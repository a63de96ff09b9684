"""A cluster's listening sockets for trio."""

from __future__ import annotations

import socket
from typing import Any

import trio

from .listeners import CountedListener


class _Stream(trio.abc.HalfCloseableStream):
    """A `trio.SocketStream`, which cannot be derived from, that tells when it is closed.

    ``serve_listeners`` refers to the last connection until the next one comes, so that the end of
    the object would tell too late.
    """

    def __init__(self, listener: CountedListener, connection: socket.socket) -> None:
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(connection))
        self._listener = listener
        self._connection = connection

    def __getattr__(self, name: str) -> Any:  # socket, setsockopt, getsockopt
        return getattr(self._stream, name)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        self._stream.socket.close()
        self._listener.closed(self._connection)
        await self._stream.aclose()


class _Listener(trio.abc.Listener[_Stream]):
    def __init__(self, listener: CountedListener) -> None:
        listener.setblocking(False)
        listener.connection_class = socket.socket  # trio takes no class derived from it
        self.socket = listener

    async def accept(self) -> _Stream:
        while True:
            if self.socket.fileno() == -1:
                raise trio.ClosedResourceError
            try:
                connection, _ = self.socket.accept()
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self.socket)
            except (
                ConnectionAbortedError
            ):  # that one is lost, which `serve_listeners` would end for
                await trio.lowlevel.checkpoint()
            else:
                # A cancellation here would lose the connection.
                await trio.lowlevel.cancel_shielded_checkpoint()
                return _Stream(self.socket, connection)

    async def aclose(self) -> None:
        if self.socket.fileno() != -1:
            trio.lowlevel.notify_closing(self.socket)
            self.socket.close()
        await trio.lowlevel.checkpoint()


def listener_for(listener: socket.socket) -> trio.abc.Listener[_Stream]:
    assert isinstance(listener, CountedListener)
    return _Listener(listener)

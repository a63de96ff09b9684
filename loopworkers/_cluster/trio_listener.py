"""A cluster's listening sockets for trio."""

from __future__ import annotations

import socket

import trio

from .listeners import CountedListener


class _Listener(trio.abc.Listener[trio.SocketStream]):
    def __init__(self, listener: CountedListener) -> None:
        listener.setblocking(False)
        listener.connection_class = socket.socket  # trio takes no class derived from it
        self.socket = listener

    async def accept(self) -> trio.SocketStream:
        while True:
            if self.socket.fileno() == -1:
                raise trio.ClosedResourceError
            try:
                connection, _ = self.socket.accept()
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self.socket)
            else:
                # A cancellation here would lose the connection.
                await trio.lowlevel.cancel_shielded_checkpoint()
                return trio.SocketStream(trio.socket.from_stdlib_socket(connection))

    async def aclose(self) -> None:
        if self.socket.fileno() != -1:
            trio.lowlevel.notify_closing(self.socket)
            self.socket.close()
        await trio.lowlevel.checkpoint()


def listener_for(listener: socket.socket) -> trio.abc.Listener[trio.SocketStream]:
    assert isinstance(listener, CountedListener)
    return _Listener(listener)

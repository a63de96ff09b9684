"""uvloop's loop, for the listeners of a cluster.

uvloop accepts in C. It needs the kernel's listening socket, where connections are handed over, and
counts nothing, without which `Member.drained` would have nothing to wait for.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import uvloop

from .listeners import CountedListener

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

# What of the options of `create_server` is of each connection.
_TLS = ("ssl", "ssl_handshake_timeout", "ssl_shutdown_timeout")
# As many connections in one turn of the loop.
_BURST = 64


class _Loop(uvloop.Loop):
    async def create_server(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        listener = options.get("sock")
        if not isinstance(listener, CountedListener):
            return await super().create_server(protocol_factory, *args, **options)
        tls = {name: options[name] for name in _TLS if name in options}
        server = _Server(self, listener, protocol_factory, tls)
        if options.get("start_serving", True):
            await server.start_serving()
        return server


def new_loop() -> asyncio.AbstractEventLoop:
    return _Loop()


class _Server(asyncio.AbstractServer):
    def __init__(
        self,
        loop: _Loop,
        listener: CountedListener,
        factory: Callable[[], Any],
        tls: dict[str, Any],
    ) -> None:
        listener.setblocking(False)
        self._loop = loop
        self._listener: CountedListener | None = listener
        self._factory = factory
        self._tls = tls
        self._serving = False
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        return () if self._listener is None else (self._listener,)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def is_serving(self) -> bool:
        return self._serving

    async def start_serving(self) -> None:
        if self._listener is not None and not self._serving:
            self._serving = True
            self._loop.add_reader(self._listener.fileno(), self._accept)

    async def serve_forever(self) -> None:
        await self.start_serving()
        try:
            await self._loop.create_future()
        finally:
            self.close()

    def close(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            if self._serving:
                self._loop.remove_reader(listener.fileno())
                self._serving = False
            listener.close()

    def close_clients(self) -> None:
        raise NotImplementedError("uvloop's servers have no such method either")

    def abort_clients(self) -> None:
        raise NotImplementedError("uvloop's servers have no such method either")

    async def wait_closed(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _accept(self) -> None:
        for _ in range(_BURST):
            if self._listener is None:
                return
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setblocking(False)
            task = self._loop.create_task(self._serve(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._factory, connection, **self._tls)
        except OSError:
            connection.close()  # gone already, or a failed handshake

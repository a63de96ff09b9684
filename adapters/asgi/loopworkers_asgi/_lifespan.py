"""Opens and closes something with an application, by the ASGI lifespan protocol."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._types import ASGIApp, Message, Receive, Scope, Send


class Lifespan:
    """ASGI middleware that has ``resource`` open while the application lives.

    It is opened before the application's own start-up and closed after its shutdown, also for
    applications that have no lifespan, like Django's.

    Args:
        app: the application.
        resource: an async context manager, such as `Workers`.
    """

    def __init__(self, app: ASGIApp, resource: AbstractAsyncContextManager[Any]) -> None:
        self.app = app
        self._resource = resource

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            async with AsyncExitStack() as stack:
                await _Life(stack, self._resource, receive, send).run(self.app, scope)
        else:
            await self.app(scope, receive, send)


class _Life:
    def __init__(self, stack: AsyncExitStack, resource: Any, receive: Receive, send: Send) -> None:
        self._stack = stack
        self._resource = resource
        self._receive = receive
        self._send = send
        self._startup: list[Message] = []  # until the application has taken it

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        self._startup.append(await self._receive())
        try:
            await self._stack.enter_async_context(self._resource)
        except Exception as error:
            # Raised alone it would mean that the application has no lifespan.
            message = f"{type(error).__name__}: {error}"
            await self._send({"type": "lifespan.startup.failed", "message": message})
            raise
        try:
            await app(scope, self._receive_on, self._send_on)
        except Exception:
            if not self._startup:
                raise
        if self._startup:  # the application does not know the protocol
            await self._send({"type": "lifespan.startup.complete"})
            await self._receive()
            await self._send_on({"type": "lifespan.shutdown.complete"})

    async def _receive_on(self) -> Message:
        return self._startup.pop() if self._startup else await self._receive()

    async def _send_on(self, message: Message) -> None:
        if message["type"].startswith("lifespan.shutdown."):
            # The server may end the loop as soon as it has this.
            await self._stack.aclose()
        await self._send(message)

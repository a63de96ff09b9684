"""The streams and maps that a handler has begun, so that they end with it.

Frameworks drop the generator behind a streamed response when the client is gone, without closing
it: what it iterates over would hold its worker until the garbage collector comes by.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import anyio

from ._sent import Sent

if TYPE_CHECKING:
    from types import TracebackType

    from ._types import ASGIApp, Message, Receive, Scope, Send

_of_handler: ContextVar[WeakSet[Any] | None] = ContextVar("iterations", default=None)


def begun(iteration: Any) -> Any:
    """Note that the handler which runs here has begun this one."""
    iterations = _of_handler.get()
    if iterations is not None:
        iterations.add(iteration)
    return iteration


class Iterations:
    """Around a handler: if it is cancelled or fails, what it has begun is closed."""

    async def __aenter__(self) -> Iterations:
        self._begun: WeakSet[Any] = WeakSet()
        self._token = _of_handler.set(self._begun)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        _of_handler.reset(self._token)
        if exc_type is not None:
            await self.aclose()

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            for iteration in list(self._begun):
                await iteration.aclose()


class CloseIterations:
    """ASGI middleware that closes the streams and maps of a handler that leaves its response
    incomplete: it was cancelled, has failed, or was told that the client is gone.

    For frameworks that end the handler of a client that is gone themselves, as Django does;
    `CancelOnDisconnect` includes it. What a handler has begun for later, and answers without,
    goes on.

    Args:
        app: the application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sent = Sent()

        async def watched_send(message: Message) -> None:
            sent.note(message)
            await send(message)

        async with Iterations() as iterations:
            await self.app(scope, receive, watched_send)
            if not sent.is_complete:
                await iterations.aclose()

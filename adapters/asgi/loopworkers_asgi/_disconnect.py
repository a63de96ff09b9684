"""`CancelOnDisconnect`: when the client is gone, nobody works for it any more."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from ._inbox import Inbox
from ._iterations import Iterations
from ._sent import Sent

if TYPE_CHECKING:
    from ._types import ASGIApp, Message, Receive, Scope, Send

_logger = logging.getLogger("loopworkers")


class CancelOnDisconnect:
    """ASGI middleware that cancels the handler of a request whose client disconnects.

    The worker calls that it awaits are cancelled with it, and the streams and maps that it has
    begun are closed, so their workers are free for others. Calls that nobody awaits run on. What
    runs after a complete response (background tasks) is not cancelled, and what shields itself
    runs to the end of its shield. On asyncio the cancellation is that of an anyio scope: clean-up
    that awaits needs ``anyio.CancelScope(shield=True)`` around it.

    It should be the outermost middleware, so that no other one waits for a response that will
    not come.

    Args:
        app: the application.
        buffer_size: bytes of a request's body that are read before the handler asks for them.
            A disconnect is noticed once all before it has been read: a handler that leaves a
            larger body unread is not cancelled.
        websockets: also cancel handlers of WebSockets, if they are not waiting for a message
            when the client leaves. What they had not received by then is dropped. Otherwise
            WebSockets are passed through as they are.

    A request with ``Expect: 100-continue`` is left alone until its handler reads the body, as
    reading is what tells the client to send it.
    """

    def __init__(self, app: ASGIApp, *, buffer_size: int = 65536, websockets: bool = False) -> None:
        if buffer_size < 1:
            raise ValueError(f"buffer_size must be 1 or more bytes, not {buffer_size}")
        self.app = app
        self._buffer_size = buffer_size
        self._websockets = websockets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" or (scope["type"] == "websocket" and self._websockets):
            inbox = Inbox(self._buffer_size, at_once=not _expects_continue(scope))
            await _Attended(scope, receive, send, inbox).run(self.app)
        else:
            await self.app(scope, receive, send)


class _Attended:
    """One request, or one WebSocket."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, inbox: Inbox) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._inbox = inbox
        self._handler = anyio.CancelScope()
        self._sent = Sent()

    async def run(self, app: ASGIApp) -> None:
        failed: BaseException | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._read)
            try:
                with self._handler:
                    async with Iterations():
                        await app(self._scope, self._inbox.get, self._send_on)
            except anyio.get_cancelled_exc_class():
                raise  # by the server, or who else is around us
            except BaseException as error:  # raised below, where the group does not wrap it
                failed = error
            group.cancel_scope.cancel()
        if failed is not None:
            try:
                raise failed
            finally:
                del failed

    async def _read(self) -> None:
        """The only one who asks the server for messages."""
        body_ended = False
        while True:
            await self._inbox.room()
            try:
                message = await self._receive()
            except Exception as error:  # of a middleware that refuses what it sees, say
                self._inbox.end(error)
                return
            if message["type"].endswith(".disconnect"):
                self._on_disconnect(message)
                return
            self._inbox.put(message)
            if body_ended:
                return  # a `receive` that repeats a body for ever, as some middleware has it
            body_ended = message["type"] == "http.request" and not message.get("more_body", False)

    def _on_disconnect(self, message: Message) -> None:
        is_told = self._scope["type"] == "websocket" and self._inbox.readers
        if not self._sent.is_complete and not is_told:
            _logger.debug("the client of %s is gone, its handler is cancelled", self._scope["path"])
            self._handler.cancel()
        # Only now: who is reading is cancelled, rather than told in the moment before. The message
        # is for those who shield themselves, or whose response is complete.
        self._inbox.end(message)

    async def _send_on(self, message: Message) -> None:
        # Before it is sent: a server may report the end of the connection while it sends.
        self._sent.note(message)
        await self._send(message)


def _expects_continue(scope: Scope) -> bool:
    return any(
        name.lower() == b"expect" and value.lower() == b"100-continue"
        for name, value in scope["headers"]
    )

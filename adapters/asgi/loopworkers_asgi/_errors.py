"""What an error of a worker call is in HTTP."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from loopworkers import CallTimeout, EngineFailed, PoolFull, WorkerDied

from ._respond import respond

if TYPE_CHECKING:
    from ._types import ASGIApp, Message, Receive, Scope, Send

_logger = logging.getLogger("loopworkers")

#: The errors that `error_response` has an answer for.
ERRORS: tuple[type[Exception], ...] = (PoolFull, CallTimeout, WorkerDied, EngineFailed)


class ErrorResponse(NamedTuple):
    """Status, headers and body of an answer; ``detail`` is the body's text.

    The text is the same for every error of a type: nothing of the call or the worker is in it.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    detail: str


def error_response(error: BaseException, *, retry_after: int = 1) -> ErrorResponse | None:
    """The answer to a request whose worker call raised ``error``, or None if it is another's.

    Args:
        retry_after: seconds, for the ``Retry-After`` of the 503.

    `PoolFull` is 503, `CallTimeout` 504, `WorkerDied` 500, `EngineFailed` 503 without a
    ``Retry-After``. The last two are logged, by the logger "loopworkers", with their tracebacks.
    """
    if isinstance(error, PoolFull):
        extra = [(b"retry-after", b"%d" % retry_after)]
        return _response(503, "all workers are busy, try again later", extra)
    if isinstance(error, CallTimeout):
        return _response(504, "the work took too long")
    if isinstance(error, WorkerDied):
        _logger.error("a request failed: %s", error, exc_info=error)
        return _response(500, "the work failed")
    if isinstance(error, EngineFailed):
        _logger.error("a request failed: %s", error, exc_info=error)
        return _response(503, "the workers are out of reach")
    return None


def _response(
    status: int, detail: str, extra: list[tuple[bytes, bytes]] | None = None
) -> ErrorResponse:
    body = f"{detail}\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        *(extra or ()),
    ]
    return ErrorResponse(status, headers, body, detail)


class ErrorResponses:
    """ASGI middleware that answers for a handler that let an error of a worker call through.

    See `error_response`. Once the response has begun, and for WebSockets, the error goes on to
    the server. A framework that turns exceptions into responses itself needs `error_response`
    in a handler of its own instead: nothing arrives here.

    Args:
        app: the application.
        retry_after: seconds, for the ``Retry-After`` of a 503.
    """

    def __init__(self, app: ASGIApp, *, retry_after: int = 1) -> None:
        self.app = app
        self._retry_after = retry_after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def watched_send(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watched_send)
        except ERRORS as error:
            response = error_response(error, retry_after=self._retry_after)
            if response is None or begun:
                raise
        else:
            return
        await respond(scope, send, response.status, response.headers, response.body)

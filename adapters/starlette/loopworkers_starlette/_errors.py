"""Exception handlers: errors of worker calls in the form that the application gives its own."""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any

from loopworkers_asgi import ERRORS, error_response
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketState

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

_TRY_AGAIN_LATER, _INTERNAL_ERROR = 1013, 1011  # as WebSockets close


def exception_handlers(*, retry_after: int = 1) -> dict[type[Exception], Any]:
    """For `Starlette(exception_handlers=...)`: 503, 504 and 500, as `error_response` has them.

    They answer by the application's own handler of `HTTPException`, if it has one, which makes
    them JSON in FastAPI; else in plain text. A WebSocket is closed with code 1013 or 1011.

    Args:
        retry_after: seconds, for the ``Retry-After`` of a 503.
    """
    handler = partial(_answer, retry_after)
    return dict.fromkeys(ERRORS, handler)


async def _answer(retry_after: int, connection: HTTPConnection, error: Exception) -> Any:
    found = error_response(error, retry_after=retry_after)
    assert found is not None
    if isinstance(connection, WebSocket):
        if connection.application_state is not WebSocketState.DISCONNECTED:
            await connection.close(_TRY_AGAIN_LATER if found.status == 503 else _INTERNAL_ERROR)
        return None
    headers = {name.decode(): value.decode() for name, value in found.headers}
    handler = connection.app.exception_handlers.get(HTTPException)
    if handler is None:
        return Response(found.body, found.status, headers)
    del headers["content-length"], headers["content-type"]
    answer = handler(connection, HTTPException(found.status, found.detail, headers))
    return await answer if inspect.isawaitable(answer) else answer

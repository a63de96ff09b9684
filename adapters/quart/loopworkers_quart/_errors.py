"""What an error of a worker call is in HTTP, for a Quart application."""

from __future__ import annotations

from loopworkers_asgi import error_response
from quart import Response, has_websocket_context


async def answer(retry_after: int, error: Exception) -> Response:
    """For ``app.register_error_handler``, with the first argument given.

    Of an accepted WebSocket there is nothing to answer: the error goes on to Quart.
    """
    if has_websocket_context():
        raise error
    found = error_response(error, retry_after=retry_after)
    assert found is not None
    headers = {name.decode(): value.decode() for name, value in found.headers}
    return Response(found.body, found.status, headers)

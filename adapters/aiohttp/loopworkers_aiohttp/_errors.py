"""Middleware: what an error of a worker call is in HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from loopworkers_asgi import ERRORS, error_response

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

_EXCEPTIONS: dict[int, type[web.HTTPException]] = {
    500: web.HTTPInternalServerError,
    503: web.HTTPServiceUnavailable,
    504: web.HTTPGatewayTimeout,
}


def error_responses(*, retry_after: int = 1) -> Middleware:
    """Raise what `loopworkers_asgi.error_response` has for an error as aiohttp's own exception.

    So middleware around it that gives those a form, JSON say, does it for these as well. Once
    the response has begun the error goes on to the server.

    Args:
        retry_after: seconds, for the ``Retry-After`` of a 503.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except ERRORS as error:
            found = error_response(error, retry_after=retry_after)
            if found is None or request.writer.output_size > 0:
                raise
            headers = {name.decode(): value.decode() for name, value in found.headers}
            del headers["content-length"], headers["content-type"]  # given with the text
            raise _EXCEPTIONS[found.status](text=f"{found.detail}\n", headers=headers) from error

    return middleware

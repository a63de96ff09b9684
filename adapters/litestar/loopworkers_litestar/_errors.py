"""Errors of worker calls, in the form that Litestar's own errors have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litestar.exceptions import HTTPException
from litestar.exceptions.responses import create_exception_response
from loopworkers_asgi import error_response

if TYPE_CHECKING:
    from litestar import Request, Response


class Answer:
    """An exception handler for `loopworkers_asgi.ERRORS`."""

    def __init__(self, retry_after: int) -> None:
        self._retry_after = retry_after

    def __call__(self, request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
        answer = error_response(error, retry_after=self._retry_after)
        assert answer is not None
        # Those of the body are Litestar's: the form of it is.
        headers = {
            name.decode(): value.decode()
            for name, value in answer.headers
            if not name.startswith(b"content-")
        }
        http_error = HTTPException(
            detail=answer.detail, status_code=answer.status, headers=headers or None
        )
        return create_exception_response(request, http_error)

"""The middleware: what an error of a worker call is in HTTP."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.utils.deprecation import MiddlewareMixin
from loopworkers_asgi import error_response

from ._settings import retry_after


class WorkersMiddleware(MiddlewareMixin):  # type: ignore[misc]
    """Answers for views that let an error of a worker call through.

    `PoolFull` is 503 with ``Retry-After``, `CallTimeout` 504 and `WorkerDied` 500; see
    `loopworkers_asgi.error_response`. Nothing of the error is in the answer, with ``DEBUG``
    neither. Django asks the last one of ``MIDDLEWARE`` first: one after this may give another
    answer, by a ``process_exception`` of its own.
    """

    def process_exception(self, request: Any, exception: Exception) -> Any:
        """Called by Django, in a thread."""
        found = error_response(exception, retry_after=retry_after())
        if found is None:
            return None
        headers = {name.decode(): value.decode() for name, value in found.headers}
        return HttpResponse(found.body, status=found.status, headers=headers)

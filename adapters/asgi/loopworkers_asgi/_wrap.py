"""All of it around an application, in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._disconnect import CancelOnDisconnect
from ._endpoints import Endpoints, endpoints
from ._errors import ErrorResponses
from ._lifespan import Lifespan

if TYPE_CHECKING:
    from ._page import Page
    from ._types import ASGIApp
    from ._workers import Workers


def with_workers(
    app: ASGIApp,
    workers: Workers,
    *,
    cancel_on_disconnect: bool = True,
    retry_after: int = 1,
    serve_endpoints: bool = True,
    page: Page | None = None,
) -> ASGIApp:
    """``app``, with ``workers`` open while it lives.

    Args:
        app: any ASGI application.
        workers: what its handlers call.
        cancel_on_disconnect: see `CancelOnDisconnect`.
        retry_after: seconds, for the ``Retry-After`` of a 503; see `ErrorResponses`.
        serve_endpoints: answer at ``/health/live``, ``/health/ready`` and ``/metrics``; see
            `endpoints`.
        page: a live page for people, ``Page()`` for one at ``/loopworkers``; see `Page`.
    """
    app = ErrorResponses(app, retry_after=retry_after)
    if cancel_on_disconnect:
        app = CancelOnDisconnect(app)
    if serve_endpoints:
        app = Endpoints(app, endpoints(workers))
    if page is not None:
        app = Endpoints(app, page.apps(workers))
    return Lifespan(app, workers)

"""`workers_asgi`: what goes around a project's ASGI application."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from loopworkers_asgi import CloseIterations, Endpoints, Lifespan

from ._workers import workers

if TYPE_CHECKING:
    from loopworkers_asgi import Page

    from ._workers import DjangoWorkers

_logger = logging.getLogger("loopworkers")


def workers_asgi(application: Any, *, page: Page | None = None) -> Any:
    """``application``, with the project's `workers` open while it is served.

    Args:
        application: what ``get_asgi_application()`` returns, or a router with that in it.
        page: a live page for people, ``Page()`` for one at ``/loopworkers``; see
            `loopworkers_asgi.Page`. It is not one of Django's: neither the project's middleware nor
            ``ALLOWED_HOSTS`` apply to it.

    Raises ImproperlyConfigured if there is something wrong with the setting ``LOOPWORKERS``.

    Django itself cancels the view of a client that is gone, and the view's worker calls with
    it; here the streams and maps that it has begun are closed. With a server that has no ASGI
    lifespan the workers open at the first request, and end with the event loop.
    """
    workers.configure()
    app: Any = _OpenAtFirstRequest(CloseIterations(application), workers)
    if page is not None:
        app = Endpoints(app, page.apps(workers))
    return Lifespan(app, workers)


class _OpenAtFirstRequest:
    """For servers that have no lifespan, as daphne, or where it is turned off."""

    def __init__(self, app: Any, workers: DjangoWorkers) -> None:
        self._app = app
        self._workers = workers
        self._has_lifespan = False
        self._opening: asyncio.Task[Any] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            self._has_lifespan = True
        elif not self._has_lifespan:
            await self._opened()
        await self._app(scope, receive, send)

    async def _opened(self) -> None:
        if self._opening is None:
            _logger.info("this server has no ASGI lifespan: workers end with its event loop")
            # A task, because the pool of an open block is the current one in the block's context,
            # and this request's is no block.
            self._opening = asyncio.create_task(self._workers.__aenter__())
        opening = self._opening
        try:
            await asyncio.shield(opening)
        except Exception:
            if self._opening is opening:
                self._opening = None  # the next request tries again
            raise

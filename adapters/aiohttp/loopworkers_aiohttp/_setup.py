"""All of it for an application, in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from loopworkers_asgi import Workers

from ._disconnect import cancel_on_disconnect as cancel_on_disconnect_
from ._errors import error_responses
from ._routes import page_routes, routes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from loopworkers_asgi import Page

#: Where handlers find them: ``request.app[WORKERS]``, in a sub-application
#: ``request.config_dict[WORKERS]``.
WORKERS = web.AppKey("WORKERS", Workers)


def setup(
    app: web.Application,
    workers: Workers,
    *,
    cancel_on_disconnect: bool = True,
    retry_after: int = 1,
    serve_endpoints: bool = True,
    page: Page | None = None,
) -> None:
    """Have ``workers`` open while ``app`` lives, as ``app[WORKERS]``.

    Args:
        app: before it has started; may be a sub-application.
        workers: what the handlers call.
        cancel_on_disconnect: see `cancel_on_disconnect`.
        retry_after: seconds, for the ``Retry-After`` of a 503; see `error_responses`.
        serve_endpoints: routes ``/health/live``, ``/health/ready`` and ``/metrics``; see `routes`.
        page: a live page for people, ``Page()`` for one at ``/loopworkers``; see
            `loopworkers_asgi.Page`.
    """
    app[WORKERS] = workers
    # Before what others clean up: their clean-up, which runs in reverse, may still use workers.
    app.cleanup_ctx.insert(0, lifetime(workers))
    app.on_shutdown.append(_drain)
    app.middlewares.append(error_responses(retry_after=retry_after))
    if cancel_on_disconnect:
        app.middlewares.insert(0, cancel_on_disconnect_)
    if serve_endpoints:
        app.add_routes(routes(workers))
    if page is not None:
        app.add_routes(page_routes(workers, page))


def lifetime(workers: Workers) -> Callable[[web.Application], AsyncIterator[None]]:
    """For ``app.cleanup_ctx``: opens ``workers`` with the application and closes them with it."""

    async def context(app: web.Application) -> AsyncIterator[None]:
        async with workers:
            yield

    return context


async def _drain(app: web.Application) -> None:
    app[WORKERS].drain()

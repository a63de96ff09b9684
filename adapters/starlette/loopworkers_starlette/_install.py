"""The parts of a Starlette application that have to do with workers, and all of them at once."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from loopworkers_asgi import CancelOnDisconnect, Page, Workers, endpoints
from starlette.routing import Route

from ._errors import exception_handlers

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextlib import AbstractAsyncContextManager

    from starlette.applications import Starlette
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send


def install(
    app: Starlette,
    workers: Workers,
    *,
    cancel_on_disconnect: bool = True,
    retry_after: int = 1,
    serve_endpoints: bool = True,
    page: Page | None = None,
) -> None:
    """Have ``workers`` open while ``app``, of Starlette or FastAPI, lives.

    Handlers find them as ``request.state.workers``, those of FastAPI also by `WorkersDep`. The
    application's own lifespan goes on as it was, with the workers open around it.

    Args:
        app: before it has started.
        workers: what the handlers call.
        cancel_on_disconnect: cancel handlers whose client is gone, and their worker calls; see
            `loopworkers_asgi.CancelOnDisconnect`. Middleware added to ``app`` later is outside
            of it.
        retry_after: seconds, for the ``Retry-After`` of a 503; see `exception_handlers`.
        serve_endpoints: routes ``/health/live``, ``/health/ready`` and ``/metrics``; see `routes`.
        page: a live page for people, ``Page()`` for one at ``/loopworkers``; see
            `loopworkers_asgi.Page`.
    """
    app.router.lifespan_context = lifespan(workers, app.router.lifespan_context)
    app.add_middleware(
        WorkersMiddleware, workers=workers, cancel_on_disconnect=cancel_on_disconnect
    )
    for error, handler in exception_handlers(retry_after=retry_after).items():
        app.add_exception_handler(error, handler)
    if serve_endpoints:
        app.router.routes[:0] = routes(workers)
    if page is not None:
        app.router.routes[:0] = page_routes(workers, page)


def lifespan(
    workers: Workers,
    own: Callable[[Any], AbstractAsyncContextManager[Any]] | None = None,
) -> Callable[[Any], AbstractAsyncContextManager[Any]]:
    """For `Starlette(lifespan=...)`: opens ``workers``, then what the application opens itself.

    Args:
        own: the application's own lifespan, an async context manager function.
    """

    @asynccontextmanager
    async def opened(app: Any) -> AsyncGenerator[Any, None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(workers)
            yield None if own is None else await stack.enter_async_context(own(app))

    return opened


def routes(workers: Workers, **paths: str) -> list[BaseRoute]:
    """For `Starlette(routes=...)`: liveness, readiness and metrics.

    Args:
        paths: ``live``, ``ready`` and ``metrics``, if they should be at other places; see
            `loopworkers_asgi.endpoints`.
    """
    return _routes(endpoints(workers, **paths))


def page_routes(workers: Workers, page: Page) -> list[BaseRoute]:
    """For `Starlette(routes=...)`: a live page about ``workers``; see `loopworkers_asgi.Page`."""
    return _routes(page.apps(workers))


def _routes(apps: dict[str, Any]) -> list[BaseRoute]:
    return [Route(path, app, include_in_schema=False) for path, app in apps.items()]


class WorkersMiddleware:
    """For `Starlette(middleware=...)`: ``request.state.workers``, and `CancelOnDisconnect`.

    Args:
        app: the application.
        workers: what the handlers call.
        cancel_on_disconnect: whether to cancel handlers whose client is gone.
    """

    def __init__(
        self, app: ASGIApp, workers: Workers, *, cancel_on_disconnect: bool = True
    ) -> None:
        self.app: ASGIApp = CancelOnDisconnect(app) if cancel_on_disconnect else app
        self._workers = workers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            scope.setdefault("state", {})["workers"] = self._workers
        await self.app(scope, receive, send)


def workers_of(connection: Any) -> Workers:
    """The workers of the application that this request or WebSocket came to.

    Raises RuntimeError where `install` or `WorkersMiddleware` was not used.
    """
    found = connection.scope.get("state", {}).get("workers")
    if not isinstance(found, Workers):
        raise RuntimeError("this application has no workers: call install(app, workers)")
    return found

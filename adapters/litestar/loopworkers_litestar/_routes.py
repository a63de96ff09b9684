"""The endpoints, and the page, as route handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litestar.handlers import ASGIRouteHandler

# Litestar resolves these in the annotations of handlers.
from litestar.types import Receive, Scope, Send  # noqa: TC002
from loopworkers_asgi import endpoints

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loopworkers_asgi import Page, Workers


def routes(
    workers: Workers, serve_endpoints: bool, page: Page | None
) -> Iterator[ASGIRouteHandler]:
    """Route handlers that tell about ``workers``; see `loopworkers_asgi.endpoints` and `Page`."""
    apps = endpoints(workers) if serve_endpoints else {}
    if page is not None:
        apps |= page.apps(workers)
    for path, app in apps.items():
        yield _route(path, app)


def _route(path: str, app: Any) -> ASGIRouteHandler:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)

    handler = ASGIRouteHandler(path, name=f"loopworkers {path}", copy_scope=False)
    return handler(answer)

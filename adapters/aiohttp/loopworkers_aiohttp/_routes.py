"""Routes for liveness, readiness and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web
from loopworkers_asgi import endpoints

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from loopworkers_asgi import Workers


def routes(workers: Workers, **paths: str) -> list[web.RouteDef]:
    """For ``app.add_routes``: liveness, readiness and metrics.

    Args:
        paths: ``live``, ``ready`` and ``metrics``, if they should be at other places; see
            `loopworkers_asgi.endpoints`.
    """
    return [web.get(path, _answer_of(app)) for path, app in endpoints(workers, **paths).items()]


def _answer_of(app: Any) -> Callable[[web.Request], Awaitable[web.Response]]:
    """A handler that answers as ``app``, an ASGI application that reads nothing, does."""

    async def handler(request: web.Request) -> web.Response:
        told: dict[str, Any] = {}

        async def send(message: Any) -> None:
            told.update(message)

        await app({"type": "http", "method": request.method}, None, send)
        headers = {name.decode(): value.decode() for name, value in told["headers"]}
        return web.Response(status=told["status"], headers=headers, body=told["body"])

    return handler

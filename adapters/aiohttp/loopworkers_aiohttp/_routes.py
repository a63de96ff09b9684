"""Routes for liveness, readiness and metrics, and for the page."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import web
from loopworkers_asgi import endpoints

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from loopworkers_asgi import Page, Workers


def routes(workers: Workers, **paths: str) -> list[web.RouteDef]:
    """For ``app.add_routes``: liveness, readiness and metrics.

    Args:
        paths: ``live``, ``ready`` and ``metrics``, if they should be at other places; see
            `loopworkers_asgi.endpoints`.
    """
    return _routes(endpoints(workers, **paths))


def page_routes(workers: Workers, page: Page) -> list[web.RouteDef]:
    """For ``app.add_routes``: a live page about ``workers``; see `loopworkers_asgi.Page`."""
    return _routes(page.apps(workers))


def _routes(apps: dict[str, Any]) -> list[web.RouteDef]:
    return [web.get(path, _answer_of(app)) for path, app in apps.items()]


def _answer_of(app: Any) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """A handler that answers as ``app``, an ASGI application that reads nothing, does."""

    async def handler(request: web.Request) -> web.StreamResponse:
        answer = _Answer(request)
        await app(_scope_of(request), _disconnect, answer.send)
        assert answer.response is not None
        return answer.response

    return handler


def _scope_of(request: web.Request) -> dict[str, Any]:
    # The peer of the connection: what middleware may have made of `request.remote` is hearsay.
    peer = request.get_extra_info("peername")
    return {
        "type": "http",
        "http_version": "{}.{}".format(*request.version),
        "method": request.method,
        "scheme": request.scheme,
        "path": request.path,
        "query_string": request.rel_url.raw_query_string.encode(),
        "headers": [(name.lower(), value) for name, value in request.raw_headers],
        "client": peer[:2] if isinstance(peer, tuple) else None,
    }


async def _disconnect() -> Any:
    """Never comes: a write to a client that is gone fails, and that is soon enough here."""
    await asyncio.Event().wait()


class _Answer:
    """Makes aiohttp's response of what an ASGI application sends."""

    def __init__(self, request: web.Request) -> None:
        self.response: web.StreamResponse | None = None
        self._request = request
        self._start: Any = None

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        body: bytes = message["body"]
        has_more: bool = message.get("more_body", False)
        if self.response is None:
            status: int = self._start["status"]
            headers = {name.decode(): value.decode() for name, value in self._start["headers"]}
            if not has_more:
                # Whole, so that middleware may still change it.
                self.response = web.Response(status=status, headers=headers, body=body)
                return
            self.response = web.StreamResponse(status=status, headers=headers)
            await self.response.prepare(self._request)
        await self.response.write(body)

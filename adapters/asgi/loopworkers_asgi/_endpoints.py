"""Liveness, readiness and metrics, as ASGI applications and as middleware."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._metrics import CONTENT_TYPE
from ._respond import respond

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._types import ASGIApp, Receive, Scope, Send
    from ._workers import Workers

TEXT = "text/plain; charset=utf-8"


def endpoints(
    workers: Workers,
    *,
    live: str = "/health/live",
    ready: str = "/health/ready",
    metrics: str = "/metrics",
) -> dict[str, ASGIApp]:
    """ASGI applications that tell about ``workers``, by the path to mount each at.

    Args:
        live: 200 whenever the event loop gets to answer.
        ready: 200 while requests should be sent here, else 503; see `Workers.readiness`.
        metrics: the figures in the text format of Prometheus; see `Workers.metrics`.

    They answer GET and HEAD. None of them calls a worker.
    """

    def tell_live() -> tuple[int, str, str]:
        return 200, TEXT, "alive\n"

    def tell_ready() -> tuple[int, str, str]:
        is_ready, why = workers.readiness()
        return 200 if is_ready else 503, TEXT, f"{why}\n"

    def tell_metrics() -> tuple[int, str, str]:
        return 200, CONTENT_TYPE, workers.metrics()

    return {live: _Told(tell_live), ready: _Told(tell_ready), metrics: _Told(tell_metrics)}


class _Told:
    """An object, because frameworks take a function for a handler of their own kind."""

    def __init__(self, tell: Callable[[], tuple[int, str, str]]) -> None:
        self._tell = tell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] in ("GET", "HEAD"):
            status, content_type, text = self._tell()
            headers = [(b"content-type", content_type.encode()), (b"cache-control", b"no-store")]
        else:
            status, text, headers = 405, "", [(b"allow", b"GET, HEAD")]
        body = text.encode()
        headers.append((b"content-length", b"%d" % len(body)))
        await respond(scope, send, status, headers, body)


class Endpoints:
    """ASGI middleware that answers at certain paths and passes on all else.

    Args:
        app: the application.
        apps: an ASGI application for each path, as `endpoints` and `Page.apps` return them.
    """

    def __init__(self, app: ASGIApp, apps: dict[str, ASGIApp]) -> None:
        self.app = app
        self._apps = apps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope["type"] == "http":
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            app = self._apps.get(path, app)
        await app(scope, receive, send)

"""The extension: `QuartWorkers`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import anyio
from loopworkers_asgi import ERRORS, Endpoints, Workers, endpoints

from ._errors import answer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from loopworkers_asgi import Page
    from quart import Quart

    from loopworkers.engines import Engine


class QuartWorkers(Workers):
    """The workers of a Quart or Quart-Trio application, open while it serves.

    Args:
        app: the application; without one, call `init_app` when there is one.
        kind: "process", "isolate" or "thread"; or an engine.
        retry_after: seconds, for the ``Retry-After`` of a 503.
        serve_endpoints: answer at ``/health/live``, ``/health/ready`` and ``/metrics``.
        page: a live page for people, ``Page()`` for one at ``/loopworkers``; see
            `loopworkers_asgi.Page`.
        options: those of `loopworkers_asgi.Workers`: ``min_workers``, ``grace``,
            ``measure_loop``, ``name``, and those of `loopworkers.WorkerPool`.

    Quart cancels the handler of a client that is gone, and the handler's worker calls with it.
    """

    def __init__(
        self,
        app: Quart | None = None,
        kind: Literal["process", "isolate", "thread", "dask"] | Engine = "process",
        *,
        retry_after: int = 1,
        serve_endpoints: bool = True,
        page: Page | None = None,
        **options: Any,
    ) -> None:
        super().__init__(kind, **options)
        self._retry_after = retry_after
        self._serve_endpoints = serve_endpoints
        self._page = page
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Quart) -> None:
        """Open and close with ``app``, as ``app.extensions["loopworkers"]``; once only.

        What was registered by ``app.while_serving`` before this call may not use the workers.
        """
        app.extensions["loopworkers"] = self
        app.while_serving(self._lifetime)
        for error in ERRORS:
            app.register_error_handler(error, partial(answer, self._retry_after))
        apps = endpoints(self) if self._serve_endpoints else {}
        if self._page is not None:
            apps |= self._page.apps(self)
        if apps:
            # Beside the application: before_request functions, log-ins say, are not for them.
            asgi: Any = app  # hypercorn's types of messages, which it has, are narrower than ours
            asgi.asgi_app = Endpoints(asgi.asgi_app, apps)

    async def _lifetime(self) -> AsyncGenerator[None, None]:
        await self.__aenter__()
        try:
            yield
        finally:
            # Quart-Trio cancels what takes longer than its own limit, and `grace` is ours.
            with anyio.CancelScope(shield=True):
                await self.__aexit__(None, None, None)

"""`WorkersPlugin`: all that an application gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from litestar.di import Provide
from litestar.exceptions import ImproperlyConfiguredException
from litestar.middleware import DefineMiddleware
from litestar.plugins import InitPlugin
from loopworkers_asgi import ERRORS, CancelOnDisconnect, Workers

from ._dependency import WorkersDep
from ._errors import Answer
from ._routes import routes

if TYPE_CHECKING:
    from litestar.config.app import AppConfig
    from loopworkers_asgi import Page


class WorkersPlugin(InitPlugin):
    """Workers for a Litestar application, open while it lives.

    Handlers get them by a parameter ``workers: WorkersDep``. Where there is no injection,
    ``app.plugins.get(WorkersPlugin).workers`` are the same. They are open before the
    application's other lifespan managers and its ``on_startup`` hooks, and are closed when the
    managers have ended, before the ``on_shutdown`` hooks.

    Args:
        workers: what the handlers call; `Workers` as they are by default, if not given.
        cancel_on_disconnect: cancel the handler of a request whose client is gone; see
            `CancelOnDisconnect`. For one with other options say False here, and put it first in
            the application's ``middleware``.
        retry_after: seconds, for the ``Retry-After`` of a 503.
        serve_endpoints: answer at ``/health/live``, ``/health/ready`` and ``/metrics``. Guards
            and middleware of the application, authentication for one, apply to them.
        page: a live page for people, ``Page()`` for one at ``/loopworkers``; guards and middleware
            apply to it too. See `loopworkers_asgi.Page`.
        dependency_key: the name of the parameter.

    A handler that lets `PoolFull` through answers 503, `CallTimeout` 504, `WorkerDied` 500, in
    the form that Litestar's own errors have; an exception handler that the application has for
    one of them comes first. No such body has anything of the worker in it, in debug mode neither.
    """

    def __init__(
        self,
        workers: Workers | None = None,
        *,
        cancel_on_disconnect: bool = True,
        retry_after: int = 1,
        serve_endpoints: bool = True,
        page: Page | None = None,
        dependency_key: str = "workers",
    ) -> None:
        self.workers = workers or Workers()
        self._cancel_on_disconnect = cancel_on_disconnect
        self._retry_after = retry_after
        self._serve_endpoints = serve_endpoints
        self._page = page
        self._dependency_key = dependency_key

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Called by Litestar."""
        if self._dependency_key in app_config.dependencies:
            raise ImproperlyConfiguredException(
                f"the application has a dependency {self._dependency_key!r} already: give the "
                "plugin another dependency_key"
            )
        app_config.dependencies[self._dependency_key] = Provide(self._provide)
        # For handlers whose module imports the name for type checkers only.
        app_config.signature_namespace.setdefault("WorkersDep", WorkersDep)
        config: Any = app_config  # whose types are not complete
        config.lifespan.insert(0, self.workers)
        answer = Answer(self._retry_after)
        for error in ERRORS:
            config.exception_handlers.setdefault(error, answer)
        if self._cancel_on_disconnect:
            # First is outermost: no other one waits for a response that will not come.
            app_config.middleware.insert(0, DefineMiddleware(cast("Any", CancelOnDisconnect)))
        app_config.route_handlers.extend(routes(self.workers, self._serve_endpoints, self._page))
        return app_config

    async def _provide(self) -> Workers:
        return self.workers

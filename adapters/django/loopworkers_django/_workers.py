"""`workers`: those of the project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured
from loopworkers_asgi import Workers

from loopworkers import PoolClosed

from ._settings import options

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from loopworkers import WorkerPool

P = ParamSpec("P")
T = TypeVar("T")


class DjangoWorkers(Workers):
    """Workers whose options are the setting ``LOOPWORKERS``, read when they open.

    The setting is a dictionary with the options of `loopworkers_asgi.Workers`, those of
    `loopworkers.WorkerPool` among them, and

    - ``retry_after``: seconds, for the ``Retry-After`` of a 503 (1);
    - ``load_apps``: whether workers have the project's apps loaded, so that functions may use
      models (True, but not for an engine, whose workers are started elsewhere). Their
      ``AppConfig.ready()`` runs there too: for worker processes once, in the one that they are
      forked from.
    """

    def __init__(self) -> None:
        super().__init__()

    def configure(self) -> None:
        """Read the setting, unless they are open.

        Raises:
            ImproperlyConfigured: of what is wrong with it.
        """
        if self.is_open:
            return  # a test has opened them, and imports `asgi.py` now
        observers = self._observers  # the page's, which are no option
        try:
            super().__init__(**options())
        except (TypeError, ValueError) as error:
            raise ImproperlyConfigured(f"LOOPWORKERS: {error}") from error
        self._observers = observers

    async def __aenter__(self) -> Workers:
        self.configure()
        return await super().__aenter__()

    @property
    def pool(self) -> WorkerPool:
        """The open pool; `PoolClosed` where no `workers_asgi` is served."""
        if not self.is_open:
            raise PoolClosed(
                f"{self!r}: serve `workers_asgi(get_asgi_application())` by an ASGI server; under "
                "WSGI, and so under Django's own runserver, there are none. In a test use "
                "`async with workers:`"
            )
        return super().pool

    @overload
    def run_sync(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...
    @overload
    def run_sync(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    def run_sync(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """``await run(fn, *args, **kwargs)`` for a synchronous view, whose thread waits.

        Raises what `run` and its future raise. If the client leaves, the call is stopped, and
        the view ends by an `asyncio.CancelledError`.
        """

        # `run` has to be called on the event loop's thread, and async_to_sync(run) does not.
        async def call() -> Any:
            return await self.run(fn, *args, **kwargs)

        return async_to_sync(call)()


#: The project's workers, open while `workers_asgi` serves it.
workers = DjangoWorkers()

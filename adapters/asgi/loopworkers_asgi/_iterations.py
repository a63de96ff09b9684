"""The streams and maps that a handler has begun, so that they end with it.

Frameworks drop the generator behind a streamed response when the client is gone, without closing
it: what it iterates over would hold its worker until the garbage collector comes by.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import anyio

if TYPE_CHECKING:
    from types import TracebackType

_of_handler: ContextVar[WeakSet[Any] | None] = ContextVar("iterations", default=None)


def begun(iteration: Any) -> Any:
    """Note that the handler which runs here has begun this one."""
    iterations = _of_handler.get()
    if iterations is not None:
        iterations.add(iteration)
    return iteration


class Iterations:
    """Around a handler: if it is cancelled or fails, what it has begun is closed."""

    async def __aenter__(self) -> None:
        self._begun: WeakSet[Any] = WeakSet()
        self._token = _of_handler.set(self._begun)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        _of_handler.reset(self._token)
        if exc_type is not None:
            with anyio.CancelScope(shield=True):
                for iteration in list(self._begun):
                    await iteration.aclose()

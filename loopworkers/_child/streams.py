"""Sends what a generator yields, as long as the loop's side has asked for more.

The consumer grants a number of items; when they are used up the worker waits for the next
grant, so a slow consumer stops the producer. A CLOSE ends the generator at its next item.
"""

from __future__ import annotations

from .._wire.frames import CLOSE, GRANT, ITEM, Frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def send_items(server: Any, frame: Frame, function: Any, args: Any, kwargs: Any) -> None:
    made = function(*args, **kwargs)
    if hasattr(made, "__anext__"):
        made = _Stepped(server, made)
    elif not hasattr(made, "__iter__"):
        raise TypeError(
            f"stream() needs a generator function or one that returns an iterable, "
            f"{function!r} returned {type(made).__qualname__}"
        )
    items = iter(made)
    try:
        _send(server._link, frame, items)
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()


def _send(link: Any, frame: Frame, items: Any) -> None:
    credit = frame.extra
    while True:
        for control in link.receive(wait=credit <= 0):
            if control.id == frame.id:
                if control.kind == GRANT:
                    credit += control.extra
                elif control.kind == CLOSE:
                    return
        if credit <= 0:
            continue
        try:
            item = next(items)
        except StopIteration:
            return
        # An item never uses the slab: the loop may still be reading the one before.
        link.send_value(ITEM, frame.id, item, 0, 0)
        credit -= 1


class _Stepped:
    """An async generator as a plain iterator, driven on the worker's own loop."""

    def __init__(self, server: Any, generator: Any) -> None:
        from _contextvars import copy_context

        self._server = server
        self._generator = generator
        self._context = copy_context()

    def __iter__(self) -> _Stepped:
        return self

    def __next__(self) -> Any:
        async def step() -> Any:
            return await self._generator.__anext__()

        try:
            return self._server.run_coroutine(step(), self._context)
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        async def finish() -> None:
            await self._generator.aclose()

        if hasattr(self._generator, "aclose"):
            self._server.run_coroutine(finish(), self._context)

"""Closing a pool in steps: calls first, then workers, each with a bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._dispatch import Dispatcher
    from ._settle import Settler

# After EXIT a worker runs its exit handlers; what is not gone then is stopped.
_LEAVE_GRACE = 5.0
# An isolate's two stages take about a second, a process dies within half a second.
_STOP_GRACE = 3.0


async def close(
    settler: Settler, dispatcher: Dispatcher, kill_all: Callable[[], None], grace: float | None
) -> None:
    try:
        with anyio.move_on_after(grace) as scope:
            if grace != 0:
                await _settled(settler, dispatcher)
        if grace == 0 or scope.cancelled_caught:
            kill_all()
    except BaseException:
        kill_all()
        raise
    finally:
        # From here on it is bounded, and workers left behind would be worse than the wait.
        with anyio.CancelScope(shield=True):
            dispatcher.end()
            with anyio.move_on_after(_LEAVE_GRACE if grace is None else 1.0):
                await _gone(dispatcher)
            if dispatcher.workers:
                dispatcher.stop_all()
                with anyio.move_on_after(_STOP_GRACE):
                    await _gone(dispatcher)


async def _settled(settler: Settler, dispatcher: Dispatcher) -> None:
    """Wait for the calls, and for the bodies of those that their callers have abandoned."""
    while settler.unsettled or any(w.calls for w in dispatcher.workers.values()):
        await _change(dispatcher)


async def _gone(dispatcher: Dispatcher) -> None:
    while dispatcher.workers:
        await _change(dispatcher)


async def _change(dispatcher: Dispatcher) -> None:
    """Wait for the end of a call or a worker."""
    event = dispatcher.change
    if event is None or event.is_set():
        # One for all who wait: a pool may be closed by `aclose` and by its block at a time.
        event = dispatcher.change = anyio.Event()
        dispatcher.settler.on_empty = dispatcher.on_worker_gone = event.set
    await event.wait()

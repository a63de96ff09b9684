"""Closing a pool in steps: calls first, then workers, each with a bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._backing import Runner
    from ._settle import Settler

# After EXIT a worker runs its exit handlers; what is not gone then is stopped.
_LEAVE_GRACE = 5.0
# An isolate's two stages take about a second, a process dies within half a second.
_STOP_GRACE = 3.0


async def close(
    settler: Settler, runner: Runner, kill_all: Callable[[], None], grace: float | None
) -> None:
    try:
        with anyio.move_on_after(grace) as scope:
            if grace != 0:
                await _settled(settler, runner)
        if grace == 0 or scope.cancelled_caught:
            kill_all()
    except BaseException:
        kill_all()
        raise
    finally:
        # From here on it is bounded, and workers left behind would be worse than the wait.
        with anyio.CancelScope(shield=True):
            runner.end()
            with anyio.move_on_after(_LEAVE_GRACE if grace is None else 1.0):
                await _gone(settler, runner)
            if not runner.is_gone():
                runner.stop_all()
                with anyio.move_on_after(_STOP_GRACE):
                    await _gone(settler, runner)


async def _settled(settler: Settler, runner: Runner) -> None:
    """Wait for the calls, and for the bodies of those that their callers have abandoned."""
    while settler.unsettled or runner.is_busy():
        await _change(settler, runner)


async def _gone(settler: Settler, runner: Runner) -> None:
    while not runner.is_gone():
        await _change(settler, runner)


async def _change(settler: Settler, runner: Runner) -> None:
    """Wait for the end of a call or a worker."""
    event = runner.change
    if event is None or event.is_set():
        # One for all who wait: a pool may be closed by `aclose` and by its block at a time.
        event = runner.change = anyio.Event()
        settler.on_empty = runner.on_worker_gone = event.set
    await event.wait()

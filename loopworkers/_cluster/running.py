"""Runs a worker's coroutine on the event loop that was asked for."""

from __future__ import annotations

from .._ports import waiting
from .._ports.idle import new_loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Any


def run_on(backend: str, awaitable: Awaitable[Any]) -> None:
    """Run ``awaitable`` to its end on "asyncio", "uvloop" or "trio"."""

    async def main() -> None:
        await awaitable

    if backend == "trio":
        _run_on_trio(main)
        return
    import asyncio

    if backend == "uvloop":
        from .uvloop_server import new_loop as factory
    else:
        factory = new_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


def _run_on_trio(main: Any) -> None:
    import trio

    async def wait_for_alarm() -> None:
        assert waiting.alarm is not None
        while True:  # as in `_ports.idle.new_loop`
            await trio.lowlevel.wait_readable(waiting.alarm)

    async def beside_the_alarm() -> None:
        trio.lowlevel.spawn_system_task(wait_for_alarm)
        await main()

    trio.run(main if waiting.alarm is None else beside_the_alarm)

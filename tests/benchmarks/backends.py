"""The few things that measured code asks of its event loop, on asyncio, uvloop and trio."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

Start = Callable[..., None]  # start(async_function, *args): run it beside the others


class Backend(Protocol):
    """One event loop."""

    def run(self, main: Callable[[], Awaitable[None]]) -> None: ...
    async def sleep(self, seconds: float) -> None: ...
    async def read_line(self) -> str: ...
    def group(self) -> Any: ...


class Asyncio:
    """asyncio, or uvloop under its name."""

    def __init__(self, uvloop: bool = False) -> None:
        import asyncio

        self.sleep = asyncio.sleep
        self._asyncio = asyncio
        self._factory = None
        if uvloop:
            import uvloop as library

            self._factory = library.new_event_loop

    def run(self, main: Callable[[], Any]) -> None:
        with self._asyncio.Runner(loop_factory=self._factory) as runner:
            runner.run(main())

    async def read_line(self) -> str:
        return await self._asyncio.to_thread(sys.stdin.readline)

    @asynccontextmanager
    async def group(self) -> AsyncIterator[Start]:
        async with self._asyncio.TaskGroup() as tasks:

            def start(function: Callable[..., Any], *args: Any) -> None:
                tasks.create_task(function(*args))

            yield start


class Trio:
    """trio."""

    def __init__(self) -> None:
        import trio

        self.sleep = trio.sleep
        self._trio = trio

    def run(self, main: Callable[[], Any]) -> None:
        self._trio.run(main)

    async def read_line(self) -> str:
        return await self._trio.to_thread.run_sync(sys.stdin.readline)

    @asynccontextmanager
    async def group(self) -> AsyncIterator[Start]:
        async with self._trio.open_nursery() as nursery:
            yield nursery.start_soon


def backend_for(loop: str) -> Backend:
    """The backend that a contender is called from."""
    return Trio() if loop == "trio" else Asyncio(uvloop=loop == "uvloop")

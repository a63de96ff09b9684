"""The one place where asyncio and trio differ: callbacks on descriptors, timers, futures.

`current()` gives the adapter of the running loop. Everything above works on this contract
by callbacks, which is what keeps a call free of task switches; where waiting is wanted
(closing a pool, iterating over results) anyio's primitives serve both.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod

TYPE_CHECKING = False  # workers load this file: see `_wire/frames.py`
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from typing import Any, Protocol

    class Timer(Protocol):
        """What can be called off: a timer, a task."""

        def cancel(self) -> object: ...

    class Signal(Protocol):
        """Awaited by one task until it is set; setting it again does nothing."""

        def set(self) -> None: ...

        def __await__(self) -> Generator[Any, Any, None]: ...


class Loop(ABC):
    """What a pool needs of an event loop. Not thread-safe."""

    name: str

    @abstractmethod
    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever ``fd`` can be read, until `remove_reader`."""

    @abstractmethod
    def remove_reader(self, fd: int) -> None: ...

    @abstractmethod
    def add_writer(self, fd: int, callback: Callable[[], None]) -> None: ...

    @abstractmethod
    def remove_writer(self, fd: int) -> None: ...

    @abstractmethod
    def call_soon(self, callback: Callable[[], None]) -> object:
        """Call ``callback`` in the loop's next turn."""

    @abstractmethod
    def call_soon_threadsafe(self, callback: Callable[[], None]) -> object:
        """`call_soon` from any thread; raises RuntimeError when the loop has ended."""

    @abstractmethod
    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer: ...

    @abstractmethod
    def spawn(self, job: Callable[[], Coroutine[Any, Any, None]]) -> Timer:
        """Run ``job``, which must not raise, in a task in the caller's context."""

    @abstractmethod
    def new_future(self, call: Any) -> Any:
        """A WorkerFuture of this loop whose ``cancel`` asks ``call.cancel()`` first."""

    @abstractmethod
    def new_signal(self) -> Signal: ...

    @abstractmethod
    def at_end(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the loop's run is over, on the loop's thread."""

    @abstractmethod
    def is_running_here(self) -> bool:
        """Whether this very loop runs in the calling thread."""

    @property
    @abstractmethod
    def key(self) -> Any:
        """What identifies the loop; weakly referable."""


def is_running() -> bool:
    """Whether an event loop runs in this thread, that is, whether to await or to block."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        return True
    trio = sys.modules.get("trio")
    return trio is not None and trio.lowlevel.in_trio_run()


def current() -> Loop:
    """The adapter of the loop that runs in this thread; RuntimeError if there is none."""
    # A loop that runs has been imported: look, rather than import both.
    if "asyncio" in sys.modules:
        import asyncio

        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            from .asyncio import adapter

            return adapter(running)
    if "trio" in sys.modules:
        import trio

        if trio.lowlevel.in_trio_run():
            from .trio import TrioLoop

            return TrioLoop()
    raise RuntimeError(
        "loopworkers was called where no event loop is running: call it from a coroutine under "
        "asyncio or trio, or use loopworkers.WorkerExecutor in synchronous code"
    )

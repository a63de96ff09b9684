"""What `run_in_worker` returns, as one type over both loops."""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Progress(NamedTuple):
    """What `report_progress` last told: ``done`` of ``total`` (if known), and a message."""

    done: float
    total: float | None
    message: str | None


if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    class WorkerFuture(asyncio.Future[T]):
        """The result of a call in a worker, to be awaited.

        Under asyncio it *is* an `asyncio.Future`: gather, wait, shield, as_completed and
        task groups take it. Under trio it has the same methods and is awaitable. Awaiting it
        gives the function's return value or raises its exception; cancelling it, or the task
        or scope that awaits it, stops the call as its ``on_cancel`` says.
        """

        progress: Progress | None

        def add_progress_callback(self, callback: Callable[[Progress], object]) -> None:
            """Call ``callback`` on the loop with each `Progress` that arrives."""

        @classmethod
        def register(cls, subclass: type) -> type: ...

else:

    class WorkerFuture(ABC, Generic[T]):
        """The result of a call in a worker, to be awaited.

        Under asyncio it *is* an `asyncio.Future`: gather, wait, shield, as_completed and
        task groups take it. Under trio it has the same methods and is awaitable. Awaiting it
        gives the function's return value or raises its exception; cancelling it, or the task
        or scope that awaits it, stops the call as its ``on_cancel`` says.

        Attributes:
            progress: the latest `Progress` the function reported, or None.

        ``add_progress_callback(callback)`` has ``callback`` called on the loop with each
        `Progress` that arrives.
        """


__all__ = ["Progress", "WorkerFuture"]

"""What runs the calls of a pool: workers of its own on this machine, or an engine.

A `Backing` is made of a pool's options and says which of them it can honour; a `Runner` comes of it
when the pool opens, and has the calls from then on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ._call import Call, CallOptions
    from ._loop import Loop
    from ._settle import Settler
    from ._stats import WorkerState


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """The options of a pool that are about its workers, with their defaults."""

    max_workers: int | None = None
    min_workers: int = 0
    idle_timeout: float = 60.0
    max_tasks_per_worker: int | None = None
    max_worker_memory: int | None = None
    initializer: Callable[..., object] | None = None
    initargs: tuple[Any, ...] = ()
    preload: Iterable[str] = ()


class Figures(NamedTuple):
    """The part of `PoolStats` that goes up and down."""

    workers: int
    ready: int
    idle: int
    waiting: int  # calls that no worker has yet


class Backing(ABC):
    kind: str
    # The arguments of a call in the form in which the runner takes them. Raises NotTransferable.
    encode: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]

    @property
    @abstractmethod
    def max_workers(self) -> int:
        """How many calls can run at a time."""

    @abstractmethod
    def check(self, options: CallOptions) -> None:
        """Raise an error that names the option which it cannot honour."""

    def check_streams(self) -> None:  # noqa: B027 - a refusal, where there is one
        """Raise EngineUnsupported if it runs no generators."""

    def check_progress(self) -> None:  # noqa: B027 - as above
        """Raise EngineUnsupported if what runs cannot report its progress."""

    @abstractmethod
    def open(self, loop: Loop, settler: Settler) -> Runner: ...


class Runner(ABC):
    """Runs the calls of an open pool. All on the loop's thread; nothing here waits but `opened`."""

    # What those who close the pool wait for, and who wakes them; see `_closing.py`.
    change: Any = None
    on_worker_gone: Any = None
    # Bodies that go on though their calls have ended, and have the place of a call.
    lingering = 0

    async def opened(self) -> None:  # noqa: B027 - most have nothing to wait for
        """Wait until calls can run, where that takes a connection; raises if there is none."""

    @abstractmethod
    def place(self, call: Call) -> None:
        """Run a new call as soon as there is room."""

    @abstractmethod
    def withdraw(self, call: Call) -> Any:
        """Take back a call that has not begun; of one that has, return what runs it.

        `give_up` must follow in that case, once the call is settled. A call that turns out to be
        answered already is settled by this.
        """

    @abstractmethod
    def give_up(self, call: Call, running_on: Any, *, stop: bool) -> None:
        """Nobody waits for the call any more: stop its body, or let it run to its end."""

    @abstractmethod
    def figures(self) -> Figures: ...

    def count_busy(self) -> None:  # noqa: B027 - for those who know their workers
        """Bring the counter of the seconds in which workers had a call up to this moment."""

    def states(self) -> list[WorkerState]:
        """What each worker is doing, where it knows its workers."""
        return []

    @abstractmethod
    def is_busy(self) -> bool:
        """Whether any body runs, for whomever."""

    @abstractmethod
    def end(self) -> None:
        """Let the workers go when they have nothing to do; `on_worker_gone` tells when."""

    @abstractmethod
    def stop_all(self) -> None:
        """Let the workers go now, whatever they do."""

    @abstractmethod
    def is_gone(self) -> bool:
        """Whether nothing is left to be let go."""

    @abstractmethod
    def kill_now(self) -> None:
        """Free everything without the help of the loop, which may be over."""


def require_positive(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise ValueError(f"{name} must be 1 or more, not {value}")

"""When a `Cluster` replaces its workers."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from ..errors import PortClosed

if TYPE_CHECKING:
    from .events import Reason
    from .worker import ClusterWorker


def positive(**numbers: float | None) -> None:
    """Raises ValueError for what is not; None is no limit."""
    for name, number in numbers.items():
        if number is not None and not number > 0:
            raise ValueError(f"{name} must be more than 0, not {number!r}")


def not_negative(**numbers: float) -> None:
    for name, number in numbers.items():
        if not number >= 0:
            raise ValueError(f"{name} must be 0 or more, not {number!r}")


@dataclass(frozen=True, slots=True)
class Restart:
    """How the place of a worker that ended by accident is filled again.

    The first time at once, then after ``delay`` seconds, doubled each time up to ``longest``; a
    worker that served for ``stable`` seconds makes it forget the earlier ones.

    Attributes:
        failures: replacements in a row, in one place, that end before they are ready; then the
            cluster stops with the error of the last.
    """

    delay: float = 0.1
    longest: float = 10.0
    stable: float = 10.0
    failures: int = 5

    def __post_init__(self) -> None:
        not_negative(delay=self.delay, longest=self.longest, stable=self.stable)
        positive(failures=self.failures)

    def delay_after(self, accidents: int) -> float:
        """Seconds to wait after so many accidents in a row."""
        if accidents <= 1:
            return 0.0
        return min(self.delay * 2.0 ** min(accidents - 2, 30), self.longest)


@dataclass(frozen=True, slots=True)
class Recycle:
    """When a worker that works well is replaced all the same; its successor serves first.

    Attributes:
        requests: after so many of `Member.served`, or connections where it tells of none.
        jitter: each worker's share of ``requests`` and ``age`` by which these are lengthened at
            random, lest all of them go at once.
        age: after so many seconds.
        memory: above so many resident bytes (processes only).
    """

    requests: int | None = None
    jitter: float = 0.1
    age: float | None = None
    memory: int | None = None

    def __post_init__(self) -> None:
        positive(requests=self.requests, age=self.age, memory=self.memory)
        not_negative(jitter=self.jitter)

    async def due(self, worker: ClusterWorker) -> Reason | None:
        """Why this worker is to be replaced now."""
        stretch = 1 + self.jitter * worker._luck
        if self.requests is not None and worker.requests >= self.requests * stretch:
            return "requests"
        if self.age is not None and monotonic() - worker._started_at >= self.age * stretch:
            return "age"
        try:
            if self.memory is not None and await worker.memory() > self.memory:
                return "memory"
        except PortClosed:
            pass  # it has just ended
        return None

"""What an engine is, for those who write one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do; an option that needs what it cannot is refused.

    Attributes:
        kills_running: `Engine.stop` ends a body that runs, whatever it does. Without it
            ``on_cancel="kill"`` is refused.
        at_most_once: no job is ever run a second time, not even one whose worker died.
        resources: jobs can ask for them. Without it the call option ``resources`` is refused.
        progress: what a body tells by `report_progress` arrives while it runs. Without it
            ``add_progress_callback`` is refused.
    """

    kills_running: bool = False
    at_most_once: bool = False
    resources: bool = False
    progress: bool = False


@dataclass(eq=False, slots=True)
class Job:
    """One call, as an engine gets it.

    Attributes:
        name: of the function, for humans.
        body: the argument of `run_job`, which runs the call in a worker.
        resources: what the call's option of that name says.
        tell_progress: to be called, from any thread, with what the `Reporter` was told.
    """

    name: str
    body: bytes
    resources: Mapping[str, float] | None
    tell_progress: Callable[[bytes], None]


class JobLost(Exception):
    """For the future of a job whose worker has died, or whose fate nobody knows.

    The message completes "the worker ...". The call ends in WorkerDied, or is run again if it has
    ``retries``.
    """


class Engine(ABC):
    """Runs jobs somewhere; a pool that is given one runs its calls on it.

    Attributes:
        name: in a word; it is the pool's ``kind``.
        capabilities: what it can do; final once it is open.
    """

    name: str
    capabilities: Capabilities = Capabilities()

    def open(self) -> None:  # noqa: B027 - not all have to
        """Get ready to take jobs; may block, in a thread of its own.

        Raises EngineFailed, with what to do about it, if that cannot be.
        """

    def close(self) -> None:  # noqa: B027 - not all have to
        """Give back what `open` took; may block, in a thread of its own. No exceptions.

        Futures that are not done by now may stay so.
        """

    @abstractmethod
    def size(self) -> int:
        """How many jobs it can run at a time, as far as it knows."""

    @abstractmethod
    def submit(self, job: Job) -> Future[bytes]:
        """Run ``run_job(job.body)`` in a worker. Called on the loop's thread: must not block.

        Its future gives what `run_job` returned. It is done when, and only when, no worker runs
        the body, nor ever will: the place of the call is free from then on. It may become done in
        any thread. Failures of the engine are its exceptions: `JobLost`, or whatever tells what
        is wrong.
        """

    @abstractmethod
    def stop(self, future: Future[bytes]) -> None:
        """Nobody wants the result of this future any more. On the loop's thread: must not block.

        A body that has not begun should not begin; one that runs is ended if that can be, else
        asked to stop, if it can be asked.
        """

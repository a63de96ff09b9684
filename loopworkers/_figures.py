"""What a `Worker` tells about its use of processor and memory."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from ._child.setup import resident_memory
from ._ports import idle
from .errors import LoopworkersError

if TYPE_CHECKING:
    from ._shared.buffer import SharedBuffer
    from ._workers.base import Worker as Host


class Utilization(NamedTuple):
    """How a worker spent its time since it came online.

    Attributes:
        idle: seconds in which it waited for messages, locks or its event loop's next event.
        active: the other seconds.
        ratio: ``active`` by the sum of both; 0.0 before it is online and after its end.
    """

    idle: float
    active: float
    ratio: float


NOTHING = Utilization(0.0, 0.0, 0.0)


def utilization(clock: SharedBuffer, since: Utilization | None) -> Utilization:
    """Of the worker that keeps this clock, which is read without asking it."""
    total, waited = idle.read(clock)
    before = since or NOTHING
    still = waited / 1e9 - before.idle
    active = (total - waited) / 1e9 - before.active
    return Utilization(still, active, active / (still + active) if still + active else 0.0)


def cpu_time(host: Host) -> float:
    """Seconds of processor time; raises LoopworkersError where the system does not tell."""
    clock = host.cpu_clock()
    if clock is None:
        raise LoopworkersError("this system does not tell the processor time of others")
    return time.clock_gettime(clock)


def memory(host: Host) -> int:
    """Resident bytes of a process; raises LoopworkersError for other kinds."""
    if host.kind != "process":
        raise LoopworkersError(
            f'the memory of one {host.kind} cannot be measured; use kind="process"'
        )
    pid: int | None = getattr(host, "pid", None)
    return 0 if pid is None else resident_memory(pid)

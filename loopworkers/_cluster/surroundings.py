"""What a cluster takes over from the process and the event loop that it is started in."""

from __future__ import annotations

import os
from typing import Literal

from .._loop import current

BACKENDS = ("asyncio", "uvloop", "trio")


def usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def backend_here(kind: str) -> Literal["asyncio", "uvloop", "trio"]:
    """The event loop for a worker's function: the one that runs here, where it can run there."""
    if current().name == "trio":
        return "trio"
    import asyncio

    is_uvloop = type(asyncio.get_running_loop()).__module__.startswith("uvloop")
    # uvloop does not load in isolates.
    return "uvloop" if is_uvloop and kind == "process" else "asyncio"

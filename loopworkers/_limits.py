"""How many workers make sense here, and how deep pools may be nested."""

from __future__ import annotations

import os
from pathlib import Path

from ._child import setup

# A worker's own pool gets one worker; below this depth pools run their calls in threads, so
# that calls which make calls cannot fill the machine with processes.
MAX_DEPTH = 3


def default_workers() -> int:
    """The processors this program may use: affinity and container limits counted in."""
    if setup.depth > 0:
        return 1
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS or Windows
        cpus = os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, cpus if quota is None else min(cpus, quota))


def _cgroup_quota() -> int | None:
    """Whole processors that a container's limit grants, rounded up; cgroup v2."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return -(-int(quota) // int(period))
    except (OSError, ValueError):  # no such limit, or no cgroups here
        return None


def kind_here(kind: str) -> str:
    return "thread" if setup.depth >= MAX_DEPTH else kind

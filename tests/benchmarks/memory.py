"""Memory of this process and of its descendants, from /proc."""

from __future__ import annotations

import os
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def _pages(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0


def _descendants(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                # The name in brackets may hold anything; the parent is the second field after it.
                stat = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                parents[int(entry)] = int(stat[1])
            except (OSError, IndexError):
                continue
    found, layer = [], [root]
    while layer:
        layer = [pid for pid, parent in parents.items() if parent in layer]
        found += layer
    return found


def resident() -> tuple[int, int]:
    """Bytes of this process, and of all processes below it."""
    if not os.path.isdir("/proc/self"):
        raise OSError("resident memory is read from /proc, which this system lacks")
    me = os.getpid()
    return _pages(me) * _PAGE, sum(map(_pages, _descendants(me))) * _PAGE


def proportional() -> int:
    """Bytes of this process and all below it, where a page that several share counts once.

    The kernel's "proportional set size": each of those that have a page is given its part of it.
    Resident memory would count what a fork has left shared as often as there are processes.
    """
    return sum(map(_pss, [os.getpid(), *_descendants(os.getpid())]))


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except ProcessLookupError:
        return 0  # it has just ended
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024

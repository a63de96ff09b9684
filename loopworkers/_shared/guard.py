"""Keeps everybody else out for a few instructions, wherever they run, and survives every death.

A file lock (flock) belongs to an open file description. Each user of a guard opens the file anew,
so descriptions, and thus locks, are its own, and the kernel frees one when the last descriptor
goes: with its process, or with the isolate that owned the file object. A robust mutex in shared
memory costs half of it, but its owner is a thread, and C code would have to be called by ctypes.
"""

from __future__ import annotations

import os
from _thread import allocate_lock, get_ident
from _weakref import ref

from .._wire.file import File
from .._wire.shield import shielded, unbroken
from ..errors import LoopworkersError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@unbroken
def anonymous_file() -> File:
    """A file without a name, in memory where the system has that."""
    if hasattr(os, "memfd_create"):
        return File(os.memfd_create("loopworkers", os.MFD_CLOEXEC))
    from tempfile import TemporaryFile

    with TemporaryFile(buffering=0) as file:
        return File(os.dup(file.fileno()))


_forking: set[ref[Any]] = set()


def tell_of_fork(obj: Any) -> None:
    """Call ``obj._forked()`` in every child that gets a copy of it by a fork."""
    _forking.add(ref(obj, _forking.discard))


def _tell_all() -> None:
    for each in list(_forking):
        obj = each()
        if obj is not None:
            obj._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tell_all)


class Guard:
    """Used in a ``with``; what is inside must be short, and never wait."""

    def __init__(self, fd: int) -> None:
        path = f"/proc/self/fd/{fd}"
        if fcntl is None or not os.path.exists(path):
            raise LoopworkersError(
                "shared locks and atomics need Linux: elsewhere no lock is known that a dying "
                "worker gives back, in isolates and processes alike"
            )
        self._file = File(path)
        self._flock = fcntl.flock
        # Threads of this interpreter have the description in common.
        self._threads = allocate_lock()
        tell_of_fork(self)

    def _forked(self) -> None:
        # The description is the parent's as well, and so would be every lock; and a thread that
        # held the other one is not here to release it.
        file = self._file
        try:
            if not file.closed:
                self._file = File(f"/proc/self/fd/{file.fileno()}")
        finally:
            file.close()
        self._threads = allocate_lock()

    def __enter__(self) -> None:
        # A stop in between could lose descriptors, which are numbers until objects own them.
        shielded.add(get_ident())
        self._threads.acquire()
        try:
            self._flock(self._file, fcntl.LOCK_EX)
        except BaseException:
            self._threads.release()
            shielded.discard(get_ident())
            raise

    def __exit__(self, *_: object) -> None:
        try:
            self._flock(self._file, fcntl.LOCK_UN)
        finally:
            self._threads.release()
            shielded.discard(get_ident())

    def close(self) -> None:
        self._file.close()

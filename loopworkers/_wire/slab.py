"""Shared memory that a worker and the loop take turns to fill, for large payloads.

A slab belongs to one worker and is never shared by two calls at a time, so it needs no
allocator and no lock: the loop writes it only while the worker is idle, the worker writes it
only when told that its last result has been read. It is an anonymous file (memfd), so
nothing appears in any file system; pages are given back when the slab has been idle.
Re-using warm pages is the point: the first touch of fresh shared memory costs ten times the
copy itself.
"""

from __future__ import annotations

import os

from .file import File

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

SIZE = 64 * 1024 * 1024


def create() -> Slab | None:
    """New shared memory, sparse: nothing is used yet. None where the system has no memfd."""
    if not hasattr(os, "memfd_create"):
        return None
    file = File(os.memfd_create("loopworkers", os.MFD_CLOEXEC))
    file.truncate(SIZE)
    return Slab(file.fileno(), file)


class Slab:
    """The mapping of a slab's descriptor in this process; mapped at first use.

    Args:
        fd: its descriptor.
        file: what closes the descriptor; None where that is somebody else's, as in a worker.
    """

    def __init__(self, fd: int, file: File | None = None) -> None:
        self.fd = fd
        self._file = file
        self._map: Any = None
        self.dirty = False

    @property
    def memory(self) -> Any:
        if self._map is None:
            import mmap  # a worker that never sees a large payload never imports it

            self._map = mmap.mmap(self.fd, SIZE)
        return self._map

    def write(self, chunks: Sequence[Any]) -> int:
        view = memoryview(self.memory)
        at = 0
        for chunk in chunks:
            end = at + len(chunk)
            view[at:end] = chunk
            at = end
        view.release()
        self.dirty = True
        return at

    def view(self, size: int) -> memoryview:
        self.dirty = True
        return memoryview(self.memory)[:size]

    def give_back(self) -> None:
        """Return the pages to the system; the mappings of both sides stay valid."""
        if self.dirty and self._map is not None and hasattr(self._map, "madvise"):
            import mmap

            if hasattr(mmap, "MADV_REMOVE"):
                self._map.madvise(mmap.MADV_REMOVE)
            self.dirty = False

    def close(self) -> None:
        if self._map is not None:
            try:
                self._map.close()
            except BufferError:
                pass  # the traceback of a failed unpickling holds a view: it goes with that
            self._map = None
        if self._file is not None:
            self._file.close()

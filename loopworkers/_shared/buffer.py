"""`SharedBuffer`: bytes that several workers see at the same time."""

from __future__ import annotations

import _socket
import os
from mmap import mmap

from .._wire.handles import refuse, take, take_file
from .._wire.shield import unbroken
from .._wire.values import travellers
from .._wire.views import has_slices, is_exported
from .guard import Guard, anonymous_file
from .sockets import Socket, pair

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .._wire.file import File
    from .._wire.handles import Handles


class SharedBuffer:
    """Memory that the main program, isolates and processes share; zeroed at first.

    Args:
        size: bytes.

    Attributes:
        view: a writable `memoryview` of it. ``numpy.frombuffer(buffer.view, ...)`` is an array on
            the same memory.
        size: bytes.

    Sent to a worker, as an argument of a call or in a message, it is the same memory there; with
    ``transfer=[buffer]`` it is handed over and closed here. Nothing orders what several workers
    write at the same time: use `SharedLock`, `AtomicInt64` or stripes of one worker each. The
    memory is given back when the last of its users has closed it, dropped it, or died.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"size must be 1 byte or more, not {size}")
        file = anonymous_file()
        os.ftruncate(file.fileno(), -(-size // 8) * 8)  # whole cells for AtomicInt64
        self._open(file, size, pair(_socket.SOCK_SEQPACKET) if _HAS_PACKETS else pair())

    def _open(self, file: File, size: int, waiters: tuple[Socket, Socket]) -> None:
        self._file = file
        self.size = size
        self._map = mmap(self._file.fileno(), -(-size // 8) * 8)
        self._cells = memoryview(self._map).cast("q")
        self.view = memoryview(self._map)[:size]
        self._waiters = waiters  # see atomic.py
        self._guard: Guard | None = None

    def __repr__(self) -> str:
        return f"<SharedBuffer of {self.size} bytes{', closed' if self.closed else ''}>"

    def __len__(self) -> int:
        return self.size

    @property
    def closed(self) -> bool:
        return self._file.closed

    @property
    def guard(self) -> Guard:
        if self._guard is None:
            self._guard = Guard(self._file.fileno())
        return self._guard

    def close(self) -> None:
        """Let go of the memory; others keep it. Closing it again does nothing.

        Slices of ``view`` and arrays on it stay valid, and keep the memory as long as they exist.
        """
        if self.closed:
            return
        try:
            self.view.release()
            self._cells.release()
            self._map.close()
        except BufferError:
            pass  # somebody has slices or arrays
        self._file.close()
        for end in self._waiters:
            end.close()
        if self._guard is not None:
            self._guard.close()

    def check_unused(self) -> None:
        """Raise BufferError if there are views, which would still show the memory when it moves."""
        if is_exported(self.view) or has_slices(self.view):
            raise BufferError("slices of its view, or arrays on it, are in use")

    def __enter__(self) -> SharedBuffer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        try:
            self.close()
        except AttributeError:  # it could not be opened
            pass

    def _reduce(self, handles: Handles) -> Any:
        if self.closed:
            raise ValueError("a SharedBuffer that was closed or handed over cannot be sent")
        ends = [handles.add(end.fileno()) for end in self._waiters]
        return _rebuild, (handles.add(self._file.fileno()), self.size, *ends)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return refuse(self)


travellers[SharedBuffer] = SharedBuffer._reduce

_HAS_PACKETS = hasattr(_socket, "SOCK_SEQPACKET") and hasattr(os, "memfd_create")


@unbroken
def _rebuild(number: int, size: int, *ends: int) -> SharedBuffer:
    buffer = SharedBuffer.__new__(SharedBuffer)
    first, second = [Socket(fileno=take(end)) for end in ends]
    buffer._open(take_file(number), size, (first, second))
    return buffer

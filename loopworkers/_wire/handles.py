"""Descriptors that travel inside values: collected while pickling, taken while unpickling.

A value that owns a descriptor (a port, shared memory, a socket) is pickled as the number of one
in a list that travels beside the bytes, by SCM_RIGHTS: the kernel keeps what is on its way alive,
and closes what is never received.
"""

from __future__ import annotations

import os
import sys
from _thread import _local

from .file import File
from .shield import unbroken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

# The kernel takes 253 in one message.
MOST = 250


class Handles:
    """The descriptors of one value on its way out; copies, closed once they were sent.

    Attributes:
        reducers: set by a part of the value that knows how values of certain types, in what is
            pickled after it, travel; each is called with a value and these handles.
    """

    reducers: dict[type[Any], Callable[[Any, Handles], Any]] = {}  # noqa: RUF012 - never added to

    def __init__(self) -> None:
        self.files: list[File] = []
        self._moves: list[Callable[[], object]] = []

    @property
    def fds(self) -> list[int]:
        return [file.fileno() for file in self.files]

    @unbroken
    def add(self, fd: int, moved: Callable[[], object] | None = None) -> int:
        """Its number for the receiver. ``moved`` ends the sender's own use of it, if it is sent."""
        if len(self.files) == MOST:
            raise ValueError(f"a message can carry {MOST} descriptors, this one has more")
        self.files.append(File(os.dup(fd)))
        if moved is not None:
            self._moves.append(moved)
        return len(self.files) - 1

    @property
    def moves(self) -> bool:
        return bool(self._moves)

    def take_moves(self) -> list[Callable[[], object]]:
        """To be called when the value is on its way: what moves is the sender's no longer."""
        moves, self._moves = self._moves, []
        return moves

    def close(self) -> None:
        self.files.clear()


@unbroken
def unpack_rights(ancillary: Any) -> list[int]:
    """The descriptors of what recvmsg() returned."""
    fds: list[int] = []
    for _, _, data in ancillary:
        for at in range(0, len(data) - 3, 4):
            fds.append(int.from_bytes(data[at : at + 4], sys.byteorder))
    return fds


@unbroken
def unpack_files(ancillary: Any) -> list[File]:
    """`unpack_rights`, each owned by an object, as is all that waits to be unpickled."""
    return list(map(File, unpack_rights(ancillary)))


def pack_rights(fds: Sequence[int]) -> bytes:
    return b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)


_incoming = _local()


class receiving:
    """While unpickling a value: the descriptors that came with it; the rest is closed after."""

    def __init__(self, files: list[File]) -> None:
        self._files: list[Any] = files

    @unbroken
    def __enter__(self) -> None:
        self._outer = getattr(_incoming, "files", None)
        _incoming.files = self._files

    def __exit__(self, *_: object) -> None:
        _incoming.files = self._outer
        self._files.clear()


def take_file(number: int) -> File:
    """The descriptor with this number, now the caller's; once."""
    files: list[File | None] = _incoming.files
    if number >= len(files):
        raise OSError(
            f"{len(files)} descriptors came with a value that has more: a limit of open files, or "
            "of descriptors under way, was reached"
        )
    file, files[number] = files[number], None
    if file is None:
        raise ValueError("a descriptor inside a message can be taken once")
    return file


@unbroken
def take(number: int) -> int:
    """`take_file` for an object that takes nothing but a number, in a function that is shielded."""
    file = take_file(number)
    return os.dup(file.fileno())


def refuse(obj: object) -> Any:
    """What `__reduce_ex__` of such a value says to a pickler that has no way to send it."""
    raise TypeError(
        f"{type(obj).__qualname__} can only be sent to a worker: as an argument of a call, or in "
        "a message of a port"
    )

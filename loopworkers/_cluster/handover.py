"""Hands accepted connections from the primary to a worker, over a pair of packet sockets.

One packet is one connection, and the kernel's queue is the only truth about where it is: the
worker takes it out by one system call, or the primary takes it back by the same call on a copy of
the worker's end. So a connection is in one place at a time, whoever dies in between, and the
primary keeps no copy of it, which would keep it open after the worker has closed it.
"""

from __future__ import annotations

import marshal
import os
import socket
from errno import EAGAIN, ECONNABORTED, EINVAL, EMFILE, ENFILE, ENOBUFS, ETOOMANYREFS
from sys import byteorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .ledger import Ledger

PACKETS = getattr(socket, "SOCK_SEQPACKET", socket.SOCK_DGRAM)
# Bytes of one packet: the peer's address; the path of a Unix socket has at most 108.
_LONGEST = 512
_ONE = socket.CMSG_SPACE(4)
_RIGHTS = (socket.SOL_SOCKET, socket.SCM_RIGHTS)
_FULL = (EAGAIN, ENOBUFS, ETOOMANYREFS, EMFILE, ENFILE)


class Handover:
    """The primary's side, of one worker and one listening socket."""

    def __init__(self, listener: socket.socket, ledger: Ledger) -> None:
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, PACKETS)
        self._ours.setblocking(False)
        self._like = listener
        self._ledger = ledger

    def ends_for_worker(self) -> tuple[socket.socket, int, int, int, Any]:
        """What `HandedListener` is made of; the socket may be moved to the worker."""
        like = self._like
        return self._theirs.dup(), like.family, like.type, like.proto, like.getsockname()

    def fileno(self) -> int:
        """Readable when the worker has something to tell: see `Ledger.wanted`."""
        return self._ours.fileno()

    def heard(self) -> None:
        try:
            while self._ours.recv(16):
                pass
        except BlockingIOError:
            pass

    def give(self, fd: int, peer: Any) -> bool:
        """Whether there was room for it; then this copy of the descriptor is closed."""
        self._ledger.given += 1
        try:
            self._ours.sendmsg([marshal.dumps(peer)], [(*_RIGHTS, fd.to_bytes(4, byteorder))])
        except OSError as error:
            self._ledger.given -= 1
            if error.errno in _FULL:
                return False
            raise
        os.close(fd)
        return True

    def take_back(self) -> Iterator[tuple[int, Any]]:
        """What the worker has not taken yet: descriptors, and whom they are from."""
        while True:
            try:
                fd, peer = receive(self._theirs, socket.MSG_DONTWAIT)
            except OSError:
                return
            self._ledger.given -= 1
            yield fd, peer

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


def receive(end: socket.socket, flags: int) -> tuple[int, Any]:
    """The next connection in the kernel's queue; raises as ``recv`` does."""
    body, ancillary, _, _ = socket.socket.recvmsg(end, _LONGEST, _ONE, flags)
    if not ancillary:
        # No packet: the other side is closed. Or the limit of open files has eaten it.
        raise OSError(ECONNABORTED if body else EINVAL, "no connection came")
    return int.from_bytes(ancillary[0][2][:4], byteorder), marshal.loads(body)

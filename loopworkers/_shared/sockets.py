"""Sockets as the parts of shared things: they close themselves with the last reference."""

from __future__ import annotations

import _socket
import errno
import sys

from .._loop import is_running
from .._ports.waiting import READABLE, until, until_ready
from .._wire.handles import unpack_rights
from .._wire.shield import unbroken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DONTWAIT: int = getattr(_socket, "MSG_DONTWAIT", 0)
PEEK: int = _socket.MSG_PEEK
_FLAGS: int = DONTWAIT | getattr(_socket, "MSG_CMSG_CLOEXEC", 0)


class Socket(_socket.socket):
    """Without the warning that the C type gives when it is dropped: here that is how it ends."""

    # In C: a stop of an isolate raises in all Python code, and would leave it open for ever.
    __del__ = _socket.socket.close


@unbroken
def pair(kind: int = _socket.SOCK_STREAM) -> tuple[Socket, Socket]:
    # Not by `socket`, whose enumerations cost an isolate more than all of this.
    first, second = _socket.socketpair(_socket.AF_UNIX, kind)
    return Socket(fileno=first.detach()), Socket(fileno=second.detach())


@unbroken
def copy_of(end: Socket) -> Socket:
    return Socket(fileno=_socket.dup(end.fileno()))


def at_end(end: Socket) -> bool:
    """Whether the other end is gone, which it is with its owner."""
    try:
        return not end.recv(1, PEEK | DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def put(end: Socket, data: bytes, passed: Socket | None = None) -> None:
    """Send one packet, and a copy of a descriptor with it."""
    if passed is None:
        end.send(data, DONTWAIT)
    else:
        rights = passed.fileno().to_bytes(4, sys.byteorder)
        end.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)], DONTWAIT)


@unbroken
def get(end: Socket, peek: int = 0) -> tuple[bytes, Socket | None] | None:
    """The next packet, or None; with PEEK it stays where it is.

    Raises OSError when there is no room for its descriptor here.
    """
    try:
        data, ancillary, flags, _ = end.recvmsg(64, _socket.CMSG_SPACE(4), _FLAGS | peek)
    except BlockingIOError:
        return None
    fds = unpack_rights(ancillary)
    if peek and flags & _socket.MSG_CTRUNC:
        raise OSError(errno.EMFILE, "no descriptor is left to look at a shared lock")
    return data, Socket(fileno=fds[0]) if fds else None


def wait_readable(end: Socket, timeout: float | None) -> Any:
    """Until ``end`` can be read or is at its end: awaited on a loop, blocking elsewhere.

    Gives False when ``timeout`` seconds have passed.
    """
    if is_running():
        return _wait_on_loop(end, timeout)
    return until(end.fileno(), READABLE, timeout)


async def _wait_on_loop(end: Socket, timeout: float | None) -> bool:
    if timeout is not None and until_ready(end.fileno(), READABLE, 0):
        return True  # a timeout of 0 asks whether it is
    import anyio

    with anyio.move_on_after(timeout):
        await anyio.wait_readable(end.fileno())
        return True
    return False

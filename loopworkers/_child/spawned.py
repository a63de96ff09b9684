"""The start of a worker process that was not forked."""

from __future__ import annotations

import _socket
import os
import sys
from _thread import start_new_thread

from .process import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(fds: list[int] | None = None) -> None:
    """Be a worker on these descriptors or, on Windows, on sockets shared through stdin."""
    stdin = sys.stdin.buffer
    calls: Any
    replies: Any
    slab = None
    if fds is None:
        import socket
        from _pickle import load

        windows: Any = socket
        calls, replies = (windows.fromshare(share) for share in load(stdin))
    else:
        calls, replies = (_socket.socket(fileno=fd) for fd in fds[:2])
        slab = fds[2] if len(fds) > 2 else None
    # The parent holds the other end and never writes more: the end of file is the parent's.
    # C code that keeps the GIL is not ended by this; only a forkserver can do that.
    start_new_thread(_leave_with_parent, (stdin.fileno(),))
    run(calls, replies, slab)


def _leave_with_parent(stdin: int) -> None:
    while os.read(stdin, 4096):
        pass
    os._exit(1)

"""Starts forkservers and asks them for workers; one serves all pools with the same preload.

See `loopworkers._child.forkserver` for the other side.
"""

from __future__ import annotations

import atexit
import errno
import os
import socket
import subprocess
import sys
from _thread import get_ident
from array import array
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from .._child.forkserver import REQUEST
from .._ports import waiting
from .._wire.shield import shielded
from .._wire.values import dumps

if TYPE_CHECKING:
    from .identity import Identity

_BOOT = (
    "import sys; sys.path[:] = {path!r}; "
    "from loopworkers._child.forkserver import main; main({fd}, {preload!r})"
)
_ROOT = str(Path(__file__).resolve().parents[2])


class ForkServer:
    """A running forkserver. Thread-safe."""

    def __init__(self, preload: tuple[str, ...]) -> None:
        self._lock = Lock()
        self._environ = dict(os.environ)
        self._requests, theirs = socket.socketpair()
        if not sys.executable:
            raise RuntimeError(
                "worker processes need a Python interpreter to run, and sys.executable is empty"
            )
        # The package itself must be found before the parent's path is known to be whole.
        path = [*sys.path, _ROOT] if _ROOT not in sys.path else sys.path
        boot = _BOOT.format(path=path, fd=theirs.fileno(), preload=list(preload))
        shielded.add(get_ident())
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, *_interpreter_flags(), "-c", boot],
                    stdin=subprocess.DEVNULL,
                    env=self._environ,  # an isolate's is not that of its process
                    pass_fds=[theirs.fileno()],
                    # A process group of its own: Ctrl-C in a terminal goes to the parent alone.
                    process_group=0,
                )
            _unreaped[self] = None
        finally:
            shielded.discard(get_ident())

    def start_worker(
        self,
        calls: socket.socket,
        replies: socket.socket,
        slab: int | None,
        identity: Identity | None,
    ) -> socket.socket:
        """Have a worker forked that owns copies of these sockets; its control socket.

        Raises OSError if the forkserver is gone, or there is no descriptor left here.
        """
        control, theirs = socket.socketpair()
        environ = dict(os.environ)
        if identity is not None and identity.env is not None:
            environ = identity.env
        body = dumps((None if environ == self._environ else environ, slab is not None), 5)
        descriptors = [calls.fileno(), replies.fileno(), theirs.fileno()]
        if slab is not None:
            descriptors.append(slab)
        descriptors += _standard_streams({} if identity is None else identity.streams)
        try:
            with theirs, self._lock:
                self._requests.sendmsg(
                    [REQUEST.pack(len(body))],
                    [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))],
                )
                self._requests.sendall(body)
        except OSError:
            control.close()
            raise
        finally:
            for fd in descriptors[-2:]:
                os.close(fd)
        return control

    def close(self) -> None:
        """End the forkserver and every worker it still has."""
        self._requests.close()
        try:
            # It needs no more than to notice the end of file; its own death ends nothing else.
            self._process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _unreaped.pop(self, None)

    def forget(self) -> None:
        """In a forked child: the server is the parent's, only the descriptor is ours."""
        self._requests.close()
        self._process.returncode = 0  # it is no child of this process: never wait for it


def _interpreter_flags() -> list[str]:
    of_subprocess: Any = subprocess
    flags: list[str] = of_subprocess._args_from_interpreter_flags()
    return flags


def _standard_streams(others: dict[str, int]) -> list[int]:
    """Copies of this process's stdout and stderr as they are now, or of nothing."""
    copies: list[int] = []
    for fd, name in ((1, "stdout"), (2, "stderr")):
        try:
            copies.append(os.dup(others.get(name, fd)))
        except OSError:  # closed: a daemon, a program without a console
            copies.append(os.open(os.devnull, os.O_WRONLY))
    return copies


# What sending to a server that is gone gives; EBADF if another thread has just replaced it.
_GONE = {errno.EPIPE, errno.ECONNRESET, errno.EBADF}
# Also those whose `close` was interrupted.
_unreaped: dict[ForkServer, None] = {}
_servers: dict[tuple[str, ...], tuple[ForkServer, int]] = {}
_lock = Lock()


def acquire(preload: tuple[str, ...]) -> None:
    """Have a forkserver for this preload, started if need be, until `release`."""
    with _lock:
        server, users = _servers.get(preload, (None, 0))
        _servers[preload] = (server or ForkServer(preload), users + 1)


def release(preload: tuple[str, ...]) -> None:
    with _lock:
        entry = _servers.pop(preload, None)
        if entry is None:
            return  # another process's: this one was forked from it
        server, users = entry
        if users > 1:
            _servers[preload] = (server, users - 1)
            return
    server.close()


def start_worker(
    preload: tuple[str, ...],
    calls: socket.socket,
    replies: socket.socket,
    slab: int | None,
    identity: Identity | None = None,
) -> socket.socket:
    """See `ForkServer.start_worker`; a server that somebody killed is replaced."""
    with _lock:
        server, users = _servers[preload]
    try:
        return server.start_worker(calls, replies, slab, identity)
    except OSError as error:
        if error.errno not in _GONE:
            raise  # for want of descriptors, say: to close it would end all its workers
        with _lock:
            if _servers[preload][0] is server:
                server.close()
                _servers[preload] = (ForkServer(preload), users)
            server = _servers[preload][0]
        return server.start_worker(calls, replies, slab, identity)


def _forget_all() -> None:
    global _lock
    _lock = Lock()
    for server in _unreaped:
        server.forget()
    _unreaped.clear()
    _servers.clear()


def _close_all() -> None:
    for server in list(_unreaped):
        server.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
if waiting.alarm is not None:
    # An isolate that is stopped may not have left its pools; nobody else would reap its children.
    atexit.register(_close_all)

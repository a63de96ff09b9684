"""Unix sockets with a path: nobody connects before the permissions are set, stale files go."""

from __future__ import annotations

import errno
import os
import socket
import stat
import time


class SocketFile:
    """The file that binding a socket has created."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._pid = os.getpid()
        self._identity = _identity(path)

    def remove(self) -> None:
        """Unless it is another one by now, or in a fork of the process that has created it.

        To be called while the socket is open: its inode's number is no other file's until then.
        """
        try:
            if self._pid == os.getpid() and self._identity == _identity(self._path):
                os.unlink(self._path)
        except OSError:  # it is gone, or out of reach; then it is found stale next time
            pass


def bind(sock: socket.socket, path: str) -> None:
    """Bind to ``path``, in place of a socket that nobody listens on any more."""
    try:
        sock.bind(path)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        try:
            _remove_stale(path)
        except FileNotFoundError:  # its owner has just removed it
            pass
        sock.bind(path)


def _remove_stale(path: str) -> None:
    found = os.lstat(path)
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EADDRINUSE, "a file is there that is no socket; remove or rename it")
    # Twice: a server that is just starting has bound, and does not listen yet.
    for pause in (0.0, 0.05):
        time.sleep(pause)
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            if client.connect_ex(path) not in (errno.ECONNREFUSED, errno.ENOENT):
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    # Inode numbers are used again, so the time tells whether another one has replaced it.
    now = os.lstat(path)
    if (now.st_ino, now.st_mtime_ns) == (found.st_ino, found.st_mtime_ns):
        os.unlink(path)


def _identity(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino

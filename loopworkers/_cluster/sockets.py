"""Binding one socket, and what is said about it."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

AF_UNIX: Any = getattr(socket, "AF_UNIX", None)  # not on Windows
SO_REUSEPORT: Any = getattr(socket, "SO_REUSEPORT", None)  # not on Windows

_HINTS = {
    errno.EADDRNOTAVAIL: " (no interface of this machine has this address)",
    errno.EBADF: " (there is no such descriptor)",
    errno.ENOENT: " (the folder does not exist)",
    errno.EPERM: " (a file may only be given to a group of its owner)",
}


def bound_socket(family: int, kind: int, where: Any, reuse_port: bool) -> socket.socket:
    # asyncio sets TCP_NODELAY on connections whose listener says that it is TCP, not on others:
    # responses of two writes then wait for a delayed acknowledgement, 40 ms each.
    is_tcp = kind == socket.SOCK_STREAM and family != AF_UNIX
    sock = socket.socket(family, kind, socket.IPPROTO_TCP if is_tcp else 0)
    try:
        sock.setblocking(False)
        if kind == socket.SOCK_STREAM and os.name == "posix":
            # Connections of an earlier server may linger. Windows would share with a living one.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, SO_REUSEPORT, 1)
        sock.bind(where)
    except BaseException:
        sock.close()
        raise
    return sock


def listening(family: int, kind: int, where: Any, backlog: int, reuse_port: bool) -> socket.socket:
    sock = bound_socket(family, kind, where, reuse_port)
    try:
        if kind == socket.SOCK_STREAM:
            sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def listens(sock: socket.socket) -> bool:
    try:  # it may have a backlog of its owner's choice
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:  # not every system tells
        return False


def numeric(where: Any) -> tuple[str, int]:
    host, port = socket.getnameinfo(where, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
    return host, int(port)


def url_text(kind: int, host: str, port: int) -> str:
    scheme = "tcp" if kind == socket.SOCK_STREAM else "udp"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def url_of(sock: socket.socket) -> str:
    where = sock.getsockname()
    if sock.family == AF_UNIX:
        name = os.fsdecode(where)
        return f"unix:@{name[1:]}" if name.startswith("\0") else f"unix:{name}"
    return url_text(sock.type, *numeric(where))


def explained(error: OSError, name: str, hint: str = "") -> OSError:
    hint = hint or _HINTS.get(error.errno or 0, "")
    # Python gives a path that is too long no number.
    number = error.errno or errno.ENAMETOOLONG
    return type(error)(number, f"cannot listen on {name}: {error.strerror or error}{hint}")

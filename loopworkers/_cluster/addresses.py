"""What can be listened on, as people write it and as it is opened."""

from __future__ import annotations

import errno
import os
import socket
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

Address = str | int | tuple[str, int] | socket.socket

_SYSTEMD = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
_FIRST_FD = 3  # where systemd's begin


class Internet(NamedTuple):
    kind: socket.SocketKind
    host: str  # empty for all interfaces
    port: int


class Unix(NamedTuple):
    name: str  # for bind()
    file: str | None  # absolute; None for an abstract one
    mode: int | None
    group: int | None


class Inherited(NamedTuple):
    fd: int
    name: str


class Ready(NamedTuple):
    socket: socket.socket
    name: str


Place = Internet | Unix | Inherited | Ready


def listed(addresses: Sequence[Address] | Address) -> list[Any]:
    match addresses:
        # A pair is one address; a list of a name and a number is two.
        case str() | int() | socket.socket() | tuple((str(), int())):
            return [addresses]
        case _:
            return list(addresses)


def parse(address: object) -> list[Place]:
    match address:
        case socket.socket():
            return [Ready(address, repr(address))]
        case tuple((str(host), int(port))):
            if "/" in host or host.count(":") == 1:
                raise _no_address((host, port), "several addresses go into a list")
            return [Internet(socket.SOCK_STREAM, host, _number(str(port), 65535, (host, port)))]
        case int() if not isinstance(address, bool):
            return [Internet(socket.SOCK_STREAM, "", _number(str(address), 65535, address))]
        case "systemd":
            return [Inherited(fd, f"systemd's descriptor {fd}") for fd in _systemd_fds()]
        case str() if address.startswith("unix:"):
            return [_unix(address)]
        case str() if address.startswith("fd://"):
            return [Inherited(_number(address[5:], 2**31 - 1, address), address)]
        case str() if address.startswith("udp://"):
            return [_internet(socket.SOCK_DGRAM, address[6:], address)]
        case str():
            return [_internet(socket.SOCK_STREAM, address.removeprefix("tcp://"), address)]
        case _:
            raise _no_address(address, "it is none of str, int, (str, int) and socket")


def forget_systemd() -> None:
    """Children must not believe that the descriptors were for them."""
    for name in _SYSTEMD:
        os.environ.pop(name, None)


def _internet(kind: socket.SocketKind, place: str, address: str) -> Internet:
    host, _, port = place.rpartition(":")
    if "/" in host:
        raise _no_address(address, "it begins with none of tcp://, udp://, unix: and fd://")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise _no_address(address, 'an IPv6 address goes into brackets, as in "[::1]:8000"')
    return Internet(kind, host, _number(port, 65535, address))


def _number(text: str, most: int, address: object) -> int:
    if text.isascii() and text.isdigit() and int(text) <= most:
        return int(text)
    raise _no_address(address, f"it has to end in a number from 0 to {most}")


def _unix(address: str) -> Unix:
    path, _, query = address.removeprefix("unix:").removeprefix("//").partition("?")
    if path in ("", "@") or "\0" in path:
        raise _no_address(address, "it has no path")
    mode = group = None
    for option in query.split("&") if query else ():
        key, _, value = option.partition("=")
        if key == "mode":
            mode = _mode(value, address)
        elif key == "group":
            group = _group(value, address)
        else:
            raise _no_address(address, f"the options are mode= and group=, not {key!r}")
    if not path.startswith("@"):
        return Unix(path, os.path.abspath(path), mode, group)
    if sys.platform != "linux":
        raise _no_address(address, f'abstract sockets need Linux; a file is "unix:./{path}"')
    if query:
        raise _no_address(address, "an abstract socket is no file, it has no mode and no group")
    return Unix("\0" + path[1:], None, None, None)


def _mode(value: str, address: str) -> int:
    try:
        mode = int(value, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise _no_address(address, "the mode is octal, as in mode=660")
    return mode


def _group(value: str, address: str) -> int:
    import grp  # not on Windows

    try:
        return grp.getgrnam(value).gr_gid
    except KeyError:
        raise _no_address(address, f"there is no group {value!r}") from None


def _systemd_fds() -> range:
    pid, number = (os.environ.get(name, "") for name in _SYSTEMD[:2])
    if pid != str(os.getpid()) or not number.isdigit() or not int(number):
        raise OSError(
            errno.EBADF,
            "cannot listen on systemd: it has passed no sockets to this process "
            f"(LISTEN_FDS={number!r}, LISTEN_PID={pid!r}); start the service by its .socket unit",
        )
    return range(_FIRST_FD, _FIRST_FD + int(number))


def _no_address(address: object, why: str) -> ValueError:
    return ValueError(f"cannot listen on {address!r}: {why}")

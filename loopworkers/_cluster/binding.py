"""Opens the listening sockets of a cluster, in the primary: all of them, or none."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any

from .addresses import Address as Address
from .addresses import Inherited, Internet, Ready, Unix, forget_systemd, listed, parse
from .sockets import (
    AF_UNIX,
    SO_REUSEPORT,
    bound_socket,
    explained,
    listening,
    listens,
    numeric,
    url_of,
    url_text,
)
from .unix import SocketFile, bind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .addresses import Place

_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_PORT_TRIES = 20


def open_sockets(
    addresses: Sequence[Address] | Address, *, backlog: int = 2048, reuse_port: bool = False
) -> list[Bound]:
    """Listen on all of ``addresses``, or raise and leave nothing open.

    ``8000`` and ``":8000"`` are all interfaces, IPv6 included where there is any. A name stands for
    each address it resolves to, on one port. What ``"fd://3"`` and ``"systemd"`` name is taken
    over. A ready socket is duplicated; the caller closes the original, now non-blocking as well.
    """
    if reuse_port and SO_REUSEPORT is None:
        raise ValueError(
            "reuse_port=True needs SO_REUSEPORT, which this system has not; without it the "
            "workers share one socket"
        )
    several = listed(addresses)
    places = [place for address in several for place in parse(address)]
    opener = _Opener(backlog, reuse_port)
    try:
        for place in places:
            opener.open(place)
    except BaseException:
        opener.undo()
        raise
    if "systemd" in several:
        forget_systemd()
    return opener.opened


class Bound:
    """One socket of the primary: it listens or, for UDP, is bound."""

    def __init__(self, sock: socket.socket, url: str, backlog: int, reuse_port: bool) -> None:
        sock.setblocking(False)
        sock.set_inheritable(False)
        self.socket = sock
        self.url = url
        self.is_stream = sock.type == socket.SOCK_STREAM
        self.file: SocketFile | None = None
        self._backlog = backlog
        # Kept, since the socket may be closed: it gets connections too, which somebody must accept.
        self._place = (sock.family, sock.type, sock.getsockname()) if reuse_port else None

    def again(self) -> socket.socket:
        """Another socket at the same address, with a queue of its own."""
        if self._place is None:
            raise ValueError(f"{self.url} has one socket: it was opened without reuse_port=True")
        try:
            return listening(*self._place, self._backlog, True)
        except OSError as error:
            raise explained(error, self.url) from None

    def close(self) -> None:
        if self.file is not None:
            self.file.remove()
            self.file = None
        self.socket.close()


class _Opener:
    def __init__(self, backlog: int, reuse_port: bool) -> None:
        self.opened: list[Bound] = []
        self._taken: list[Bound] = []
        self._backlog = backlog
        self._reuse_port = reuse_port

    def open(self, place: Place) -> None:
        match place:
            case Internet():
                self.opened += self._internet(place)
            case Unix():
                self.opened.append(self._unix(place))
            case Inherited():
                self._take(place)
            case Ready():
                try:
                    copy = place.socket.dup()
                except OSError as error:
                    raise explained(error, place.name) from None
                try:
                    self.opened.append(self._adopted(copy, place.name))
                except BaseException:
                    copy.close()
                    raise

    def undo(self) -> None:
        for bound in self.opened:
            if bound in self._taken:
                bound.socket.detach()  # it was open before, and the next try needs it
            else:
                bound.close()

    def _internet(self, place: Internet) -> list[Bound]:
        kind, host, port = place
        flags = socket.AI_PASSIVE
        try:
            infos = socket.getaddrinfo(host or None, port, type=kind, flags=flags)
        except OSError as error:
            raise explained(error, url_text(kind, host, port)) from None
        except UnicodeError:
            raise ValueError(f"cannot listen on {host!r}: it is no name of a host") from None
        found = list(dict.fromkeys((info[0], info[4]) for info in infos))
        tries = 1 if port else _PORT_TRIES
        while True:
            tries -= 1
            try:
                return self._same_port(kind, found, port)
            except OSError as error:
                # The port that one address had free may be another's at the next.
                if not tries or error.errno != errno.EADDRINUSE:
                    raise

    def _same_port(self, kind: socket.SocketKind, found: list[Any], port: int) -> list[Bound]:
        opened: list[Bound] = []
        missing: OSError | None = None
        try:
            for family, where in found:
                try:
                    sock = self._bind(family, kind, (where[0], port, *where[2:]))
                except OSError as error:
                    # Names resolve to IPv6 addresses on systems that have none, too.
                    if family != socket.AF_INET6 or error.errno not in _NO_IPV6:
                        raise
                    missing = error
                    continue
                opened.append(Bound(sock, url_of(sock), self._backlog, self._reuse_port))
                port = sock.getsockname()[1]
            if missing is not None and not opened:
                raise missing
        except BaseException:
            for bound in opened:
                bound.close()
            raise
        return opened

    def _bind(self, family: int, kind: socket.SocketKind, where: Any) -> socket.socket:
        try:
            if self._reuse_port:
                # With it one can bind beside another server, and would take half its connections.
                with bound_socket(family, kind, where, False) as probe:
                    where = probe.getsockname()
            return listening(family, kind, where, self._backlog, self._reuse_port)
        except OSError as error:
            low = error.errno == errno.EACCES and 0 < where[1] < 1024
            hint = " (ports below 1024 need a privilege)" if low else ""
            raise explained(error, url_text(kind, *numeric(where)), hint) from None

    def _unix(self, place: Unix) -> Bound:
        url = f"unix:{place.file or '@' + place.name[1:]}"
        if self._reuse_port:
            raise ValueError(f"cannot listen on {url} with reuse_port=True: it is for ports only")
        if AF_UNIX is None:
            raise ValueError(f"cannot listen on {url}: this Python has no Unix sockets")
        bound = Bound(socket.socket(AF_UNIX), url, self._backlog, False)
        try:
            if place.file is None:
                bound.socket.bind(place.name)
            else:
                bind(bound.socket, place.name)
                bound.file = SocketFile(place.file)
            # Before it listens nobody can connect, whatever the umask has left open.
            if place.group is not None:
                os.chown(place.name, -1, place.group)
            if place.mode is not None:
                os.chmod(place.name, place.mode)
            bound.socket.listen(self._backlog)
        except BaseException as error:
            bound.close()
            if isinstance(error, OSError):
                raise explained(error, url) from None
            raise
        return bound

    def _take(self, place: Inherited) -> None:
        for bound in self.opened:
            if bound.socket.fileno() == place.fd:
                raise ValueError(f"cannot listen on {place.name}: it is {bound.url}, opened before")
        try:
            sock = socket.socket(fileno=place.fd)
        except OSError as error:
            raise explained(error, place.name) from None
        try:
            bound = self._adopted(sock, place.name)
        except BaseException:
            sock.detach()
            raise
        self._taken.append(bound)
        self.opened.append(bound)

    def _adopted(self, sock: socket.socket, name: str) -> Bound:
        kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM)
        families = (socket.AF_INET, socket.AF_INET6, AF_UNIX)
        if sock.type not in kinds or sock.family not in families:
            raise ValueError(f"cannot listen on {name}: it is no TCP, UDP or Unix socket")
        where = sock.getsockname()
        if not where or (sock.family != AF_UNIX and not where[1]):
            raise ValueError(f"cannot listen on {name}: it is not bound to an address")
        if self._reuse_port and (
            sock.family == AF_UNIX or not sock.getsockopt(socket.SOL_SOCKET, SO_REUSEPORT)
        ):
            raise ValueError(f"cannot listen on {name} with reuse_port=True: it was bound without")
        try:
            if sock.type == socket.SOCK_STREAM and not listens(sock):
                sock.listen(self._backlog)
        except OSError as error:
            raise explained(error, name) from None
        return Bound(sock, url_of(sock), self._backlog, self._reuse_port)

"""Sockets that exist already: inherited, passed by systemd, or made by the program."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from binding_help import (
    assert_talks,
    needs_unix,
    port_of,
    run,
)

from loopworkers._cluster.binding import open_sockets

if TYPE_CHECKING:
    from pathlib import Path


def test_an_inherited_descriptor_is_taken_over(opened: Any) -> None:
    fd = socket.create_server(("127.0.0.1", 0)).detach()
    os.set_inheritable(fd, True)
    [bound] = opened(f"fd://{fd}")
    assert bound.socket.fileno() == fd
    assert not os.get_inheritable(fd)
    assert not os.get_blocking(fd)
    assert bound.is_stream
    assert bound.url == f"tcp://127.0.0.1:{port_of(bound)}"
    assert_talks(bound)
    bound.close()
    with pytest.raises(OSError, match=f"fd://{fd}: Bad file descriptor .there is no such"):
        open_sockets(f"fd://{fd}")


@needs_unix
def test_family_and_type_of_an_inherited_descriptor_are_found_out(
    short_path: Path, opened: Any
) -> None:
    udp = socket.socket(type=socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    unix = socket.socket(socket.AF_UNIX)
    unix.bind("app.sock")
    unix.listen()
    first, second = opened([f"fd://{udp.detach()}", f"fd://{unix.detach()}"])
    assert (first.is_stream, first.url) == (False, f"udp://127.0.0.1:{port_of(first)}")
    assert (second.is_stream, second.url) == (True, "unix:app.sock")
    second.close()
    assert (short_path / "app.sock").exists()  # made by somebody else


def test_a_descriptor_is_taken_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        with pytest.raises(ValueError, match=r"it is tcp://.*, opened before"):
            open_sockets([f"fd://{sock.fileno()}"] * 2)
        assert sock.getsockname()


def test_what_cannot_be_listened_on_is_refused_and_stays_open() -> None:
    first, second = socket.socketpair()
    reading, writing = os.pipe()
    with first, second, socket.socket() as unbound, closing(os.fdopen(writing, "wb")):
        with pytest.raises(ValueError, match=f"fd://{unbound.fileno()}: it is not bound"):
            open_sockets(f"fd://{unbound.fileno()}")
        with pytest.raises(ValueError, match="it is not bound"):
            open_sockets(first)
        with pytest.raises(OSError, match=f"fd://{reading}: Socket operation on non-socket"):
            open_sockets(f"fd://{reading}")
        os.close(reading)
        first.send(b"x")
        assert second.recv(1) == b"x"


@pytest.mark.parametrize("listen", [True, False])
def test_a_ready_socket_is_duplicated(listen: bool, opened: Any) -> None:
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        if listen:
            own.listen()
        [bound] = opened([own])
        assert_talks(bound)
        bound.close()
        assert own.getsockname()


def test_a_closed_socket_is_refused() -> None:
    sock = socket.socket()
    sock.close()
    with pytest.raises(OSError, match=r"cannot listen on <socket.*closed.*Bad file descriptor"):
        open_sockets(sock)


@needs_unix
def test_systemd_passes_sockets() -> None:
    code = """if True:
        import fcntl, os, sys
        high = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 50) for fd in sys.argv[1:]]
        for number, fd in enumerate(high, 3):
            os.dup2(fd, number)
            os.close(fd)
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="a:b")
        from loopworkers._cluster.binding import open_sockets
        try:
            open_sockets(["systemd", "192.0.2.1:80"])
        except OSError:
            pass
        for bound in open_sockets(["systemd"]):
            print(bound.socket.fileno(), bound.url)
            bound.close()
        print([name for name in os.environ if name.startswith("LISTEN_")])
    """
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(type=socket.SOCK_DGRAM) as udp,
    ):
        udp.bind(("127.0.0.1", 0))
        fds = (tcp.fileno(), udp.fileno())
        assert run(code, *fds, pass_fds=fds).splitlines() == [
            f"3 tcp://127.0.0.1:{tcp.getsockname()[1]}",
            f"4 udp://127.0.0.1:{udp.getsockname()[1]}",
            "[]",
        ]


@pytest.mark.parametrize("pid", [None, "1"])
def test_without_systemds_sockets_it_says_so(
    pid: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LISTEN_PID", raising=False)
    monkeypatch.setenv("LISTEN_FDS", "1")
    if pid is not None:
        monkeypatch.setenv("LISTEN_PID", pid)
    with pytest.raises(OSError, match="cannot listen on systemd: it has passed no sockets"):
        open_sockets("systemd")

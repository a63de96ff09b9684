"""What the tests of listening sockets have in common; `opened` and `short_path` are fixtures."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from contract_help import ROOT

from loopworkers._cluster.binding import Bound, open_sockets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="the system has no IPv6")
needs_unix = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no Unix sockets")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it")
needs_reuse_port = pytest.mark.skipif(
    not hasattr(socket, "SO_REUSEPORT"), reason="the system has no SO_REUSEPORT"
)


@pytest.fixture
def opened() -> Iterator[Callable[..., list[Bound]]]:
    """`open_sockets`; what it opens is closed in the end."""
    every: list[Bound] = []

    def opening(*args: Any, **options: Any) -> list[Bound]:
        found = open_sockets(*args, **options)
        every.extend(found)
        return found

    yield opening
    for bound in every:
        bound.close()


@pytest.fixture
def short_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is also the current one: its full path may be too long for a socket."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def port_of(bound: Bound) -> int:
    return int(bound.socket.getsockname()[1])


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd" if sys.platform == "linux" else "/dev/fd"))


def assert_talks(bound: Bound, where: Any = None) -> None:
    """A client that connects to ``where`` is accepted by ``bound``."""
    with socket.socket(bound.socket.family) as client:
        client.settimeout(10)
        client.connect(where or bound.socket.getsockname())
        bound.socket.settimeout(10)
        server, _ = bound.socket.accept()
        bound.socket.setblocking(False)
        with server:
            client.sendall(b"hello")
            assert server.recv(5, socket.MSG_WAITALL) == b"hello"


def run(code: str, *args: object, **options: Any) -> str:
    command = [sys.executable, "-W", "error", "-c", code, *map(str, args)]
    environment = {**os.environ, "PYTHONPATH": ROOT}
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, timeout=60, **options
    )
    assert done.returncode == 0
    return done.stdout

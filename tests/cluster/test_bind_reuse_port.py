"""Several sockets at one address, by SO_REUSEPORT."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
from binding_help import (
    needs_ipv6,
    needs_linux,
    needs_reuse_port,
    port_of,
)

from loopworkers._cluster import binding
from loopworkers._cluster.binding import open_sockets

if TYPE_CHECKING:
    from pathlib import Path


@needs_reuse_port
@pytest.mark.parametrize("scheme", ["tcp", "udp"])
def test_with_reuse_port_an_address_can_be_bound_again(scheme: str, opened: Any) -> None:
    [bound] = opened(f"{scheme}://127.0.0.1:0", reuse_port=True)
    where = bound.socket.getsockname()
    with bound.again() as first, bound.again() as second:
        assert first.getsockname() == second.getsockname() == where
        assert not first.get_inheritable()
        assert first.gettimeout() == 0
        bound.close()
        second.close()
        with socket.socket(type=first.type) as client, bound.again():
            client.connect(where)


@needs_linux
def test_connections_are_spread_over_all_sockets_of_an_address(opened: Any) -> None:
    [bound] = opened("127.0.0.1:0", reuse_port=True)
    clients = []
    with bound.again() as other:
        for _ in range(64):
            clients.append(socket.create_connection(bound.socket.getsockname(), timeout=10))
        for sock in (bound.socket, other):
            sock.settimeout(10)
            sock.accept()[0].close()
    for client in clients:
        client.close()


@needs_reuse_port
@pytest.mark.parametrize("scheme", ["tcp", "udp"])
def test_with_reuse_port_a_foreign_server_is_found(scheme: str, opened: Any) -> None:
    [bound] = opened(f"{scheme}://127.0.0.1:0", reuse_port=True)
    with pytest.raises(OSError, match=f"listen on {bound.url}: Address already in use"):
        open_sockets(bound.url, reuse_port=True)
    bound.close()
    assert [b.url for b in opened(bound.url, reuse_port=True)] == [bound.url]


@needs_ipv6
@needs_reuse_port
def test_with_reuse_port_both_families_have_the_same_port(opened: Any) -> None:
    bounds = opened(0, reuse_port=True)
    assert len(bounds) == 2
    assert len({port_of(bound) for bound in bounds}) == 1
    for bound in bounds:
        bound.again().close()


@needs_reuse_port
def test_reuse_port_that_cannot_be_is_refused(
    opened: Any, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="opened without reuse_port=True"):
        opened("127.0.0.1:0")[0].again()
    with pytest.raises(ValueError, match="it is for ports only"):
        open_sockets("unix:app.sock", reuse_port=True)
    with (
        socket.create_server(("127.0.0.1", 0)) as sock,
        pytest.raises(ValueError, match="it was bound without"),
    ):
        open_sockets(sock, reuse_port=True)
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as sock:
        opened(sock, reuse_port=True)[0].again().close()
    monkeypatch.setattr(binding, "SO_REUSEPORT", None)
    with pytest.raises(ValueError, match="this system has not"):
        open_sockets("127.0.0.1:0", reuse_port=True)

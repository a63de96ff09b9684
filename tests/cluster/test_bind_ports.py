"""Listening on ports: what is asked for is open, on all interfaces meant, or nothing is."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from binding_help import (
    assert_talks,
    descriptors,
    free_port,
    needs_ipv6,
    needs_linux,
    port_of,
)

from loopworkers._cluster import binding
from loopworkers._cluster.binding import open_sockets


@pytest.mark.parametrize(
    "address", ["127.0.0.1:0", "tcp://127.0.0.1:0", ("127.0.0.1", 0), ["127.0.0.1:0"]]
)
def test_a_client_can_connect(address: Any, opened: Any) -> None:
    [bound] = opened(address)
    assert bound.is_stream
    assert bound.url == f"tcp://127.0.0.1:{port_of(bound)}"
    assert bound.socket.gettimeout() == 0
    assert not bound.socket.get_inheritable()
    assert_talks(bound)
    bound.close()
    url = urlsplit(bound.url)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((url.hostname, url.port), timeout=10)


@needs_ipv6
def test_ipv6_in_brackets(opened: Any) -> None:
    [bound] = opened("[::1]:0")
    assert bound.url == f"tcp://[::1]:{port_of(bound)}"
    assert bound.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    assert_talks(bound)


@needs_ipv6
@pytest.mark.parametrize("address", [0, ":0", "tcp://:0", ("", 0)])
def test_all_interfaces_are_both_families_on_the_same_port(address: Any, opened: Any) -> None:
    found = {bound.socket.family: bound for bound in opened(address)}
    assert found.keys() == {socket.AF_INET, socket.AF_INET6}
    assert len({port_of(bound) for bound in found.values()}) == 1
    for family, loopback in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        assert_talks(found[family], (loopback, port_of(found[family])))


def test_a_number_is_a_port_on_all_interfaces(opened: Any) -> None:
    port = free_port()
    bound = next(b for b in opened(port) if b.socket.family == socket.AF_INET)
    assert bound.url == f"tcp://0.0.0.0:{port}"
    assert_talks(bound, ("127.0.0.1", port))


def test_a_name_is_all_addresses_it_resolves_to(opened: Any) -> None:
    hosts = {info[4][0] for info in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
    bounds = opened("localhost:0")
    assert len({port_of(bound) for bound in bounds}) == 1
    assert {bound.socket.getsockname()[0] for bound in bounds} <= hosts
    for bound in bounds:
        assert_talks(bound)


@needs_ipv6
def test_a_port_that_only_one_family_has_free_is_not_taken(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports: list[int] = []
    listening = binding.listening

    def listening_at_the_second_try(family: int, kind: int, where: Any, *rest: Any) -> Any:
        if family == socket.AF_INET6:
            ports.append(where[1])
            if len(ports) == 1:
                raise OSError(errno.EADDRINUSE, "in use")
        return listening(family, kind, where, *rest)

    monkeypatch.setattr(binding, "listening", listening_at_the_second_try)
    before = descriptors()
    bounds = opened(0)
    assert {port_of(bound) for bound in bounds} == {ports[1]}
    assert len(descriptors() - before) == 2


def test_ipv6_addresses_of_a_name_are_left_out_where_there_is_no_ipv6(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(*_: Any, **__: Any) -> list[Any]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert [bound.socket.family for bound in opened("example:0")] == [socket.AF_INET]


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(OSError, match=r"listen on tcp://192\.0\.2\.1:80\d\d: .*\(no interf") as got:
        open_sockets("192.0.2.1:8099")
    assert got.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.skipif(os.name != "posix", reason="on Windows a port is free at once")
def test_a_port_whose_last_connections_linger_is_free(opened: Any) -> None:
    [first] = opened("127.0.0.1:0")
    assert_talks(first)  # where the server closes first, and so waits
    first.close()
    assert_talks(*opened(first.url))


def test_a_port_in_use_is_refused_by_name(opened: Any) -> None:
    [first] = opened("127.0.0.1:0")
    with pytest.raises(OSError, match=f"cannot listen on {first.url}: Address already") as caught:
        open_sockets(first.url)
    assert caught.value.errno == errno.EADDRINUSE


@needs_linux
def test_a_port_that_needs_a_privilege_says_so() -> None:
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) < 2:
        pytest.skip("here no port needs a privilege")
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)  # gives up the privilege, until it is root again
    try:
        with pytest.raises(PermissionError, match=r"tcp://127\.0\.0\.1:1: Perm.*below 1024 need"):
            open_sockets("127.0.0.1:1")
    finally:
        if root:
            os.seteuid(0)


def test_an_unknown_host_keeps_its_kind_of_error() -> None:
    with pytest.raises(socket.gaierror, match=r"cannot listen on tcp://no\.invalid:80: ") as caught:
        open_sockets("no.invalid:80")
    assert caught.value.errno in (socket.EAI_NONAME, socket.EAI_AGAIN, socket.EAI_FAIL)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("", "number from 0 to 65535"),
        ("localhost", "number from 0 to 65535"),
        ("127.0.0.1:", "number from 0 to 65535"),
        ("127.0.0.1:65536", "number from 0 to 65535"),
        ("127.0.0.1:-1", "number from 0 to 65535"),
        ("tcp://127.0.0.1:80/", "number from 0 to 65535"),
        (65536, "number from 0 to 65535"),
        (-1, "number from 0 to 65535"),
        ("::1:80", "brackets"),
        ("http://127.0.0.1:80", "begins with none of"),
        ("fd://x", "number from 0"),
        ("fd://99999999999999999999", "number from 0"),
        ("unix:", "no path"),
        ("unix:a\0b", "no path"),
        ("unix:a?mode=9", "octal"),
        ("unix:a?mode=1777", "octal"),
        ("unix:a?group=no such group", "no group 'no such group'"),
        ("unix:a?user=me", "not 'user'"),
        (("localhost:80", 81), "into a list"),
        (("a..b", 80), "no name of a host"),
        ([True], "none of str, int"),
        ([None], "none of str, int"),
        ([b"localhost:80"], "none of str, int"),
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_opened(address: Any, why: str) -> None:
    before = descriptors()
    with pytest.raises(ValueError, match=f"cannot listen on .*{why}"):
        open_sockets(["127.0.0.1:0", *(address if type(address) is list else [address])])
    assert descriptors() == before


def test_when_one_address_fails_all_are_closed(short_path: Path, opened: Any) -> None:
    [taken] = opened("127.0.0.1:0")
    before = descriptors()
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        addresses = ["127.0.0.1:0", ":0", "udp://127.0.0.1:0", f"fd://{inherited.fileno()}"]
        if hasattr(socket, "AF_UNIX"):
            addresses.append("unix:app.sock")
        with pytest.raises(OSError, match=taken.url):
            open_sockets([*addresses, inherited, taken.url])
        assert inherited.getsockname()  # not opened here, so left to a second try
    assert descriptors() == before
    assert not (short_path / "app.sock").exists()


def test_udp(opened: Any) -> None:
    [bound] = opened("udp://127.0.0.1:0")
    assert not bound.is_stream
    assert bound.url == f"udp://127.0.0.1:{port_of(bound)}"
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.sendto(b"packet", bound.socket.getsockname())
        bound.socket.settimeout(10)
        assert bound.socket.recv(100) == b"packet"
    with pytest.raises(OSError, match=f"listen on {bound.url}: Address already in use"):
        open_sockets(bound.url)

"""Listening sockets: what is asked for is open, for those it is meant for, or nothing is."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

import loopworkers
from loopworkers._cluster import binding
from loopworkers._cluster.binding import Bound, open_sockets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = str(Path(loopworkers.__file__).parents[1])


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


# Unix sockets


@needs_unix
@pytest.mark.parametrize("form", ["unix:{}", "unix://{}"])
def test_a_unix_socket_has_a_file_as_long_as_it_is_open(
    form: str, short_path: Path, opened: Any
) -> None:
    [bound] = opened(form.format("app.sock"))
    file = short_path / "app.sock"
    assert bound.is_stream
    assert bound.url == f"unix:{file}"
    assert_talks(bound)
    bound.close()
    assert not file.exists()
    bound.close()


@needs_unix
def test_a_relative_path_is_removed_from_where_it_was_bound(
    short_path: Path, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    [bound] = opened("unix:app.sock")
    (short_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    bound.close()
    assert not (short_path / "app.sock").exists()


@needs_unix
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o777])
def test_permissions_are_set_before_it_listens(
    mode: int, short_path: Path, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    grp = pytest.importorskip("grp")
    group = grp.getgrgid(os.getegid()).gr_name
    refused = []
    chmod = os.chmod

    def chmod_while_clients_try(path: Any, mode: int) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            refused.append(client.connect_ex(path))
        chmod(path, mode)

    monkeypatch.setattr(os, "chmod", chmod_while_clients_try)
    mask = os.umask(0o022)
    try:
        opened(f"unix:app.sock?mode={mode:o}&group={group}")
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(mask)
    status = os.stat("app.sock")
    assert stat.S_IMODE(status.st_mode) == mode
    assert status.st_gid == os.getegid()
    assert refused == [errno.ECONNREFUSED]


@needs_unix
def test_a_file_that_nobody_listens_on_is_replaced(short_path: Path, opened: Any) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind("app.sock")
    [bound] = opened("unix:app.sock")
    assert_talks(bound)


@needs_unix
@pytest.mark.parametrize("backlog", [0, 5])
def test_a_file_that_somebody_listens_on_stays_his(
    backlog: int, short_path: Path, opened: Any
) -> None:
    with socket.socket(socket.AF_UNIX) as theirs, socket.socket(socket.AF_UNIX) as waiting:
        theirs.bind("app.sock")
        theirs.listen(backlog)
        waiting.connect("app.sock")  # with a backlog of 0, its queue is full
        inode = os.stat("app.sock").st_ino
        with pytest.raises(OSError, match=r"unix:.*app\.sock: Address already in use") as caught:
            open_sockets("unix:app.sock")
        assert caught.value.errno == errno.EADDRINUSE
        assert os.stat("app.sock").st_ino == inode


@needs_unix
def test_a_file_that_is_no_socket_stays(short_path: Path) -> None:
    (short_path / "app.sock").write_text("precious")
    with pytest.raises(OSError, match=r"app\.sock: a file is there that is no socket") as caught:
        open_sockets("unix:app.sock")
    assert caught.value.errno == errno.EADDRINUSE
    assert (short_path / "app.sock").read_text() == "precious"


@needs_unix
def test_closing_leaves_a_file_that_is_another_ones_by_now(short_path: Path, opened: Any) -> None:
    [bound] = opened("unix:app.sock")
    os.unlink("app.sock")
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind("app.sock")
        bound.close()
        assert (short_path / "app.sock").exists()


@needs_unix
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_closing_in_a_fork_leaves_the_file(short_path: Path) -> None:
    code = """if True:
        import os
        from loopworkers._cluster.binding import open_sockets
        [bound] = open_sockets("unix:app.sock")
        if os.fork() == 0:
            bound.close()
            os._exit(0)
        os.wait()
        print(os.path.exists("app.sock"))
        bound.close()
        print(os.path.exists("app.sock"))
    """
    assert run(code) == "True\nFalse\n"


@needs_unix
@pytest.mark.parametrize(
    ("path", "number"), [("no/such/app.sock", errno.ENOENT), ("a" * 300, errno.ENAMETOOLONG)]
)
def test_a_path_that_cannot_be_is_named(path: str, number: int, short_path: Path) -> None:
    with pytest.raises(OSError, match=f"cannot listen on unix:.*{path}") as caught:
        open_sockets(f"unix:{path}")
    assert caught.value.errno == number


@needs_linux
def test_an_abstract_unix_socket_has_no_file(short_path: Path, opened: Any) -> None:
    name = f"loopworkers-test-{os.getpid()}"
    [bound] = opened(f"unix:@{name}")
    assert bound.url == f"unix:@{name}"
    assert_talks(bound, f"\0{name}")
    assert list(short_path.iterdir()) == []
    with pytest.raises(OSError, match=f"unix:@{name}: Address already in use"):
        open_sockets(bound.url)
    with pytest.raises(ValueError, match="is no file"):
        open_sockets(f"{bound.url}?mode=600")


# Sockets that exist already


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


def run(code: str, *args: object, **options: Any) -> str:
    command = [sys.executable, "-W", "error", "-c", code, *map(str, args)]
    environment = {**os.environ, "PYTHONPATH": ROOT}
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, timeout=60, **options
    )
    assert done.returncode == 0
    return done.stdout


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


# SO_REUSEPORT


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

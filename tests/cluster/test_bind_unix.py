"""Listening on Unix sockets: who may connect, and what becomes of the file."""

from __future__ import annotations

import errno
import os
import socket
import stat
from typing import TYPE_CHECKING, Any

import pytest
from binding_help import (
    assert_talks,
    needs_linux,
    needs_unix,
    run,
)

from loopworkers._cluster.binding import open_sockets

if TYPE_CHECKING:
    from pathlib import Path


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

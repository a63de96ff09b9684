"""Starts each worker as a Python of its own: the forkserver's twin where there is no fork.

The interface is that of `forkserver`. Two threads for each worker stand in for the forkserver:
one waits for the process and reports its end, one passes on the orders from its control socket.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from .._child.forkserver import ENDED, REPORT, STARTED, TERMINATE
from .._wire.values import dumps

if TYPE_CHECKING:
    from .identity import Identity

_ROOT = str(Path(__file__).resolve().parents[2])
_BOOT = (
    "import sys; sys.path[:] = {path!r}; from loopworkers._child.spawned import main; main({fds})"
)


def acquire(preload: tuple[str, ...]) -> None:
    """Nothing is shared: each worker imports the preload itself."""


def release(preload: tuple[str, ...]) -> None:
    """See `acquire`."""


def start_worker(
    preload: tuple[str, ...],
    calls: socket.socket,
    replies: socket.socket,
    slab: int | None,
    identity: Identity | None = None,
) -> socket.socket:
    """Start a worker that owns copies of these sockets; its control socket."""
    control, theirs = socket.socketpair()
    shares = hasattr(calls, "share")  # Windows: a socket is given to a process that exists
    fds = [] if shares else [calls.fileno(), replies.fileno()]
    if slab is not None:
        fds.append(slab)
    boot = _BOOT.format(path=[*sys.path, _ROOT], fds=fds or "")
    options: dict[str, Any] = (
        {"creationflags": 0x00000200}  # CREATE_NEW_PROCESS_GROUP: Ctrl-C is the parent's alone
        if shares
        else {"pass_fds": fds, "process_group": 0}
    )
    if identity is not None:
        options |= {"env": identity.env, **identity.streams}
    try:
        process = subprocess.Popen([sys.executable, "-c", boot], stdin=subprocess.PIPE, **options)
        assert process.stdin is not None
        if shares:
            sharing: list[Any] = [calls, replies]
            process.stdin.write(dumps([end.share(process.pid) for end in sharing], 5))
            process.stdin.flush()
    except OSError:
        control.close()
        theirs.close()
        raise
    theirs.send(REPORT.pack(STARTED, process.pid))
    for job in (_report_end, _pass_on_orders):
        Thread(target=job, args=(process, theirs), daemon=True).start()
    return control


def _report_end(process: subprocess.Popen[bytes], theirs: socket.socket) -> None:
    code = process.wait()
    assert process.stdin is not None
    process.stdin.close()
    # As os.waitpid() would have it, which is what the forkserver reports.
    status = -code if code < 0 else (code & 0xFF) << 8
    try:
        theirs.send(REPORT.pack(ENDED, status))
        theirs.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # nobody wants to know any more


def _pass_on_orders(process: subprocess.Popen[bytes], theirs: socket.socket) -> None:
    with theirs:
        while True:
            try:
                order = theirs.recv(1)
            except OSError:
                order = b""
            if order and order[0] == TERMINATE:
                process.terminate()
            else:
                process.kill()  # does nothing once it has been waited for
            if not order:
                return

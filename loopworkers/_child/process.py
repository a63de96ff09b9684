"""A worker process, from its fork to its exit."""

from __future__ import annotations

import os
import signal
import sys

from .._wire.slab import Slab
from .link import Link
from .serve import serve
from .setup import Setup

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import NoReturn


def run(calls: _socket.socket, replies: _socket.socket, slab: int | None) -> NoReturn:
    """Be a worker on these sockets, then leave the process; never returns."""
    code = 1
    try:
        # Ctrl-C goes to the parent alone, since workers are in a process group of their own; a
        # SIGINT sent to a worker by hand ends it without a KeyboardInterrupt traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _reseed()
        link = Link(calls, replies, None if slab is None else Slab(slab))
        code = serve(link, Setup(own_folder=True, own_streams=True))
        _run_exit_handlers()
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        # The forkserver's own exit handlers and threads are none of this process's business.
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):  # closed or replaced by the program
                pass
        os._exit(code & 0xFF)


def _reseed() -> None:
    # Forked workers that share a preloaded generator would all draw the same numbers. The
    # random module looks after itself, NumPy's global generator does not.
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _run_exit_handlers() -> None:
    import atexit

    atexit._run_exitfuncs()

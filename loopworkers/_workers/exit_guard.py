"""Lets a program end cleanly while isolates live.

CPython destroys leftover subinterpreters while it finalises, and crashes when several are
busy (seen on 3.14 and 3.15). So all are stopped before, by an exit handler. One that cannot be
stopped, because C code in it holds its GIL, would make finalisation wait for ever: then this
handler runs what is left to run and leaves the process itself, with the exit code that the
program had earned.
"""

# Only loaded where isolates are, on 3.14 and newer; checkers read it for 3.11 as well.
# mypy: disable-error-code="attr-defined,import-not-found,unused-ignore,call-arg"
# pyright: reportAttributeAccessIssue=false, reportMissingImports=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportCallIssue=false

from __future__ import annotations

import atexit
import os
import signal
import sys
from _thread import get_ident
from contextlib import contextmanager
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

import _interpreters

from . import isolate_host

if TYPE_CHECKING:
    from collections.abc import Generator

    from .isolate import IsolateWorker

_SOFT_WAIT, _HARD_WAIT = 0.1, 1.0

_alive: dict[IsolateWorker, None] = {}
_installed = False
_lock = Lock()
_ends_in: int | None = None  # the thread in which the program has begun to end
_exit_code: int | None = None
_watching = False


def install() -> None:
    global _installed
    if not _installed:
        _installed = True
        atexit.register(_at_exit)


@contextmanager
def starting(worker: IsolateWorker) -> Generator[None, None, None]:
    """Around the start of a worker: the exit handler sees it whole or not at all.

    Daemon threads run on while the program ends, and their loops would start another isolate
    after all were stopped. What exit handlers start they also end.
    """
    with _lock:
        if _ends_in not in (None, get_ident()):
            raise RuntimeError("an isolate cannot be started any more: the program is ending")
        yield
        _alive[worker] = None


def discard(worker: IsolateWorker) -> None:
    _alive.pop(worker, None)


def stop_all(workers: list[IsolateWorker]) -> bool:
    """Stop these isolates without a loop, blocking for about a second at most."""
    for hard, wait in ((False, _SOFT_WAIT), (True, _HARD_WAIT)):
        for worker in workers:
            worker.order_stop(hard)
        deadline = monotonic() + wait
        workers = [w for w in workers if not w.wait_finished(max(0, deadline - monotonic()))]
        if not workers:
            return True
    written_off()
    return False


def _at_exit() -> None:
    global _ends_in
    with _lock:
        _ends_in = get_ident()
    isolate_host.retire()
    workers = list(_alive)
    if not workers:
        return
    if stop_all(workers):
        for worker in workers:
            worker.let_go()
        return
    if _interpreters.get_current() != _interpreters.get_main():
        # Not ours to end the process. To leave one behind would crash it, so this isolate is
        # stuck as well: the one that has started it writes it off.
        for worker in workers:
            worker.wait_finished(-1)
        return
    # The handlers registered before this one have not run yet; they are not run twice.
    atexit.unregister(_at_exit)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # closed or replaced by the program
            pass
    if _exit_code is None and isinstance(getattr(sys, "last_exc", None), KeyboardInterrupt):
        _die_of_interrupt()
    os._exit(_earned_exit_code())


def _die_of_interrupt() -> None:
    """As Python itself does it: a shell that runs the program then ends its script as well."""
    if sys.platform != "win32":
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)


def _earned_exit_code() -> int:
    if _exit_code is not None:
        return _exit_code
    return 1 if getattr(sys, "last_exc", None) is not None else 0


def written_off() -> None:
    """From now on remember with which code the program ends: at its exit nobody can ask."""
    global _watching
    if _watching:
        return
    monitoring = sys.monitoring
    tool = next((t for t in (4, 3, 5, 2, 1, 0) if monitoring.get_tool(t) is None), None)
    if tool is None:
        return
    _watching = True
    monitoring.use_tool_id(tool, "loopworkers")
    monitoring.register_callback(tool, monitoring.events.PY_UNWIND, _on_unwind)
    monitoring.set_events(tool, monitoring.events.PY_UNWIND)


def _on_unwind(code: Any, offset: int, error: BaseException) -> None:
    # A SystemExit that leaves the outermost frame of the program is its exit.
    global _exit_code
    if isinstance(error, SystemExit) and sys._getframe(1).f_back is None:
        given = error.code
        _exit_code = given & 0xFF if isinstance(given, int) else 0 if given is None else 1


def _forget() -> None:
    global _lock, _ends_in
    _lock, _ends_in = Lock(), None


os.register_at_fork(after_in_child=_forget)

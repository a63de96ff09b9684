"""Threads with an interpreter each, and the one that is kept ready for the next `Worker`.

To create an interpreter takes as long as to start a small program, and half of what a `Worker`
needs until its first message; to import what a worker is made of is the other half. A host does
both before it has any work. Workers that are waited for start in a spare one; pools, which start
their workers before they are needed, do without.
"""

# Only loaded where isolates are, on 3.14 and newer; checkers read it for 3.11 as well.
# mypy: disable-error-code="attr-defined,import-not-found,unused-ignore,call-arg"
# pyright: reportAttributeAccessIssue=false, reportMissingImports=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportCallIssue=false

from __future__ import annotations

import _thread
import os
import sys
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from .._wire.shield import shielded
from .thread import may_be_daemon

if TYPE_CHECKING:
    from collections.abc import Callable

_ROOT = str(Path(__file__).resolve().parents[2])
# By every `Worker` until it runs its function.
_NEEDED = (
    "loopworkers._child.resident",
    "loopworkers._ports.idle",
    "loopworkers._ports.port",
    "loopworkers._shared.buffer",
    "warnings",
)
_PREPARE = "import sys; sys.path[:] = {path!r}; from loopworkers._child.isolate import run"


class Host:
    """A thread that creates an interpreter, waits for work, runs it there and destroys it."""

    def __init__(self, modules: list[str]) -> None:
        boot = _PREPARE.format(path=[*sys.path, _ROOT])
        self._prepare = "\nimport ".join((boot, *modules))
        self._work: tuple[str, Callable[[str | None], None]] | None = None
        self._told = _thread.allocate_lock()
        self._told.acquire()
        self.has_failed = False
        self.native_id: int | None = None
        # Joined before the interpreter that it belongs to ends, which is not always the program's:
        # a thread that comes too late hangs for ever, with what it holds. At the end of a program
        # it must not be waited for before `exit_guard` has had its turn.
        self._thread = _thread.start_joinable_thread(self._run, daemon=may_be_daemon())

    def work(self, boot: str, at_end: Callable[[str | None], None]) -> None:
        """Run this and end; ``at_end`` is called on the host's thread, with what went wrong."""
        self._work = boot, at_end
        self._told.release()

    def dismiss(self) -> None:
        """End it without work; blocks for the milliseconds that this takes."""
        self._told.release()
        self._thread.join()

    def wait_ended(self, timeout: float) -> bool:
        self._thread.join(timeout)
        is_done: bool = self._thread.is_done()
        return is_done

    def _run(self) -> None:
        # In an isolate that is being stopped, this one must still be waited for and destroyed.
        thread = _thread.get_ident()
        shielded.add(thread)
        import _interpreters

        self.native_id = _thread.get_native_id()
        id: Any = None
        why = None
        try:
            try:
                id = _interpreters.create("isolated")
                why = _run_in(id, self._prepare)
            except Exception as error:
                why = f"could not be started: {error!r}"
            self.has_failed = why is not None
            self._told.acquire()
            if self._work is not None and why is None:
                why = _run_in(id, self._work[0])
            if id is not None:
                # Only here, after exec has returned and by the one thread that ran it: a run and a
                # destruction at the same time crash CPython (gh-127041).
                _interpreters.destroy(id)
        except Exception as error:
            why = f"could not be ended: {error!r}"
        finally:
            if self._work is not None:
                self._work[1](why)
            shielded.discard(thread)

    shielded.add(_run.__code__)  # for the instructions before it has shielded its thread


def _run_in(id: Any, code: str) -> str | None:
    """What was raised there, or None."""
    import _interpreters

    raised = _interpreters.exec(id, code)
    return None if raised is None else f"failed with {raised.formatted}"


_lock = Lock()
_users = 0
_spare: Host | None = None


def acquire() -> None:
    """Have a spare host made after each worker's start, until `release`."""
    global _users
    with _lock:
        _users += 1


def release() -> None:
    global _users
    with _lock:
        if _users:  # else another process's, which this one was forked from, or retired
            _users -= 1
        is_last = not _users
    if is_last:
        dismiss()


def retire() -> None:
    """Make no more for those who have it: the program ends."""
    global _users
    with _lock:
        _users = 0
    dismiss()


def take() -> Host:
    """The spare host if there is one, which may still be getting ready; else a new one."""
    global _spare
    with _lock:
        host, _spare = _spare, None
    if host is not None and host.has_failed:  # for want of descriptors or memory, at that time
        host.dismiss()
        host = None
    return host or Host([])


def refill(*, is_async: bool) -> None:
    """Make a spare host if there is none, now that a worker's start does not need the processors.

    What takes longer to import than all else, and as much memory again, it has only if the next
    worker is likely to need it.

    Args:
        is_async: whether the function of the worker that has just started is.
    """
    global _spare
    with _lock:
        if _users and _spare is None:
            modules = [*_NEEDED, "asyncio"] if is_async else [*_NEEDED]
            if "cloudpickle" in sys.modules:  # functions are sent by value here
                modules.append("cloudpickle")
            _spare = Host(modules)


def dismiss() -> None:
    global _spare
    with _lock:
        host, _spare = _spare, None
    if host is not None:
        host.dismiss()


def _forget() -> None:
    global _lock, _users, _spare
    _lock, _users, _spare = Lock(), 0, None


# CPython crashes in a child that is forked beside an interpreter with a thread of its own
# (seen on 3.14 and 3.15): not for one that nobody uses.
os.register_at_fork(before=dismiss, after_in_child=_forget)

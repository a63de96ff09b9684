"""Stops what runs in an isolate, from a thread inside of it that waits for the order.

CPython has no way to end a subinterpreter from outside, but `sys.monitoring` is per
interpreter and takes effect in code that is running. Two stages:

1. The next event in the worker's thread raises `Terminated` once: ``finally`` blocks and
   context managers run, the isolate ends as by any uncaught exception.
2. Every event raises it, in every thread but this one, so that no handler that swallows it
   can execute one instruction. It ends when the worker's thread is back in the outermost
   frame, which is ours and has an isolate to tidy up.

Neither reaches C code that does not return to the interpreter, nor a blocking system call.
"""

# Only loaded where isolates are, on 3.14 and newer; checkers read it for 3.11 as well.
# mypy: disable-error-code="attr-defined,import-not-found,unused-ignore,call-arg"
# pyright: reportAttributeAccessIssue=false, reportMissingImports=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportCallIssue=false

from __future__ import annotations

import _socket
import _thread
import sys
from _thread import get_ident

from .._ports import waiting
from .._wire.shield import shielded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any

SOFT, HARD = b"1", b"2"


class Terminated(BaseException):
    """The isolate was told to stop."""


def _without_terminated(unraisable: Any) -> None:
    # It can hit a finalizer, which swallows it and would tell of it.
    if unraisable.exc_type is not Terminated:
        sys.__unraisablehook__(unraisable)


def _ignore_unawaited() -> None:
    """The exception may hit between the making of a coroutine and its first step."""
    warnings = sys.modules.get("warnings")
    try:
        if warnings is not None:
            warnings.simplefilter("ignore", RuntimeWarning)
    except (AttributeError, NameError):
        pass  # the worker's thread is just importing it, and has made no coroutine so far


class Stopper:
    """Waits for orders in a thread of its own until `finish`.

    Args:
        control: the descriptor of the socket that orders come from; stays the host's.
        outermost: the code of the frame that calls `finish` when all else is unwound. Nothing is
            raised in that frame itself, nor, once it has set ``unwound``, in what it calls: an
            isolate that is destroyed without `finish` crashes the program.
    """

    def __init__(self, control: int, outermost: CodeType) -> None:
        self._control = _socket.socket(fileno=_socket.dup(control))
        self._outermost = outermost
        self._worker = get_ident()
        self.stopping = False
        self.unwound = False
        # Wakes what waits for ports and locks, which then runs into what the stages raise.
        self._bell, self._alarm = _socket.socketpair()
        waiting.alarm = self._alarm.fileno()
        # Taken before any user code runs, so that a debugger or profiler cannot be in the way.
        monitoring = sys.monitoring
        self._tool = next(tool for tool in (4, 3, 5, 2, 1, 0) if monitoring.get_tool(tool) is None)
        monitoring.use_tool_id(self._tool, "loopworkers")
        # Not in 3.11 and 3.12, where this module is imported too: its orders are the host's.
        from _thread import start_joinable_thread

        # Joined before the isolate is destroyed: doing that beside an ending thread crashes.
        self._thread = start_joinable_thread(self._wait, daemon=False)

    def _wait(self) -> None:
        while (order := self._control.recv(1)) in (SOFT, HARD):
            self.stopping = True
            if self.unwound:
                self.tell_unwound()
            if order == SOFT:
                sys.unraisablehook = _without_terminated
                _ignore_unawaited()
                self._raise(self._once())
            else:
                # Finalizers are killed as well, and would print that they were.
                sys.unraisablehook = id
                sys.excepthook = id  # type: ignore[assignment]
                self._raise(self._always())
            self._bell.close()

    def _raise(self, callback: Callable[..., None]) -> None:
        monitoring, tool = sys.monitoring, self._tool
        events = monitoring.events
        wanted = (events.LINE, events.JUMP, events.PY_START, events.PY_RESUME, events.INSTRUCTION)
        # Stage 1 may still be waiting for its event: the two must not mix.
        monitoring.set_events(tool, 0)
        for event in wanted:
            monitoring.register_callback(tool, event, callback)
        monitoring.set_events(tool, sum(wanted))

    def _once(self) -> Callable[..., None]:
        set_events, tool, worker, outermost, error = (
            sys.monitoring.set_events,
            self._tool,
            self._worker,
            self._outermost,
            Terminated,
        )

        def raise_once(code: CodeType, *_: Any) -> None:
            if get_ident() != worker or code is outermost or self.unwound:
                return
            if worker in shielded or code in shielded:
                return
            set_events(tool, 0)
            raise error

        return raise_once

    def _always(self) -> Callable[..., None]:
        worker, this, outermost, error = (
            self._worker,
            self._thread.ident,
            self._outermost,
            Terminated,
        )

        def raise_always(code: CodeType, *_: Any) -> None:
            thread = get_ident()
            if thread == this or thread in shielded or code in shielded:
                return
            if thread == worker and (code is outermost or self.unwound):
                return
            raise error

        return raise_always

    def tell_unwound(self) -> None:
        """Tell the host that nothing needs to be stopped any more, only to be tidied up."""
        try:
            self._control.send(b"u")
        except OSError:
            pass  # the host waits for the end alone

    def stop_other_threads(self) -> None:
        """Stop what a stopped call has left running; destroying the isolate would wait for it."""
        if _thread._count() > 1:  # more than the one that waits for orders
            sys.excepthook = id  # type: ignore[assignment]
            self._raise(self._always())

    def finish(self) -> None:
        """End the waiting thread."""
        try:
            self._control.shutdown(_socket.SHUT_RD)
        except OSError:
            pass  # the host's side is closed already: the thread has seen its end
        self._thread.join()
        for end in (self._control, self._bell, self._alarm):
            end.close()

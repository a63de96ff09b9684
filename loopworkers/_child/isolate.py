"""The inside of an isolate, from the first import to the last exit handler."""

# Only loaded where isolates are, on 3.14 and newer; checkers read it for 3.11 as well.
# mypy: disable-error-code="attr-defined,import-not-found,unused-ignore,call-arg"
# pyright: reportAttributeAccessIssue=false, reportMissingImports=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportCallIssue=false

from __future__ import annotations

import _socket
import gc
import sys
from _thread import get_ident
from itertools import compress
from types import CoroutineType, GeneratorType

from .._wire.shield import shielded
from .._wire.slab import Slab
from .link import Link
from .serve import serve
from .setup import Setup
from .stop import Stopper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


_SUSPENDED = frozenset((CoroutineType, GeneratorType))


def run(calls: int, replies: int, control: int, slab: int | None, lent_queue: int) -> None:
    """Be a worker on these descriptors; raises only what the system has refused to it."""
    stopper = Stopper(control, run.__code__)
    refused: OSError | None = None
    try:
        _work(calls, replies, slab, lent_queue)
        _wait_for_threads()
    except OSError as error:  # no descriptor was left, for example
        refused = error
    except BaseException:  # told to stop; the loop has answered for it
        pass
    if stopper.stopping:
        # Destroying what is suspended resumes it, and it may go on for ever. Here that is stopped.
        # Found by C code alone: each instruction here costs a call of what may have to stop it.
        each: Any = None
        everything = gc.get_objects()
        for each in compress(everything, map(_SUSPENDED.__contains__, map(type, everything))):
            try:
                each.close()
            except BaseException:
                pass
        del each, everything
    stopper.unwound = True
    if stopper.stopping:
        stopper.tell_unwound()
    # Among them is the one that ends the isolates which this one has started: before their threads
    # are waited for.
    atexit = sys.modules.get("atexit")
    if atexit is not None:
        atexit._run_exitfuncs()
    if stopper.stopping:
        stopper.stop_other_threads()
    stopper.finish()
    if refused is not None and not stopper.stopping:
        raise refused


def _work(calls: int, replies: int, slab: int | None, lent_queue: int) -> None:
    # The descriptors belong to the host. Objects close their own copies even when all code is
    # being stopped; a bare descriptor would be lost.
    thread = get_ident()
    shielded.add(thread)
    try:
        calls_end, replies_end = sockets = [
            _socket.socket(fileno=_socket.dup(fd)) for fd in (calls, replies)
        ]
    finally:
        shielded.discard(thread)
    try:
        shared = None if slab is None else Slab(slab)
        link = Link(calls_end, replies_end, shared, _receiver(lent_queue))
        serve(link, Setup(own_folder=False, own_streams=True))
    finally:
        for end in sockets:
            end.close()


def _wait_for_threads() -> None:
    # As the end of a program does, and that of the isolate would: but here it can be stopped.
    threading = sys.modules.get("threading")
    if threading is not None:
        # Whichever of the two stands for this thread, depending on who imported threading.
        this = (threading.main_thread(), threading.current_thread())
        for thread in threading.enumerate():
            if thread not in this and not thread.daemon:
                thread.join()


def _receiver(queue: int) -> Callable[[], Sequence[memoryview]]:
    def receive() -> Sequence[memoryview]:
        import _interpqueues

        views: Sequence[memoryview] = _interpqueues.get(queue)[0]
        return views

    return receive

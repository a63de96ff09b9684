"""The worker's side of a `Worker`: what it is told about itself, and the one call that it runs."""

from __future__ import annotations

import os
import sys
from _contextvars import ContextVar
from _io import BufferedWriter, FileIO, TextIOWrapper

from .._ports import waiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .._ports.port import MessagePort
    from .._shared.buffer import SharedBuffer


class CurrentWorker:
    """What `current_worker` gives.

    Attributes:
        id: the worker's number, as `Worker.id`.
        name: its name.
        kind: "process", "isolate" or "thread".
        port: its port to the program that started it.
    """

    def __init__(self, id: int, name: str, kind: str) -> None:
        self.id = id
        self.name = name
        self.kind = kind
        self.port: MessagePort
        self.post: MessagePort
        self.handler: Callable[[Any, int], Any] | None = None  # of requests, called in a thread

    def __repr__(self) -> str:
        return f"<CurrentWorker {self.id} {self.name!r}, {self.kind}>"


_current: CurrentWorker | None = None  # of this process or isolate
_of_thread: ContextVar[CurrentWorker | None] = ContextVar("loopworkers_worker", default=None)


def current_worker() -> CurrentWorker | None:
    """The `Worker` in which this runs; None in the main program, and in the calls of pools."""
    return _of_thread.get() or _current


def post_to_parent() -> MessagePort | None:
    """In a `Worker`: the port to its parent's hub."""
    worker = current_worker()
    return None if worker is None else worker.post


# --- at its start ---------------------------------------------------------------------------


def introduce(identity: dict[str, Any]) -> None:
    """In a process or an isolate, before anything of the user's runs."""
    global _current
    _current = CurrentWorker(identity["id"], identity["name"], identity["kind"])
    _show_name(identity["name"], identity["kind"])
    sys.argv[1:] = identity["argv"]
    waiting.may_spin = True
    _limit(identity["limits"])
    if identity["env"] is not None:
        # An isolate's os.environ would write through to the environment of the process, where the
        # next one would find it, and two that write at once can crash.
        os.putenv = os.unsetenv = _do_nothing
        os.environ.clear()
        os.environ.update(identity["env"])
    for name, fd in identity["streams"].items():
        # An isolate shares the descriptors of its process, and gets a stream of its own.
        file = FileIO(os.dup(fd), "w")
        stream = TextIOWrapper(BufferedWriter(file), "utf-8", "backslashreplace", None, True)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _show_name(name: str, kind: str) -> None:
    task = "self" if kind == "process" else "thread-self"
    try:
        with open(f"/proc/{task}/comm", "wb", buffering=0) as comm:
            comm.write(name.encode()[:15])  # what Linux keeps of a name
    except OSError:
        pass  # a name is worth no failure, and other systems have no such file


def _limit(limits: dict[str, int]) -> None:
    if limits:
        import resource

        for name, value in limits.items():
            # SIGXCPU comes at the soft limit, and SIGKILL for who ignores that at the hard one.
            hard = value + 1 if name == "RLIMIT_CPU" else value
            resource.setrlimit(getattr(resource, name), (value, hard))


def _do_nothing(*_: Any) -> None: ...


# --- the call -------------------------------------------------------------------------------


def run(
    target: Callable[..., Any],
    port: MessagePort,
    post: MessagePort,
    args: tuple[Any, ...],
    clock: SharedBuffer,
    thread: tuple[int, str] | None,
) -> Any:
    """Run ``target(port, *args)`` and close the port.

    After an exception the port is left to the worker's end: it must not be seen to be closed before
    the exception has been told.
    """
    from .._ports.idle import IdleClock
    from .reports import begun

    current = _current
    if thread is not None:
        current = CurrentWorker(*thread, "thread")
        _of_thread.set(current)
    assert current is not None
    current.port, current.post = port, post
    waiting.here.clock = idle = IdleClock(clock)
    begun()
    idle.online()
    try:
        result = target(port, *args)
    except BaseException:
        post.close()  # ends the thread that answers requests, if there is one
        raise
    if hasattr(result, "__await__"):
        return _finish(result, port, post)
    post.close()
    port.close()
    return None


async def _finish(coroutine: Any, port: MessagePort, post: MessagePort) -> None:
    try:
        await coroutine
    finally:
        post.close()
    port.close()

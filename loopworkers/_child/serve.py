"""The loop of a worker: receive a packet, run what it asks for, answer; one call at a time.

The same for a process, an isolate and a thread.
"""

from __future__ import annotations

from time import perf_counter

from .._wire.frames import (
    CALL,
    DEFINE,
    ERROR,
    EXIT,
    EXITING,
    FORGET,
    PART,
    READY,
    RESULT,
    RETIRE,
    SETUP,
    SETUP_FAILED,
    STREAM,
    Frame,
)
from .reports import Report, reporting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .link import Link
    from .setup import Setup


async def _coroutine() -> None: ...


_made = _coroutine()
COROUTINE: type[Any] = type(_made)
_made.close()


class _Exit(BaseException):
    """The call asked to end this worker."""

    def __init__(self, code: int) -> None:
        self.code = code


def serve(link: Link, setup: Setup) -> int:
    """Work until the loop's side says EXIT or is gone; the worker's exit code."""
    server = _Server(link, setup)
    try:
        while True:
            for frame in link.receive():
                kind = frame.kind
                if kind == CALL:
                    server.call(frame)
                elif kind == DEFINE:
                    link.define(frame)
                elif kind == PART:
                    link.take_part(frame)
                elif kind == SETUP:
                    if not server.set_up(frame):
                        return 1
                elif kind == FORGET:
                    link.forget(frame)
                elif kind == EXIT:
                    return 0
                # GRANT and CLOSE may come late, when their stream has ended already.
    except EOFError:
        return 0
    except BrokenPipeError:  # the loop's side went while an answer was on its way
        return 0
    except _Exit as exit:
        return exit.code
    finally:
        server.close()


class _Server:
    def __init__(self, link: Link, setup: Setup) -> None:
        self._link = link
        self._setup = setup
        self._runner: Any = None

    def set_up(self, frame: Frame) -> bool:
        first = not self._setup.done
        try:
            self._setup.apply(self._link, self._link.settings(frame))
        except BaseException as error:
            self._link.send_failure(SETUP_FAILED, 0, error)
            return False
        if first:
            self._link.send(READY)
        return True

    def call(self, frame: Frame) -> None:
        # Everything the call touched dies with this frame, before the worker waits again.
        link, id, flags = self._link, frame.id, frame.flags
        started = perf_counter()
        report = Report(link, id)
        try:
            function, args, kwargs, context = link.call(frame)
            if flags & STREAM:
                from .streams import send_items

                context.run(reporting, report, send_items, self, frame, function, args, kwargs)
                value = None
            else:
                value = context.run(reporting, report, function, *args, **kwargs)
                if type(value) is COROUTINE:
                    value = self.run_coroutine(value, context)
        except SystemExit as exit:
            self._exit(id, exit)
        except BaseException as error:
            report.finish()
            self._setup.flush()
            link.send_failure(ERROR, id, error, micros_since(started))
        else:
            report.finish()
            self._setup.flush()
            if self._setup.is_over_memory_limit():
                flags |= RETIRE
            try:
                link.send_value(RESULT, id, value, micros_since(started), flags)
            except SystemExit as exit:
                self._exit(id, exit)
            except (EOFError, BrokenPipeError):
                raise
            except BaseException as error:
                link.send_failure(ERROR, id, not_transferable(value, error), micros_since(started))

    def run_coroutine(self, coroutine: Any, context: Any) -> Any:
        if self._runner is None:
            import asyncio

            from .._ports.idle import new_loop

            self._runner = asyncio.Runner(loop_factory=new_loop)
        return self._runner.run(coroutine, context=context)

    def _exit(self, id: int, exit: SystemExit) -> None:
        from .link import Torn

        code = exit.code if isinstance(exit.code, int) else 0 if exit.code is None else 1
        self._setup.flush()
        try:
            self._link.send_failure(EXITING, id, exit, code & 0xFF)
        except Torn:
            pass  # it was interrupted by this very exit, whose code tells enough
        raise _Exit(code) from None

    def close(self) -> None:
        if self._runner is not None:
            self._runner.close()
        self._setup.flush()


def micros_since(started: float) -> int:
    return min(int((perf_counter() - started) * 1e6), 0xFFFFFFFF)


def not_transferable(value: Any, error: BaseException) -> BaseException:
    from .._wire.values import find_culprit
    from ..errors import NotTransferable

    try:
        path = find_culprit(value, "result")
    except Exception:  # looking into broken objects can fail as their pickling did
        path = f"result ({type(value).__qualname__})"
    wrapped = NotTransferable(
        f"the call returned a value that cannot be pickled: {path}: {error!r}"
    )
    wrapped.__cause__ = error
    return wrapped

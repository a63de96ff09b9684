"""One call in an engine's worker: bytes in, bytes out. The worker itself is the engine's."""

from __future__ import annotations

from _contextvars import copy_context
from _struct import Struct
from time import perf_counter

from .._wire.context import restore
from .._wire.frames import ERROR, RESULT, Frame
from .._wire.values import decode, encode
from .link import import_target
from .reports import Report, reporting
from .serve import COROUTINE, micros_since, not_transferable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextvars import Context
    from typing import Any, Protocol

    from .._wire.values import Encoded

    class Reporter(Protocol):
        """How a body reaches who called it; methods are called in the thread of the body."""

        def send(self, progress: bytes) -> None:
            """Pass this on to `Job.tell_progress`; must not raise."""

        def is_stopped(self) -> bool:
            """Whether `Engine.stop` was called: the body's next report then raises CallStopped."""
            ...


# kind, flags, microseconds, bytes of the last progress
_ANSWER = Struct("<BBII")


def pack_job(call: Encoded) -> bytes:
    return b"".join([bytes((call.flags,)), *call.chunks])


def run_job(body: bytes, reporter: Reporter | None = None) -> bytes:
    """Run a call in a worker of an engine, and return its answer; what it raises is in there.

    Args:
        body: that of a `Job`.
        reporter: where the engine can report progress.
    """
    report = _JobReport(reporter)
    started = perf_counter()
    try:
        call = memoryview(body)
        target, args, kwargs, pairs = decode(call[1:], call[0])
        function = import_target(target) if type(target) is str else target
        # A copy: the engine may have things of its own there.
        context = restore(pairs or [], copy_context())
        value = context.run(reporting, report, function, *args, **kwargs)
        if type(value) is COROUTINE:
            value = _run_coroutine(value, context)
        chunks, flags = _encode_value(value)
        kind = RESULT
    # SystemExit as well: it means the call, not the worker, which others have calls on.
    except BaseException as error:
        from .._wire.failures import encode_failure

        kind, flags, chunks = ERROR, 0, [encode_failure(error, skip_frames=2)]
    last = report.last()
    return b"".join([_ANSWER.pack(kind, flags, micros_since(started), len(last)), last, *chunks])


def _run_coroutine(coroutine: Any, context: Context) -> Any:
    import asyncio

    with asyncio.Runner() as runner:
        return runner.run(coroutine, context=context)


def _encode_value(value: Any) -> tuple[Sequence[Any], int]:
    try:
        encoded = encode(value)
        if encoded.handles is not None:
            raise TypeError("ports, sockets and shared memory cannot leave their machine")
    except Exception as error:
        raise not_transferable(value, error) from error
    return encoded.chunks, encoded.flags


def unpack_answer(answer: bytes) -> tuple[Frame, bytes]:
    """What `run_job` returned: a RESULT or ERROR, and the last progress if there was any."""
    kind, flags, micros, size = _ANSWER.unpack_from(answer)
    start = _ANSWER.size + size
    payload: Any = memoryview(answer)[start:]
    return Frame((kind, flags, micros, 0, payload)), answer[_ANSWER.size : start]  # type: ignore[call-arg, arg-type]


class _JobReport(Report):
    """The progress of a job. The last one travels with the answer as well, which it may not
    overtake: it is known in any case when the call ends."""

    _sent = b""

    def __init__(self, reporter: Reporter | None) -> None:
        super().__init__(self, 0)
        self._reporter = reporter

    def progress(self, done: float, total: float | None, message: str | None) -> None:
        if self._reporter is not None and self._reporter.is_stopped():
            from ..errors import CallStopped

            raise CallStopped("the caller has given this call up")
        super().progress(done, total, message)

    def send(self, kind: int, id: int, progress: bytes) -> None:
        self._sent = progress
        if self._reporter is not None:
            self._reporter.send(progress)

    def last(self) -> bytes:
        return self._held or self._sent

"""Every error that loopworkers raises, in one tree.

    LoopworkersError
    ├── WorkerDied            the worker ended while it ran the call
    ├── WorkerStuck           an isolate or thread would not stop and was written off
    ├── CallTimeout           (also TimeoutError) the call's ``timeout`` passed
    ├── PoolFull              ``max_pending`` calls are already waiting
    ├── PoolClosed            the pool was closed, or belongs to another loop or process
    ├── PortClosed            the other end of a port is gone
    ├── ClusterFailed         a worker of a cluster could not be started
    ├── EngineFailed          an engine could not be reached, or does not fit this program
    ├── EngineUnsupported     (also ValueError) an option that the engine cannot honour
    ├── CallStopped           raised in a body whose caller has given it up, by report_progress
    ├── RequestError          a request got no answer
    │   ├── UnknownWorker     there is no worker with that id
    │   ├── RequestToSelf     a worker asked itself
    │   ├── NoHandler         the worker answers no requests
    │   ├── HandlerFailed     the handler raised; what it raised is the cause
    │   └── RequestTimeout    (also TimeoutError) the answer did not come in time
    ├── NotTransferable       (also TypeError) a value cannot travel to or from a worker
    ├── RemoteError           the worker raised something that cannot be raised here as itself
    └── IsolateUnsupported    (also ImportError) a module or this Python cannot run in an isolate

An exception raised by your function is not in this tree: it arrives as itself, with the
worker's traceback at the end of its chain of causes (see `RemoteTraceback`).
"""

from __future__ import annotations

__all__ = [
    "CallStopped",
    "CallTimeout",
    "ClusterFailed",
    "EngineFailed",
    "EngineUnsupported",
    "HandlerFailed",
    "IsolateUnsupported",
    "LoopworkersError",
    "NoHandler",
    "NotTransferable",
    "PoolClosed",
    "PoolFull",
    "PortClosed",
    "RemoteError",
    "RemoteTraceback",
    "RequestError",
    "RequestTimeout",
    "RequestToSelf",
    "UnknownWorker",
    "WorkerDied",
    "WorkerStuck",
]


class LoopworkersError(Exception):
    """Base of all errors that the library itself raises."""


class WorkerDied(LoopworkersError):
    """A worker ended while it ran a call; only that call fails.

    Attributes:
        call: the name of the call that was running.
        exitcode: the worker's exit code, or None when a signal ended it or it is unknown.
        signal: the number of the signal that ended it, or None.
        ran_for: seconds between handing the call to the worker and its death.
    """

    def __init__(
        self,
        call: str,
        *,
        kind: str = "process",
        exitcode: int | None = None,
        signal: int | None = None,
        ran_for: float = 0.0,
        reason: str | None = None,
    ) -> None:
        self.call = call
        self.kind = kind
        self.exitcode = exitcode
        self.signal = signal
        self.ran_for = ran_for
        self.reason = reason
        super().__init__(call)

    def __str__(self) -> str:
        if self.reason is not None:
            how = self.reason
        elif self.signal is not None:
            how = f"was killed by {_signal_name(self.signal)}"
        elif self.exitcode is not None:
            how = f"ended with exit code {self.exitcode}"
        else:
            how = "ended for an unknown reason"
        if not self.ran_for:
            return f"the {self.kind} worker for {self.call} {how}; the call had not begun"
        # A reason comes from what only knows what a worker was given, not what it has begun.
        when = (
            f" while it ran {self.call} (for {self.ran_for:.3f} s)"
            if self.reason is None
            else f", {self.ran_for:.3f} s after it was given {self.call}"
        )
        return (
            f"the {self.kind} worker {how}{when}; the call was not repeated, "
            "pass retries= to run it again on another worker"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(
    cls: type[BaseException], args: tuple[object, ...], state: dict[str, object]
) -> BaseException:
    # WorkerDied takes keywords, which the default reduction of exceptions would lose.
    error = cls.__new__(cls, *args)
    error.__dict__.update(state)
    return error


def _signal_name(number: int) -> str:
    import signal as _signal  # with all of enum, which a worker should not have to load

    try:
        return f"{_signal.Signals(number).name} (signal {number})"
    except ValueError:
        return f"signal {number}"


class WorkerStuck(LoopworkersError):
    """An isolate or a thread did not stop when asked, and was written off.

    Its memory and its thread are lost until the program ends; a new worker took its place,
    and `PoolStats.stuck` counts it. Use ``kind="process"`` where a certain stop is needed.
    """


class CallTimeout(LoopworkersError, TimeoutError):
    """A call did not finish within its ``timeout`` (seconds, counted from the call)."""


class PoolFull(LoopworkersError):
    """``max_pending`` calls were waiting; nothing of the new call was pickled or queued."""


class PoolClosed(LoopworkersError):
    """The pool takes no calls: it was closed, or it belongs to another loop or process."""


class PortClosed(LoopworkersError):
    """The port, or the worker at its other end, is closed."""


class ClusterFailed(LoopworkersError):
    """A worker of a `Cluster` could not be started; ``__cause__`` is what it raised, if it did."""


class EngineFailed(LoopworkersError):
    """An engine could not be reached, or what is installed there does not fit this program."""


class EngineUnsupported(LoopworkersError, ValueError):
    """An option, or a kind of call, that the engine of the pool cannot honour; nothing was run."""


class CallStopped(LoopworkersError):
    """Raised by `report_progress` in a body that an engine cannot end, once its call is cancelled
    or has timed out. Let it pass: nobody waits for a result.
    """


class RequestError(LoopworkersError):
    """A `request` got no answer; raised itself when the worker ended before it answered."""


class UnknownWorker(RequestError):
    """No worker of the program has that id, or it has ended."""


class RequestToSelf(RequestError):
    """A worker, or the program, asked itself: call the function instead."""


class NoHandler(RequestError):
    """The worker has not called `on_request`."""


class HandlerFailed(RequestError):
    """The handler raised; its exception is the ``__cause__``."""


class RequestTimeout(RequestError, TimeoutError):
    """The answer did not come within the request's ``timeout``."""


class NotTransferable(LoopworkersError, TypeError):
    """A value could not be sent; the message names the path to the culprit inside it."""


class RemoteError(LoopworkersError):
    """Stands for an exception of the worker's that cannot be raised here as itself.

    Either it could not be pickled or rebuilt, or raising it here would mean something else
    (a ``CancelledError``, for example, would cancel the caller).

    Attributes:
        type_name: qualified name of the original type.
        traceback_text: the worker's formatted traceback.
    """

    def __init__(self, type_name: str, message: str, traceback_text: str = "") -> None:
        self.type_name = type_name
        self.traceback_text = traceback_text
        super().__init__(type_name, message, traceback_text)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


class IsolateUnsupported(LoopworkersError, ImportError):
    """A module refuses to load in an isolate, or this Python has no isolates (3.14+ has).

    The ``name`` attribute holds the module's name, or None when the Python is too old.
    """


class RemoteTraceback(Exception):
    """Last in the chain of causes of an exception that came from a worker.

    Printing the exception prints this first: the traceback as the worker saw it.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(text)

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'
